"""The commands that open an output in a viewer: pure text."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Final

from ..base.location import Location

NAPARI_PLUGIN: Final = "napari-ome-zarr"


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewCommand:
    """A command of the shell that opens an output. viewer: what the user then sees it in."""

    viewer: str
    command: str


def view_commands(output: Location) -> tuple[ViewCommand, ...]:
    """Return the commands that open an output: in a browser first, then in napari.

    >>> [one.command for one in view_commands(Location.parse("/data/my cells.zarr"))]
    ["overtile view '/data/my cells.zarr'", "napari --plugin napari-ome-zarr '/data/my cells.zarr'"]
    """
    place = shlex.quote(str(output))
    return (
        ViewCommand(viewer="browser", command=f"overtile view {place}"),
        ViewCommand(viewer="napari", command=f"napari --plugin {NAPARI_PLUGIN} {place}"),
    )
