"""A window of napari with an output, as ``python -m flows.viewing.napari_window OUTPUT [RAW]``."""

from __future__ import annotations

import sys
from typing import Any

from pipeline.base.location import Location
from pipeline.viewing.layers import View, find_view
from pipeline.viewing.napari_layers import napari_layers


def add_layers(viewer: Any, view: View) -> None:
    """Add the layers of a view to a viewer of napari, the undermost first."""
    for layer in napari_layers(view):
        add = viewer.add_labels if layer.kind == "labels" else viewer.add_image
        several = len(layer.levels) > 1
        add([*layer.levels] if several else layer.levels[0], multiscale=several, **layer.about)


def show(output: str, raw: str | None = None) -> None:
    """Show an output over its raw image; return when the window is closed."""
    import napari

    view = find_view(Location.parse(output), None if raw is None else Location.parse(raw))
    add_layers(napari.Viewer(title=f"{view.place.name} - napari"), view)
    napari.run()


if __name__ == "__main__":
    show(*sys.argv[1:])
