"""JSON documents beside image files, read without tensorstore where fsspec opens the location."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...base.errors import VolumeError
from ...base.json_text import json_value
from ...base.location import Location
from ...base.tensorstore_use import context, is_forked, is_installed, kvstore, load
from .files import read_existing

Document = Mapping[str, Any]


def read_documents(folder: Location, names: Sequence[str]) -> dict[str, bytes]:
    """Return the documents that exist and can be read, requested at once; never raises."""
    if folder.scheme in ("gs", "gcs"):
        return _from_tensorstore(folder, names)
    return read_existing(folder, names)


def parsed(text: bytes, where: Location) -> Document:
    """Return a JSON object. Raises VolumeError for anything else."""
    try:
        document = json_value(text)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise VolumeError(f"{where} is damaged: expected a JSON object")
    return document


def is_object(text: bytes | None) -> bool:
    """Return whether a document was meant to be a JSON object, damaged or not."""
    return text is not None and text.lstrip()[:1] == b"{"


def _from_tensorstore(folder: Location, names: Sequence[str]) -> dict[str, bytes]:
    """Read from Google Cloud Storage, for which fsspec needs a further package."""
    if not is_installed() or is_forked():
        return {}
    try:
        spec = kvstore(folder, VolumeError)
        store = load().KvStore.open(spec, context=context()).result()
        requests = {name: store.read(name) for name in names}
        answers = {name: request.result() for name, request in requests.items()}
    except Exception:  # access denied, no such bucket: `describe` of Zarr reports it
        return {}
    return {name: answer.value for name, answer in answers.items() if answer.state == "value"}
