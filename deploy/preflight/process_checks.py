"""Checks of every process of a cluster: the same versions, and overtile's own four packages.

pip lets another distribution with a package ``deploy`` overwrite ours, and a folder ``pipeline/``
in a job's working directory takes precedence over the installed package.
"""

from __future__ import annotations

import os
import platform
import socket
import sys
from collections.abc import Iterator, Mapping
from functools import cache, partial
from importlib.metadata import Distribution, PackageNotFoundError, distributions, version
from importlib.util import find_spec
from pathlib import Path

from .findings import Answers, Check, Finding, failures, grouped, named

DISTRIBUTION = "overtile"
PACKAGES = ("pipeline", "unet", "flows", "deploy")
VERSIONS_OF = (DISTRIBUTION, "dask", "distributed", "zarr", "numpy", "torch")
EXACT = ("overtile", "dask", "distributed")
"""Must be exactly the same; others may differ in the third number, with a warning."""
ABSENT = "not installed"


def process_checks() -> tuple[Check, ...]:
    """Return the checks for every run."""
    here = installed_versions()
    return (
        Check(
            name="versions", ask=installed_versions, judge=partial(version_findings, here),
            of_scheduler=True,
        ),
        Check(
            name="packages", ask=partial(package_complaint, installation()),
            judge=partial(package_findings, package_complaint(None)), of_scheduler=True,
        ),
    )  # fmt: skip


def installed_versions() -> dict[str, str]:
    """Return the versions that must match, without importing the packages."""
    found = {"python": platform.python_version()}
    for name in VERSIONS_OF:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = ABSENT
    return found


def version_findings(here: Mapping[str, str], answers: Answers) -> Iterator[Finding]:
    """Yield differences from our versions: an error if a run could fail because of them."""
    errors: dict[str, str] = {}
    warnings: dict[str, str] = {}
    for process, versions in answers.items():
        if process in failures(answers):
            errors[process] = f"cannot report its versions ({versions.text})"
            continue
        for name, ours in here.items():
            theirs = versions.get(name, ABSENT)
            if not _matters(name, ours, theirs, of_scheduler=not process.startswith("worker")):
                continue
            text = f"has {name} {theirs}, this machine {ours}"
            (errors if _is_other(name, ours, theirs) else warnings).setdefault(process, text)
    for difference, workers in grouped(errors):
        yield Finding(
            level="error", check="versions",
            text=f"{named(workers)} {difference}: install the same version, or run from there",
        )  # fmt: skip
    for difference, workers in grouped(warnings):
        yield Finding(
            level="warning", check="versions",
            text=f"{named(workers)} {difference}: install the same version to be safe",
        )  # fmt: skip
    if not errors and not warnings:
        versions = ", ".join(f"{name} {number}" for name, number in here.items())
        yield Finding(level="fine", check="versions", text=f"the same everywhere: {versions}")


def _matters(name: str, ours: str, theirs: str, *, of_scheduler: bool) -> bool:
    """Return whether a difference between two versions matters at all."""
    if of_scheduler and theirs == ABSENT and name in ("torch", "zarr", "numpy"):
        return False  # it computes nothing
    return _public(ours) != _public(theirs)


def _is_other(name: str, ours: str, theirs: str) -> bool:
    """Return whether versions differ in more than the third number."""
    parts = 3 if name in EXACT else 2
    return ABSENT in (ours, theirs) or _parts(ours)[:parts] != _parts(theirs)[:parts]


def _public(number: str) -> str:
    """Return a version without its build: ``2.13.0+cu130`` computes like ``2.13.0+cpu``."""
    return number.partition("+")[0]


def _parts(number: str) -> list[str]:
    return _public(number).split(".", 2)


def installation() -> tuple[str, ...]:
    """Return an identifier of this installation of overtile."""
    more = os.environ.get("PYTHONPATH", "")
    return socket.gethostname(), sys.prefix, more, str(_our_folder())


def package_complaint(asking: tuple[str, ...] | None) -> str:
    """Return the problem with the four packages in this process; an empty text if there is none.

    asking: the installation of the client. If it is this one, the client has made the second check.
    """
    for name in PACKAGES:
        spec = find_spec(name)
        origin = Path(spec.origin).parent if spec is not None and spec.origin else None
        if origin is None or origin.resolve() != (_our_folder() / name).resolve():
            return (
                f"imports the package {name!r} from {origin or 'a folder without code'}, not from "
                "overtile: remove that from its PYTHONPATH, start it in another folder, or set "
                "PYTHONSAFEPATH=1"
            )
    return "" if installation() == asking else _other_owner()


@cache
def _other_owner() -> str:
    """Return the problem if another distribution has installed files into our packages."""
    for distribution in distributions():
        if (name := _package_in(distribution)) and (other := distribution.name) != DISTRIBUTION:
            return (
                f"has {name!r} from {other} as well as from overtile: pip uninstall {other} and "
                "reinstall overtile, or install overtile in a separate environment"
            )
    return ""


def _package_in(distribution: Distribution) -> str | None:
    """Return which of our packages a distribution contains.

    Like ``importlib.metadata.packages_distributions``, but faster: that parses every file list.
    """
    if top_level := distribution.read_text("top_level.txt"):
        return next((name for name in top_level.split() if name in PACKAGES), None)
    files = "\n" + (distribution.read_text("RECORD") or "")
    return next((name for name in PACKAGES if f"\n{name}/__init__.py" in files), None)


def _our_folder() -> Path:
    return Path(__file__).parents[2]


def package_findings(here: str, answers: Answers) -> Iterator[Finding]:
    """Yield the processes whose packages are not overtile's."""
    problems = {
        process: text for process, text in answers.items() if isinstance(text, str) and text
    }
    problems |= {
        process: f"cannot report its packages ({why})" for process, why in failures(answers).items()
    }
    if here:
        problems["this machine"] = here
    for text, workers in grouped(problems):
        yield Finding(level="error", check="packages", text=f"{named(workers)} {text}")
    if not problems:
        names = ", ".join(PACKAGES[:-1])
        yield Finding(
            level="fine", check="packages", text=f"{names} and {PACKAGES[-1]} are overtile's"
        )
