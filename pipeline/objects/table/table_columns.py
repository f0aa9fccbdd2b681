"""The columns of the table of objects: names, types, units, descriptions, and their values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa

from .rows import kept_dtype
from .table_measures import Measures
from .table_spec import TableSpec


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table."""

    name: str
    unit: str
    description: str
    values: Callable[[Measures], Any]
    kind: pa.DataType = pa.float64()  # noqa: RUF009  # immutable

    @property
    def field(self) -> pa.Field:
        """Name and type, with unit and description as metadata."""
        metadata = {"description": self.description, "unit": self.unit}
        return pa.field(self.name, self.kind, metadata=metadata)


def columns(spec: TableSpec) -> Iterator[Column]:
    """Yield the columns of a table, in its order."""
    yield Column("id", "", "value of the object in the labels", lambda m: m.rows.ids, pa.uint64())
    yield Column("voxels", "voxels", "number of voxels", lambda m: m.rows.voxels, pa.int64())
    yield from _sizes(spec)
    yield from _places(spec)
    if spec.score_scale is not None:
        yield Column("mean_score", "0 to 1", "mean score of the voxels", Measures.mean_score)
    yield from _surfaces(spec)
    axes = "ellipse" if spec.is_flat else "ellipsoid"
    elongation = f"longest by shortest axis of the {axes} with the same second moments"
    yield Column("elongation", "", elongation, Measures.elongation)
    for channel, name in enumerate(spec.channels):
        yield from _intensities(spec, channel, name)


def _sizes(spec: TableSpec) -> Iterator[Column]:
    ball = "disc" if spec.is_flat else "ball"
    diameter = f"diameter of the {ball} of the same size"
    if spec.spacing_um is None:
        yield Column("equivalent_diameter", "voxels", diameter, Measures.equivalent_diameter)
        return
    if spec.is_flat:
        yield Column("area_um2", "µm²", "area of all pixels", Measures.size)
    else:
        yield Column("volume_um3", "µm³", "volume of all voxels", Measures.size)
    yield Column("equivalent_diameter_um", "µm", diameter, Measures.equivalent_diameter)


def _places(spec: TableSpec) -> Iterator[Column]:
    whole = pa.int64()
    for axis, name in enumerate("zyx"):
        start = partial(Measures.box_start, axis=axis)
        yield Column(f"box_{name}0", "voxels", f"lowest {name} in the level", start, whole)
    for axis, name in enumerate("zyx"):
        stop = partial(Measures.box_stop, axis=axis)
        yield Column(f"box_{name}1", "voxels", f"highest {name} in the level + 1", stop, whole)
    for axis, name in enumerate("zyx"):
        mean = partial(Measures.centroid, axis=axis)
        yield Column(f"centroid_{name}", "voxels", f"mean index along {name} in the level", mean)
    for axis, name in enumerate("zyx"):
        if spec.voxel_size_um[axis] is not None:
            mean = partial(Measures.centroid_um, axis=axis)
            yield Column(f"centroid_{name}_um", "µm", f"mean {name} of the voxels' centres", mean)


def _surfaces(spec: TableSpec) -> Iterator[Column]:
    name, unit, power = ("perimeter", "pixel sides", 1) if spec.is_flat else (
        "surface", "voxel faces", 2
    )  # fmt: skip
    physical = "µm" if power == 1 else "µm²"
    ending = "um" if power == 1 else "um2"
    for prefix, at_edge, description in (
        ("", False, f"{name} towards other objects and background, inside the volume"),
        ("edge_", True, f"{name} at the volume's edge, where the volume cuts the object"),
    ):
        faces = partial(Measures.faces, at_edge=at_edge)
        yield Column(f"{prefix}{name}_faces", unit, description, faces, pa.int64())
        if spec.spacing_um is not None:
            surface = partial(Measures.surface_um, at_edge=at_edge)
            yield Column(f"{prefix}{name}_{ending}", physical, description, surface)
    description = "whether a voxel lies at the volume's edge"
    yield Column("touches_edge", "", description, Measures.touches_edge, pa.bool_())


def _intensities(spec: TableSpec, channel: int, name: str) -> Iterator[Column]:
    dtype = kept_dtype(spec.intensity_dtype)
    is_float = dtype.kind == "f"
    stored = pa.from_numpy_dtype(dtype)
    total = pa.float64() if is_float else pa.int64()
    rest = "without NaN and infinite values" if is_float else "empty where it exceeds 64 bits"
    for what, values, description, kind in (
        ("mean", Measures.intensity_mean, "mean intensity", pa.float64()),
        ("sum", Measures.intensity_sum, f"sum of intensities, {rest}", total),
        ("min", Measures.intensity_min, "lowest intensity", stored),
        ("max", Measures.intensity_max, "highest intensity", stored),
    ):
        chosen = partial(values, channel=channel)
        yield Column(f"intensity_{what}_{name}", "as in the image", description, chosen, kind)
