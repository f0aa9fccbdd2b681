"""The planes of a run's report, and the check for seams in them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base.geometry import Box
from ..output.image_spec import colour
from ..report.pictures import scale_bar_text
from ..report.plane_pictures import PlaneLayers, tiles_of
from ..report.planes import MOST_BYTES, NORMALS, Layer, PlaneName, PlaneView, choose_view, planes_of
from ..report.report import Plane
from ..report.seams import SeamStatistics, seam_statistics
from ..volume.micrometres import voxel_size_um
from .prepare import Prepared
from .summary import RunSummary

SEAMS_SIDE = 768
"""Voxels of the part of a plane that is checked for seams, at full resolution."""


def shown(prepared: Prepared) -> Box:
    """Return the box of the output whose middle is shown: what is computed, or a block of it."""
    return prepared.plan.computed if prepared.part.mask is None else prepared.selection.central()


def plane_names(run: RunSummary) -> tuple[PlaneName, ...]:
    """Return the planes that are worth a picture."""
    return planes_of(shown(run.prepared))


def plane(run: RunSummary, layers: PlaneLayers, name: PlaneName, *, side: int) -> Plane | None:
    """Return a plane through the middle of what was computed; None if it would read too much.

    side: of a picture, in pixels.
    """
    source, around = run.prepared.source, shown(run.prepared)
    view = choose_view(
        name, layers.all, around=around, spacing=source.voxel_size,
        spacing_um=voxel_size_um(source), side=side,
    )  # fmt: skip
    if view is None:
        return None
    return Plane(
        title=_title(view, run),
        tiles=tiles_of(layers, view, colour=colour),
        caption=_caption(view, around),
        um_per_px=view.pixel_um,
    )


def _title(view: PlaneView, run: RunSummary) -> str:
    if run.prepared.plan.computed.shape[0] == 1:
        return "The slide" if "z" not in run.prepared.source.axes else "The plane"
    seen = {"XY": "seen from above", "XZ": "seen from the front", "YZ": "seen from the side"}
    return f"{view.name}: the middle, {seen[view.name]}"


def _caption(view: PlaneView, around: Box) -> str:
    rows, columns = view.rows_and_columns
    place = f"{'zyx'[view.normal]} {view.box.start[view.normal]}"
    parts = []
    for axis in (columns, rows):
        a, b = view.box.start[axis], view.box.stop[axis]
        parts.append(f"{'zyx'[axis]} {a} to {b}")
    text = f"{place}; to the right {parts[0]}, down {parts[1]}."
    if any(view.box.shape[axis] < around.shape[axis] for axis in (rows, columns)):
        whole = f"{around.shape[columns]:,} × {around.shape[rows]:,}"
        text += f" This is the middle of {whole} voxels."
    shrink = view.box.shape[columns] / view.shape[1]
    if shrink > 1.05:
        text += f" A pixel stands for {shrink:.1f} voxels."
    if view.pixel_um is None:
        return f"{text} No voxel size is known: there is no scale bar; --voxel-size states one."
    return f"{text} Scale bar: {scale_bar_text(view.pixel_um, width=view.shape[1])}."


def seams_of(run: RunSummary, layers: PlaneLayers) -> dict[PlaneName, SeamStatistics]:
    """Return the change across borders of blocks in the planes XY and XZ, at full resolution."""
    layer = layers.scores or layers.classes
    assert layer is not None, "scores or classes are always stored"
    around = shown(run.prepared)
    return {
        name: _seams(run, layer, NORMALS[name], is_scores=layers.scores is not None)
        for name in planes_of(around)[:2]
        if layer.levels[0].bytes_of(_checked_box(around, NORMALS[name])) <= MOST_BYTES
    }


def _checked_box(around: Box, normal: int) -> Box:
    """Return the middle of the plane that is perpendicular to an axis."""
    sizes = [min(size, SEAMS_SIDE) for size in around.shape]
    sizes[normal] = 1
    start = tuple(
        a + (n - size) // 2 for a, n, size in zip(around.start, around.shape, sizes, strict=True)
    )
    return Box(start, tuple(a + size for a, size in zip(start, sizes, strict=True)))


def _seams(run: RunSummary, layer: Layer, normal: int, *, is_scores: bool) -> SeamStatistics:
    box = _checked_box(shown(run.prepared), normal)
    values: NDArray[Any] = layer.levels[0].read(box)
    if is_scores and values.dtype == np.uint8:
        values = values.astype(np.float32) / 255
    edges = [
        [edge - a for edge in range(core, b, core) if a < edge < b]
        for a, b, core in zip(box.start, box.stop, run.prepared.plan.core, strict=True)
    ]
    return seam_statistics(values, block_edges=[None, *edges])
