"""Which plugin of napari opens an image without overtile."""

from __future__ import annotations

from typing import Final

from ..output.viewing import NAPARI_PLUGIN
from .layers import View

BUILTIN: Final = "napari"
"""The plugin of napari that reads TIFF and plain Zarr arrays."""
_TIFF: Final = (".tif", ".tiff")


def napari_plugin(view: View) -> str | None:
    """Return the plugin that opens the image of a view by itself; None if none does."""
    if view.is_ome_zarr:
        return NAPARI_PLUGIN
    source, place = view.layers[-1].source, view.place
    is_tiff = source.format == "tiff" and source.store == place  # not one image of several
    is_zarr = source.format == "zarr" and source.location == place
    name = place.name.lower()
    is_read = (is_tiff and name.endswith(_TIFF)) or (is_zarr and name.endswith(".zarr"))
    return BUILTIN if is_read and place.is_local else None
