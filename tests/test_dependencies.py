"""What pyproject.toml takes and refuses, and the tested versions in constraints.txt."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, distribution, distributions
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {"": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}
PYTHONS = ("3.11", "3.12", "3.13")
LINES = (ROOT / "constraints.txt").read_text().splitlines()
PINS = [line for line in LINES if not line.startswith("#")]
LOCKED = {
    canonicalize_name(pin.partition("==")[0]): Version(pin.partition("==")[2]) for pin in PINS
}


@pytest.mark.parametrize(("extra", "newer"), [("cuda", "2.11.0"), ("cuda12", "2.10.0")])
def test_no_cuda_extra_takes_torch_2_9(extra, newer):
    """Its bfloat16 3-D convolutions are wrong with its cuDNN."""
    requirements = map(Requirement, EXTRAS[extra])
    (torch,) = (one.specifier for one in requirements if one.name == "torch")
    assert not any(torch.contains(version) for version in ("2.9.0", "2.9.1"))
    assert torch.contains(newer)


def test_the_lock_states_one_version_per_package_and_nothing_of_the_machine_that_made_it():
    assert [pin for pin in PINS if not re.fullmatch(r"[A-Za-z0-9][\w.-]*==[\w.!]+", pin)] == []
    assert len(LOCKED) == len(PINS) > 300
    assert "overtile" not in LOCKED


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_lock_has_every_requirement_within_its_bounds(extra):
    """docs/developing.md explains the exception."""
    for one in map(Requirement, EXTRAS[extra]):
        pinned = LOCKED[canonicalize_name(one.name)]
        if (extra, one.name) != ("cuda12", "torch"):
            assert one.specifier.contains(pinned, prereleases=True), f"{one}: {pinned} is locked"


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_has_all_that_its_packages_require(python):
    version = {"python_version": python, "python_full_version": f"{python}.9"}
    left = [Requirement(text) for name in EXTRAS if "cuda" not in name for text in EXTRAS[name]]
    seen = set()
    while left:
        one = left.pop()
        for extra in ("", *one.extras):
            key = (canonicalize_name(one.name), extra)
            if key in seen:
                continue
            seen.add(key)
            assert key[0] in LOCKED, f"{one} is required and not locked"
            environment = {**default_environment(), **version, "extra": extra}
            left += [
                needed
                for needed in map(Requirement, requires(key[0]))
                if needed.marker is None or needed.marker.evaluate(environment)
            ]
    assert len({name for name, _ in seen}) > 250


OF_CUDA = re.compile(r"nvidia-|cuda-|triton\b")
"""What torch's build for CUDA requires, with the versions that it states itself."""


def requires(name):
    """Return the requirements of a package, none where it is not installed with this Python."""
    try:
        found = distribution(name).requires or ()
    except PackageNotFoundError:
        return ()
    return [one for one in found if name != "torch" or not OF_CUDA.match(one)]


def test_every_locked_version_accepts_every_supported_python():
    for one in locked_and_installed():
        accepted = SpecifierSet(one.metadata.get("Requires-Python") or "")
        refused = [python for python in PYTHONS if not accepted.contains(f"{python}.9")]
        assert refused == [], f"{one.name} {one.version}: {accepted}"


def test_the_tests_run_with_the_versions_of_the_lock():
    """Deselected by `make newest`. If it fails: make test, or make lock once the tests pass."""
    versions = {canonicalize_name(one.name): Version(one.version) for one in locked_and_installed()}
    other = {
        name: (str(version), str(LOCKED[name]))
        for name, version in versions.items()
        if version.public != LOCKED[name].public
    }
    assert other == {}, "installed, locked"
    assert len(versions) > 250


def locked_and_installed():
    return [one for one in distributions() if canonicalize_name(one.name) in LOCKED]


def test_all_that_installs_overtile_uses_the_lock():
    files = (
        ROOT / "Makefile",
        ROOT / "Dockerfile",
        ROOT / "README.md",
        *(ROOT / "docs").glob("*.md"),
    )
    installing = [
        (file.name, line)
        for file in files
        for line in file.read_text().splitlines()
        if re.search(r"(pip|INSTALL\)) .*( \.`|[\"']\.\[)", line)
    ]
    assert {"Makefile", "Dockerfile", "README.md", "look.md"} <= {name for name, _ in installing}
    pinned = re.compile(r"\$\(INSTALL\) |pip install -c (constraints|cuda12)\.txt ")
    assert [line for line in installing if not pinned.search(line[1])] == []
