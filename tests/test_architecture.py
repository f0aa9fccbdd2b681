"""DESIGN's rules: who may import whom, lazy imports too."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HOUSE = {"pipeline", "unet", "flows", "deploy"}
MAY_IMPORT = {
    "pipeline": {"numpy", "scipy", "skimage", "zarr", "tensorstore", "fsspec", "aiohttp", "dask",
                 "distributed", "PIL"},
    "unet": {"torch", "numpy", "scipy", "safetensors", "fsspec"},
    "deploy": {"distributed", "dask", "dask_cuda", "dask_jobqueue"},
    "flows": {*HOUSE, "prefect", "pydantic", "rich", "numpy", "scipy", "zarr"},
}  # fmt: skip
ALSO = {
    "deploy/rendezvous.py": {"torch"},  # docs/decisions/0005: it is loaded on workers only
    "flows/event_file.py": {"tensorboard"},  # where it is installed
}
ERRORS = "pipeline.errors"  # docs/decisions/0002: the one module that every package may import
PURE = {
    "pipeline": {"errors", "geometry", "plan", "budget"},
    "unet": {"config"},
    "deploy": {"demand", "shell", "spec", "units"},
}


def modules():
    return sorted(path for package in HOUSE for path in (ROOT / package).rglob("*.py"))


def imports(path):
    """Yield (absolute module name, line) of every import in a file, wherever it stands."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            names = [node.module] if node.module else [alias.name for alias in node.names]
            for name in names:
                yield ".".join((*base, name)), node.lineno
        elif isinstance(node, ast.ImportFrom):
            yield node.module, node.lineno


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_package_imports_only_what_its_room_may(path):
    package = path.relative_to(ROOT).parts[0]
    for name, line in imports(path):
        top = name.split(".")[0]
        allowed = {package, *MAY_IMPORT[package], *sys.stdlib_module_names, "__future__"}
        allowed |= ALSO.get(path.relative_to(ROOT).as_posix(), set())
        assert top in allowed or name == ERRORS, f"{path}:{line} imports {name}"


@pytest.mark.parametrize(
    "path", [ROOT / package / f"{name}.py" for package, names in PURE.items() for name in names],
    ids=lambda p: f"{p.parent.name}.{p.stem}",
)  # fmt: skip
def test_a_pure_module_imports_only_the_standard_library_and_pure_modules(path):
    pure = {f"{package}.{name}" for package, names in PURE.items() for name in names}
    for name, line in imports(path):
        is_stdlib = name.split(".")[0] in {*sys.stdlib_module_names, "__future__"}
        assert is_stdlib or name in pure or name in ALSO_PURE, f"{path}:{line} imports {name}"


ALSO_PURE = {"unet.axis", "unet.cost"}


def test_nobody_imports_flows():
    for path in modules():
        if path.relative_to(ROOT).parts[0] != "flows":
            assert not [n for n, _ in imports(path) if n.split(".")[0] == "flows"], path


def test_there_is_no_package_file_under_tests():
    assert not list((ROOT / "tests").rglob("__init__.py"))
