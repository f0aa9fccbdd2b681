"""Labels that are written into the image that they are made from: what must hold before a run."""

from __future__ import annotations

from typing import Final

from ..base.errors import OutputError
from ..base.location import Location
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
    if _is_consolidated(image):
        raise OutputError(
            f"--into-input: the metadata of {image} is consolidated, so that readers would not "
            "find new labels: remove the consolidated metadata, or leave --into-input out"
        )
    if read_node(output) is not None and read_node(output, path=RUN_GROUP) is None:
        raise OutputError(
            f"{output} exists and was not made by overtile: choose another name; --into-input "
            "replaces no labels of others"
        )


def _is_consolidated(image: Location) -> bool:
    node = read_node(image)
    is_stated = node is not None and node.document.get("consolidated_metadata") is not None
    return is_stated or read_bytes(open_store(image), ".zmetadata") is not None
