"""The definition of objects in words, and what a result says about it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final, Literal

from ...base.text import counted
from ..definition.lengths import STEPS
from ..definition.method import Method
from ..preparation.part_words import part_in_words
from ..preparation.prepared import PreparedObjects
from ..table.size_unit import element_name, image_name
from ..table.table_spec import TableSpec
from ..table.table_summary import TableSummary
from ..tasks.filters import Filter

COVERED_BY_BOUNDARY_OBJECTS: Final = 0.2
COVERED_BY_FOREGROUND: Final = 0.9
HELD_BY_ONE: Final = 0.9
SPECK_VOXELS: Final = 8
"""Where half of the objects have no more, most are noise: 2×2×2 voxels, or a cell of 3 pixels."""
OBJECTS_FOR_SPECKS: Final = 20
_NEIGHBOURS: Final = {
    6: "6, through faces",
    18: "18, through faces and edges",
    26: "26, through faces, edges and corners",
}
_NEIGHBOURS_IN_SLICE: Final = {4: "4, through edges", 8: "8, through edges and corners"}


def definition_rows(prepared: PreparedObjects) -> Iterator[tuple[str, str]]:
    """Yield name and value of everything that defines the objects."""
    scores, method = prepared.scores, prepared.method
    yield "class", scores.class_name
    if method.edge_axes:
        yield "objects", "are connected by affinities"
    elif method.role == "foreground":
        yield "objects", "consist of the class (foreground)"
    else:
        yield "objects", "lie between the class (boundary)"
    yield "method", "watershed" if method.is_watershed else "connected components"
    yield "threshold", _threshold_text("threshold", method, scores.highest)
    yield from _watershed_rows(prepared)
    yield "neighbours of a voxel", _neighbours_text(method)
    if method.agglomerate != "none":
        below = part_in_words("merge_threshold", method.merge_threshold, highest=scores.highest)
        yield "merged", f"by --agglomerate {method.agglomerate} at {below}"
    if method.per_slice:
        yield "slices", "every z is a separate image"
    yield "kept", _kept_text(prepared.kept, prepared.table_spec)
    if prepared.request.fill_holes:
        yield "holes", "filled"


def _neighbours_text(method: Method) -> str:
    if method.per_slice:
        return _NEIGHBOURS_IN_SLICE[len(method.offsets)]
    return _NEIGHBOURS[method.connectivity]


def _watershed_rows(prepared: PreparedObjects) -> Iterator[tuple[str, str]]:
    method, highest = prepared.method, prepared.scores.highest
    if method.depth:
        depth = part_in_words("depth", method.depth, highest=highest)
        yield "depth", f"basins at least {depth} deep"
    if method.has_seeds:
        text = _threshold_text("seed_threshold", method, highest)
        if method.seed_distance:
            has_unit = any(prepared.table_spec.voxel_size_um)
            unit = "µm" if has_unit else "voxels"
            text += f", more than {method.seed_distance / STEPS:g} {unit} inside"
        yield "seeds", text


def _threshold_text(
    name: Literal["threshold", "seed_threshold"], method: Method, highest: int
) -> str:
    stored = method.threshold if name == "threshold" else method.seed_threshold
    if stored is None:
        return "none: every voxel is in an object"
    side = "at least" if method.role == "foreground" else "below"
    what = "affinities" if method.edge_axes else "scores"
    asked = part_in_words(name, stored, highest=highest)
    return f"{what} {side} {asked} (stored as {stored} of {highest})"


def _kept_text(kept: Filter, spec: TableSpec) -> str:
    element, parts = element_name(spec), []
    if kept.min_voxels > 1:
        parts.append(f"at least {counted(kept.min_voxels, element)}")
    if kept.max_voxels is not None:
        parts.append(f"at most {counted(kept.max_voxels, element)}")
    if kept.drops_border:
        parts.append(f"none that touches the edge of the {image_name(spec)}")
    return ", ".join(parts) or "all"


def advice(method: Method, found: TableSummary, *, voxels: int) -> str | None:
    """Return a note where the class is probably the wrong one, or of the other role.

    voxels: of the volume.
    """
    covered, role = found.voxels / voxels, None if method.edge_axes else method.role
    if role == "boundary" and covered < COVERED_BY_BOUNDARY_OBJECTS:
        return (
            "objects between boundaries usually cover nearly everything: if the class is that of "
            "the objects themselves, pass --role foreground"
        )
    if role == "foreground" and covered > COVERED_BY_FOREGROUND:
        return (
            "the objects cover nearly everything: if the class is a boundary between objects, "
            "pass --role boundary"
        )
    median = found.sizes.quantile(0.5) if found.objects >= OBJECTS_FOR_SPECKS else math.inf
    if median <= SPECK_VOXELS:
        return (
            f"half of the objects have {counted(int(median), 'voxel')} or fewer, as noise has: "
            "leave such specks out with --min-voxels; where little else is left, the weights are "
            "for other images (overtile weights list)"
        )
    largest = found.largest[0].voxels if found.objects else 0
    if method.edge_axes and not method.is_watershed and largest > HELD_BY_ONE * voxels:
        return (
            "one object fills nearly the whole volume: --method watershed with --agglomerate mean "
            "separates objects that touch"
        )
    if found.objects > 1 and largest > HELD_BY_ONE * found.voxels:
        return (
            f"one of the objects holds more than {100 * HELD_BY_ONE:.0f} % of their voxels: if it "
            f"is the background, compare {_deciding(method)} with the scores"
        )
    return None


def _deciding(method: Method) -> str:
    """Return the options that state what is inside objects."""
    return "--threshold" if method.edge_axes else "--class and --role"
