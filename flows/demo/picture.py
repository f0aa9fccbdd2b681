"""The demo's picture: the raw image, the network's scores, the cells, and the true cells."""

from __future__ import annotations

from pipeline.base.geometry import Box
from pipeline.output.image_spec import colour
from pipeline.report.middle import middle_box
from pipeline.report.object_picture import objects_picture
from pipeline.report.pictures import Rgb, displayed_um, grey_picture, panel
from pipeline.volume.volume import find_volume, open_volume

from .volume import DemoVolume

SIDE = 256


def cells_picture(volume: DemoVolume, *, scores: str, membrane: int, cells: str) -> Rgb:
    """Return the middle slice of the volume, with the scores, the cells and the true cells.

    scores: an output with scores. membrane: the number of the class that is shown.
    """
    whole = Box.of_shape(volume.shape)
    box = middle_box(whole, around=whole, side=SIDE)

    def middle(uri: str, channel: int | None = None) -> Rgb:
        return open_volume(find_volume(uri, channel=channel)).read(box)[0, 0]

    raw = middle(volume.raw_uri)
    titled = [
        ("raw", grey_picture(raw)),
        (f"scores of {volume.class_names[membrane]}", grey_picture(middle(scores, membrane))),
        ("cells", objects_picture(raw, middle(cells), colour=colour)),
        ("true cells", objects_picture(raw, middle(volume.cells_uri), colour=colour)),
    ]
    um = displayed_um(volume.voxel_size_um[2], size=max(box.shape))
    return panel(titled, columns=4, um_per_px=um)
