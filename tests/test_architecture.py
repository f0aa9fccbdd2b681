"""The rooms of docs/architecture.md: who may import whom, lazy and type-only imports included."""

import ast
import functools
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
THIRD_PARTIES = {
    "pipeline": {"numpy", "scipy", "skimage", "zarr", "tensorstore", "fsspec", "aiohttp", "dask",
                 "distributed", "PIL", "jinja2", "tifffile", "imagecodecs", "numba", "numcodecs",
                 "psutil", "pyarrow"},
    "unet": {"torch", "numpy", "scipy", "safetensors", "fsspec"},
    "deploy": {"distributed", "dask", "dask_cuda", "psutil"},
    "flows": {"prefect", "pydantic", "rich", "numpy", "scipy", "shtab", "zarr", "napari",
              "neuroglancer", "tornado"},
    "overtile": set(),
}  # fmt: skip
ALSO = {
    # Config classes that pydantic checks, and the one adapter for its errors; flows has it anyway.
    "pipeline.base.checked": {"pydantic"},
    "unet.recipe.augment_config": {"pydantic"},
    "unet.recipe.training_config": {"pydantic"},
    "deploy.clusters.profiles": {"pydantic"},
    "deploy.tls.certificate": {"cryptography"},
    "flows.metrics.collector": {"prometheus_client"},  # where it is installed
    "flows.metrics.publish": {"prometheus_client"},
    "flows.prefect.run_names": {"coolname"},  # Prefect requires it: its names of runs
    "deploy.ranks.process_group": {"torch"},  # docs/decisions/0005: it is loaded on workers only
    "unet.training.event_file": {"tensorboard"},  # where it is installed
}
SHARED = "pipeline.base"
"""The room that ``unet`` and ``deploy`` may import of another package (docs/decisions/0002)."""
ALSO_SHARED = {
    # A validation's picture is drawn like a report's (docs/decisions/0010).
    "unet.training.picture": "pipeline.report",
}

LAYERS = {
    "pipeline": [
        ["base"],
        ["volume", "planning", "output", "report"],
        ["models", "ledger"],
        ["segmentation", "conversion", "objects"],
        ["segment", "finding", "preview", "masking", "viewing", "verification", "corrections"],
        ["evaluation"],
    ],
    "unet": [
        ["network"],
        ["weights", "recipe"],
        ["predict", "samples"],
        ["losses", "scoring"],
        ["training"],
    ],
    "deploy": [
        ["ranks", "processes", "tls"],
        ["clusters", "preflight"],
        ["batch_jobs"],
        ["cluster"],
        ["named_clusters"],
    ],
    "flows": [
        ["options"],
        ["text"],
        ["signals", "metrics"],
        ["training"],
        ["preflight", "prefect", "viewing"],
        ["segmentation"],  # shell and flow share it
        ["segment_volume", "train_unet", "evaluate_volume", "announce_volumes"],
        ["demo"],
        ["cli"],
    ],
    "overtile": [["aliases"], ["__main__"]],  # names only: the other packages, and the command
}
"""Rooms (or modules at the top of a package), from below: each may import rooms of lower layers."""

PURE = (
    "pipeline.base.choices", "pipeline.base.errors", "pipeline.base.geometry",
    "pipeline.base.text",
    "pipeline.planning.blocks", "pipeline.planning.budget", "pipeline.planning.chunk_fit",
    "pipeline.planning.make_plan", "pipeline.planning.network", "pipeline.planning.shares",
    "pipeline.planning.swept", "pipeline.planning.tile_choice", "pipeline.planning.traversal",
    "unet.network.axis", "unet.network.config", "unet.network.cost", "unet.network.memory",
    "unet.predict.sweep.geometry", "unet.predict.sweep.memory",
    "deploy.batch_jobs.departure", "deploy.batch_jobs.directives", "deploy.batch_jobs.pool_policy",
    "deploy.batch_jobs.quoting",
    "deploy.batch_jobs.environment", "deploy.clusters.silence",
    "deploy.clusters.spec", "deploy.clusters.units", "deploy.clusters.written_options",
)  # fmt: skip


def name_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    name_of(path): path for package in LAYERS for path in sorted((ROOT / package).rglob("*.py"))
}


def imports(name, path):
    """Yield (absolute module name, line) of every import in a file, wherever it stands."""
    package = name.split(".") if path.stem == "__init__" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            target = ".".join([*base, *([node.module] if node.module else [])])
            inside = [f"{target}.{alias.name}" for alias in node.names]
            modules = [name for name in inside if name in MODULES]
            if len(modules) < len(inside):
                modules.append(target)
            for module in modules:
                yield module, node.lineno


