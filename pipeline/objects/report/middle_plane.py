"""The objects in the middle of the volume, over the image or its scores."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...base.geometry import Box
from ...base.stores import open_array
from ...output.image_spec import colour
from ...report.middle import middle_box
from ...report.object_picture import objects_picture
from ...report.pictures import displayed_um, grey_picture
from ...report.plane_pictures import Tile
from ...report.report import Plane
from ...volume.micrometres import voxel_size_um
from ..preparation.summary import ObjectsSummary


def middle_plane(run: ObjectsSummary, *, side: int) -> Plane:
    """Return the middle slice: the image where there is one, the scores, the objects.

    side: its width and height in voxels, at most.
    """
    whole = Box.of_shape(run.job.plan.shape)
    box = middle_box(whole, around=whole, side=side)
    scores = run.job.scores.read(box)[0]
    labels = _labels(run, box)
    ground: NDArray[Any] = scores
    name = f"scores of {run.job.scores.class_name}"
    tiles = [Tile(title=name, picture=grey_picture(scores), alt=f"{name} in the middle slice")]
    if run.job.intensity is not None:
        ground = run.job.intensity.read(box)[:, 0]
        raw = Tile(title="raw", picture=grey_picture(ground), alt="the image in the middle slice")
        tiles.insert(0, raw)
    drawn = objects_picture(ground, labels, colour=colour)
    tiles.append(Tile(title="objects", picture=drawn, alt="objects in the middle slice"))
    voxel_um = voxel_size_um(run.prepared.scores.source)[2]
    z, y, x = box.start
    return Plane(
        title="The middle of the volume",
        tiles=tuple(tiles),
        caption=f"z {z}, y from {y}, x from {x}; {_shown_text(labels)}.",
        um_per_px=None if voxel_um is None else displayed_um(voxel_um, size=max(labels.shape)),
    )


def _labels(run: ObjectsSummary, box: Box) -> NDArray[Any]:
    """Return the ids (y, x) of a slice."""
    array = open_array(run.job.output, run.job.path, token=run.job.run_token)
    values = np.asarray(array[box.slices[3 - len(run.job.axes) :]])
    return values.reshape(box.shape[1:])


def _shown_text(labels: NDArray[Any]) -> str:
    shown = np.count_nonzero(np.unique(labels))
    return f"{shown:,} objects are in this part of the slice"
