"""A picture of the objects in the middle of the volume, over the image or its scores."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...base.geometry import Box
from ...base.stores import open_array
from ...output.image_spec import colour
from ...report.middle import middle_box
from ...report.object_picture import objects_picture
from ...report.pictures import displayed_um, grey_picture, panel, png_bytes
from ...report.report import Picture
from ...volume.micrometres import voxel_size_um
from ..preparation.summary import ObjectsSummary


def middle_picture(run: ObjectsSummary, *, side: int) -> Picture:
    """Return the middle slice: the image where there is one, the scores, the objects.

    side: its width and height in voxels, at most.
    """
    whole = Box.of_shape(run.job.plan.shape)
    box = middle_box(whole, around=whole, side=side)
    scores = run.job.scores.read(box)[0]
    labels = _labels(run, box)
    ground: NDArray[Any] = scores
    titled = [(f"scores of {run.job.scores.class_name}", grey_picture(scores))]
    if run.job.intensity is not None:
        ground = run.job.intensity.read(box)[:, 0]
        titled.insert(0, ("raw", grey_picture(ground)))
    titled.append(("objects", objects_picture(ground, labels, colour=colour)))
    voxel_um = voxel_size_um(run.prepared.scores.source)[2]
    size = max(labels.shape)
    sheet = panel(titled, um_per_px=None if voxel_um is None else displayed_um(voxel_um, size=size))
    z, y, x = box.start
    return Picture(
        title="The middle of the volume",
        png=png_bytes(sheet),
        caption=f"z {z}, y from {y}, x from {x}; {_shown_text(labels)}.",
    )


def _labels(run: ObjectsSummary, box: Box) -> NDArray[Any]:
    """Return the ids (y, x) of a slice."""
    array = open_array(run.job.output, run.job.path, token=run.job.run_token)
    values = np.asarray(array[box.slices[3 - len(run.job.axes) :]])
    return values.reshape(box.shape[1:])


def _shown_text(labels: NDArray[Any]) -> str:
    shown = np.count_nonzero(np.unique(labels))
    return f"{shown:,} objects are in this part of the slice"