@functools.cache
def arrows():
    """Return the imports of every module."""
    return {name: tuple(imports(name, path)) for name, path in MODULES.items()}


def room_of(name):
    """Return package and room of a module's name; no room for the package itself."""
    package, *rest = name.split(".")
    return package, rest[0] if rest else ""


def layer_of(package, room):
    return next(number for number, rooms in enumerate(LAYERS[package]) if room in rooms)


def test_a_module_imports_only_the_third_parties_of_its_package():
    wrong = []
    for name, targets in arrows().items():
        package, _ = room_of(name)
        allowed = {*LAYERS, *THIRD_PARTIES[package], *sys.stdlib_module_names, "__future__"}
        allowed |= ALSO.get(name, set())
        wrong += [
            f"{MODULES[name]}:{line} imports {target}"
            for target, line in targets
            if target.split(".")[0] not in allowed
        ]
    assert wrong == []


def test_a_module_imports_only_rooms_below_its_own():
    assert [
        f"{MODULES[name]}:{line} imports {target}"
        for name, targets in arrows().items()
        for target, line in targets
        if not may_import(name, target)
    ] == []


def may_import(name, target):
    """Return whether a module may import another one, or something of another project."""
    package, room = room_of(name)
    other_package, other_room = room_of(target)
    if other_package not in LAYERS or not room:
        return True  # the package's own names are loaded on first use
    if other_package == package:
        if other_room == room:
            return True
        return bool(other_room) and layer_of(package, other_room) < layer_of(package, room)
    if package == "overtile":
        return True
    if package == "flows":
        return other_package != "overtile"
    return f"{other_package}.{other_room}" in {SHARED, ALSO_SHARED.get(name)}


def test_every_room_has_a_layer():
    for name in MODULES:
        package, room = room_of(name)
        assert not room or any(room in rooms for rooms in LAYERS[package]), name


@pytest.mark.parametrize("package", [package for package in LAYERS if package != "overtile"])
def test_the_rooms_of_the_documentation_are_those_of_the_layers_from_above(package):
    text = (ROOT / "docs" / "architecture.md").read_text()
    header, diagram = re.search(rf"^    {package}/(.*)\n((?:      .*\n)+)", text, re.M).groups()
    rooms = re.findall(r"^ {6}(\w+)(?:/|\.py) ", diagram, re.M)
    in_header = set(re.findall(r"\w+", header))  # the four flows
    of_layers = set().union(*LAYERS[package])
    assert set(rooms) <= of_layers <= set(rooms) | in_header
    layers = [layer_of(package, room) for room in rooms]
    assert layers == sorted(layers, reverse=True)


def test_no_module_reaches_itself_through_its_imports():
    assert not on_cycles({
        name: {target for target, _ in targets if target in MODULES and target != name}
        for name, targets in arrows().items()
        if room_of(name)[1]
    })  # fmt: skip


def test_no_folder_reaches_itself_through_the_imports_of_its_modules():
    """A folder inside a room is a layer too: the formats of images know no opened volume."""
    house = {}
    for name, targets in arrows().items():
        folder = MODULES[name].parent
        folders = {MODULES[target].parent for target, _ in targets if target in MODULES}
        if room_of(name)[1]:
            house.setdefault(folder, set()).update(folders - {folder})
    assert not on_cycles(house)


def on_cycles(house):
    """Return what lies on a cycle, or leads to one and is led to, with its targets."""
    while leaves := {name for name, targets in house.items() if not targets & set(house)}:
        house = {name: targets for name, targets in house.items() if name not in leaves}
    # What is left lies on a cycle, or leads to one.
    while unused := set(house) - {target for targets in house.values() for target in targets}:
        house = {name: targets for name, targets in house.items() if name not in unused}
    return {name: sorted(targets & set(house)) for name, targets in house.items()}


@pytest.mark.parametrize("name", PURE)
def test_a_pure_module_imports_only_the_standard_library_and_pure_modules(name):
    for target, line in arrows()[name]:
        is_stdlib = target.split(".")[0] in {*sys.stdlib_module_names, "__future__"}
        assert is_stdlib or target in PURE, f"{MODULES[name]}:{line} imports {target}"


def test_there_is_no_package_file_under_tests():
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_no_test_replaces_the_clock_of_the_whole_process():
    """Event loops in other threads plan by it: one that saw a later clock waits until then."""
    replaced = re.compile(r'setattr\([^)]*\btime(\.monotonic"|, "monotonic")')
    assert [p.name for p in (ROOT / "tests").rglob("*.py") if replaced.search(p.read_text())] == []
