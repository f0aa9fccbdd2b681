"""The commands that open an output in a viewer: pure text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..base.location import Location
from ..base.redaction import command_text
from ..base.shell_words import positional

NAPARI_PLUGIN: Final = "napari-ome-zarr"


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewCommand:
    """A command of the shell that opens an output. viewer: what the user then sees it in."""

    viewer: str
    command: str


def view_commands(
    output: Location,
    *,
    raw: Location | None = None,
    port: int = 0,
    plugin: str | None = NAPARI_PLUGIN,
) -> tuple[ViewCommand, ...]:
    """Return the commands that open an output: in a browser, in napari, and in napari alone.

    raw: the image below, where it was passed. port: of the page; 0 is any. plugin: of napari, that
    reads the output without overtile; None where none does: then there is no such command.

    >>> for one in view_commands(Location.parse("/data/my cells.zarr"), port=8899):
    ...     print(one.command)
    overtile view '/data/my cells.zarr' --port 8899
    overtile view '/data/my cells.zarr' --napari
    napari --plugin napari-ome-zarr '/data/my cells.zarr'
    """
    place = positional(output.uri)
    shown = ["overtile", "view", place, *([] if raw is None else [positional(raw.uri)])]
    commands = {
        "browser": [*shown, *(["--port", str(port)] if port else [])],
        "napari": [*shown, "--napari"],
    }
    if plugin is not None:
        commands["napari without overtile"] = ["napari", "--plugin", plugin, place]
    return tuple(
        ViewCommand(viewer=viewer, command=command_text(words))
        for viewer, words in commands.items()
    )
