"""Copies the metadata documents of an output's images, and of no others that lie in it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator

from ..base.errors import OutputError
from ..base.json_text import json_value
from ..base.location import Location
from ..base.store_errors import explained
from ..base.stores import DOCUMENTS, open_store, read_node
from ..output.documents import put_missing, read_bytes
from ..output.image_spec import Version


def copy_documents(
    source: Location, target: Location, *, images: Collection[str], version: Version
) -> None:
    """Write the documents of the root and of some images, given by path, with all their levels.

    The listing of labels names only those that are among the images. Raises OutputError.
    """
    store, documents = open_store(source), {}
    for path in _nodes(source, images):
        for name in DOCUMENTS:
            key = f"{path}/{name}".lstrip("/")
            with explained(OutputError, source):
                content = read_bytes(store, key)
            if content is not None:
                documents[key] = content
    kept = {path.rpartition("/")[2] for path in images if path.startswith("labels/")}
    for key in [key for key in documents if key.rpartition("/")[0] == "labels"]:
        documents[key] = _with_labels(documents[key], kept)
    put_missing(target, documents)


def _nodes(source: Location, images: Collection[str]) -> Iterator[str]:
    """Yield the paths of the groups and arrays, those above first."""
    groups = {""}
    for path in images:
        parts = path.split("/") if path else []
        groups |= {"/".join(parts[: n + 1]) for n in range(len(parts))}
    yield from sorted(groups)
    for path in images:
        number = 0
        while read_node(source, path=(level := f"{path}/{number}".lstrip("/"))) is not None:
            yield level
            number += 1


def _with_labels(content: bytes, kept: Collection[str]) -> bytes:
    """Return the document of the group of labels, with only some of them in its listing."""
    document = json_value(content)
    attributes = document.get("attributes", document)
    for place in (attributes, attributes.get("ome")):
        if isinstance(place, dict) and isinstance(place.get("labels"), list):
            place["labels"] = [name for name in place["labels"] if name in kept]
    return json.dumps(document, indent=2).encode()
