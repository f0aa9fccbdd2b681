"""The commands that open an output in a viewer: pure text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..base.location import Location
from ..base.redaction import command_text

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
    browser = command_text(["overtile", "view", output.uri])
    napari = command_text(["napari", "--plugin", NAPARI_PLUGIN, output.uri])
    return (
        ViewCommand(viewer="browser", command=browser),
        ViewCommand(viewer="napari", command=napari),
    )
