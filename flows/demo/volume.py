"""A synthetic volume of cells with its truth, for trying overtile without data.

It looks like stained tissue under a confocal microscope: adjacent cells with thin, uneven, wavy
membranes; in them a nucleus with a faint rim, bright vesicles and short rods; a blur that is longer
in z, uneven light, few photons. Because of rods, vesicles and light, no threshold finds the
membranes. Everything is drawn from ``seed``; nothing is downloaded.

Every chunk is rendered independently from a small ``Scene`` and written once, so a volume of any
size takes the memory of a few chunks, and chunk borders are invisible.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import zarr

from pipeline.base.errors import GeometryError, OutputError, VolumeError
from pipeline.base.geometry import Box

from .scene import RECIPE, VOXEL_SIZE_UM, Scene, Shape3, Sizes3, render

CLASS_NAMES = ("cell interior", "membrane")
CHUNK: Shape3 = (32, 128, 128)
"""Rendered at once; the noise depends on it."""
STORED_CHUNK: Shape3 = (16, 64, 64)
"""Smaller than the blocks of the demo, so that no block reads much more than it needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoVolume:
    """The three volumes and their properties. Axes are z, y, x."""

    raw_uri: str
    truth_uri: str
    cells_uri: str
    shape: Shape3
    seed: int
    voxel_size_um: Sizes3 = VOXEL_SIZE_UM
    class_names: tuple[str, ...] = CLASS_NAMES


def make_demo_volume(
    directory: str | os.PathLike[str], *, shape: Shape3 = (64, 256, 256), seed: int = 0
) -> DemoVolume:
    """Write ``raw.zarr``, ``truth.zarr`` and ``true-cells.zarr`` into ``directory``.

    OME-Zarr 0.5 with one level, axes z y x, voxels of 0.2 × 0.1 × 0.1 µm. raw: uint8 grey values.
    truth: uint8, 0 = inside a cell, 1 = membrane. true-cells: uint32, the id of a cell at every
    voxel, also in membranes. An existing volume of the same shape and seed is left unchanged.
    Raises GeometryError for an empty shape, VolumeError for a negative seed, OutputError if another
    file has this name.
    """
    if len(shape) != 3 or min(shape) < 1:
        raise GeometryError(f"shape {shape}: expected three axes of at least one voxel")
    if seed < 0:
        raise VolumeError(f"seed {seed}: expected 0 or more")
    root = os.fspath(directory).rstrip("/")
    demo = DemoVolume(
        raw_uri=f"{root}/raw.zarr", truth_uri=f"{root}/truth.zarr",
        cells_uri=f"{root}/true-cells.zarr", shape=shape, seed=seed,
    )  # fmt: skip
    recipe = {"recipe": RECIPE, "shape": list(shape), "seed": seed}
    uris = (demo.raw_uri, demo.truth_uri, demo.cells_uri)
    missing = [uri for uri in uris if not _is_made(uri, recipe=recipe)]
    if missing:
        _write(demo, missing, recipe=recipe)
    return demo


def _write(demo: DemoVolume, missing: list[str], *, recipe: dict[str, Any]) -> None:
    """Render the volume chunk by chunk into those of its three files that are missing."""
    scene = Scene(demo.shape, demo.seed)
    dtypes = {demo.raw_uri: "uint8", demo.truth_uri: "uint8", demo.cells_uri: "uint32"}
    groups = {uri: _create(uri, shape=demo.shape, dtype=dtypes[uri]) for uri in missing}
    for box in _chunks(demo.shape):
        rendered: dict[str, Any] = dict(zip(dtypes, render(box, scene=scene), strict=True))
        for uri, group in groups.items():
            level = group["0"]
            assert isinstance(level, zarr.Array)
            level[box.slices] = rendered[uri]
    for group in groups.values():
        group.attrs["overtile_demo"] = recipe  # last: marks the volume as complete


def _chunks(shape: Shape3) -> Iterator[Box]:
    """Yield the boxes of all chunks, clipped to the volume."""
    steps = [range(0, size, step) for size, step in zip(shape, CHUNK, strict=True)]
    for start in itertools.product(*steps):
        yield Box.of_shape(CHUNK).shifted(start).clipped_to(Box.of_shape(shape))


def _is_made(uri: str, *, recipe: dict[str, Any]) -> bool:
    """Return whether the volume is complete. Raises OutputError if another file has its name."""
    try:
        found = zarr.open_group(uri, mode="r").attrs.get("overtile_demo")
    except (FileNotFoundError, ValueError):
        found = None
        if not os.path.exists(uri):
            return False
    if found != recipe:
        raise OutputError(
            f"{uri} exists and is not this demo volume: remove it, or choose another --directory"
        )
    return True


def _create(uri: str, *, shape: Shape3, dtype: str) -> zarr.Group:
    """Create an empty OME-Zarr 0.5 image of one level (axes z y x)."""
    group = zarr.open_group(uri, mode="w-", zarr_format=3)
    group.create_array(
        "0", shape=shape, dtype=dtype, chunks=STORED_CHUNK, fill_value=0,
        dimension_names=list("zyx"),
    )  # fmt: skip
    axes = [{"name": a, "type": "space", "unit": "micrometer"} for a in "zyx"]
    scale = [{"type": "scale", "scale": list(VOXEL_SIZE_UM)}]
    datasets = [{"path": "0", "coordinateTransformations": scale}]
    name = uri.rsplit("/", 1)[-1].removesuffix(".zarr")
    image: Any = {"name": name, "axes": axes, "datasets": datasets}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [image]}
    return group
