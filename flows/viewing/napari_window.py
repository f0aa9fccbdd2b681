"""A window of napari with an output, as ``python -m flows.viewing.napari_window [RAW] OUTPUT``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pipeline.output.viewing import NAPARI_PLUGIN


def show(places: Sequence[str]) -> None:
    """Open the images, the undermost first, and show the last labels over them; return at the end.

    The plugin hides labels at first. The image of an output, its scores or its labels once more,
    would hide the raw image.
    """
    import napari

    viewer = napari.Viewer()
    for place in places:
        opened = viewer.open(place, plugin=NAPARI_PLUGIN)
    labels = [layer for layer in opened if isinstance(layer, napari.layers.Labels)]
    images = [layer for layer in opened if layer not in labels]
    for layer in labels[-1:]:
        layer.visible = True
        for image in images if len(places) > 1 else ():
            image.visible = False
    napari.run()


if __name__ == "__main__":
    show(sys.argv[1:])
