"""Labels that are written into the image that they are made from: what must hold before a run."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import Any, Final

from ..base.errors import OutputError, OvertileError
from ..base.json_text import json_value
from ..base.location import Location
from ..base.store_errors import explained
from ..base.stores import open_store, read_node
from .documents import read_bytes
from .guard import RUN_GROUP, is_inside
from .image_spec import Version

LABELS: Final = "labels"
_VERSIONS: Final[dict[int, Version]] = {2: "0.4", 3: "0.5"}


def image_of_labels(output: Location) -> Location | None:
    """Return the image in whose folder of labels an output lies, by its path; None elsewhere."""
    folder = output.parent
    return folder.parent if folder is not None and folder.name == LABELS else None


def check_into_input(output: Location, *, image: Location | None, version: Version) -> None:
    """Raise OutputError unless labels may be written into an image.

    output: ``IMAGE/labels/NAME``. image: the OME-Zarr image that is read, None for anything else.
    Nothing of others is replaced: no label image of that name, and nothing of another format.
    """
    if image is None:
        raise OutputError(
            "--into-input: the input is not an OME-Zarr image: convert it first (overtile "
            "convert), or leave --into-input out"
        )
    if image_of_labels(output) != image:
        raise OutputError(f"--into-input: expected the output {image}/{LABELS}/NAME, not {output}")
    if is_inside(image, output):  # `labels/..`, where a store resolves it, or a link
        raise OutputError(f"--into-input: {output} is the input itself, or holds it")
    node = read_node(image)
    stated = _VERSIONS[node.zarr_format] if node is not None else version
    if stated != version:
        raise OutputError(f"--into-input: {image} is OME-Zarr {stated}: pass --format {stated}")
    if (group := _consolidated_group(image)) is not None:
        which = "" if group in (image, image / LABELS) else f", which lists {image},"
        raise OutputError(
            f"--into-input: the metadata of {group}{which} is consolidated, so that readers would "
            "not find new labels: remove the consolidated metadata, or leave --into-input out"
        )
    if read_node(output) is not None and read_node(output, path=RUN_GROUP) is None:
        raise OutputError(
            f"{output} exists and was not made by overtile: choose another name; --into-input "
            "replaces no labels of others"
        )


def _consolidated_group(image: Location) -> Location | None:
    """Return a group with consolidated metadata that a new label image would be missing from.

    The image, its folder of labels, or a group above whose metadata lists the image.
    """
    for group in (image, image / LABELS):
        if _entries(group) is not None:
            return group
    places = {image, Location.parse(os.path.realpath(image.path))} if image.is_local else {image}
    for place in places:  # a group above may hold the image, or a link to it
        for group, inside in _groups_above(place):
            with suppress(OvertileError, ValueError):  # not Zarr, or private: no reader uses it
                names = _entries(group) or ()
                if any(f"{name.strip('/')}/".startswith(f"{inside}/") for name in names):
                    return group
    return None


def _groups_above(place: Location) -> Iterator[tuple[Location, str]]:
    """Yield each folder above a place, the nearest first, with the path from it to the place."""
    path = place.name
    while (above := place.parent) is not None:
        yield above, path
        place, path = above, f"{above.name}/{path}"


def _entries(group: Location) -> Collection[str] | None:
    """Return the names in a group's consolidated metadata; None if it has none.

    Raises kinds of OvertileError where the group cannot be read.
    """
    if group.is_local and not group.path.exists():  # as `labels`, before the first label image
        return None
    node = read_node(group)
    if node is not None and (stated := node.document.get("consolidated_metadata")) is not None:
        return _names(stated)
    with explained(OutputError, group):
        content = read_bytes(open_store(group), ".zmetadata")
        return None if content is None else _names(json_value(content))


def _names(consolidated: Any) -> Collection[str]:
    listed = consolidated.get("metadata") if isinstance(consolidated, dict) else None
    return listed if isinstance(listed, dict) else ()
