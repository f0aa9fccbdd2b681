"""Zarr's metadata documents: built in memory, then written to a store where they are missing.

A store shows a document completely or not at all: a file is written aside and then linked to its
name, an object of S3 is put as a whole. Runs that create one output write the same documents, so
any number of them may do so at once, and the next run completes what a killed one began.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from zarr.abc.store import Store
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.storage import FsspecStore, MemoryStore

from ..base.errors import OutputError
from ..base.json_text import json_value
from ..base.location import Location
from ..base.store_errors import ANSWER_WITHIN_S, explained
from ..base.stores import open_store, wait_for

SETTLE_S = 0.5
"""Some S3 servers ignore the condition of a PUT and keep the later of two: read after a pause."""

_LAYOUT: Final = ("shape", "data_type", "dtype", "chunk_grid", "chunks")
_one_at_a_time = threading.Lock()  # memory:// has no exclusive creation


def built_in_memory(build: Callable[[Store], Any]) -> dict[str, bytes]:
    """Return what ``build`` writes to a store, by key, in the order of the first writing."""
    contents: dict[str, Buffer] = {}
    build(MemoryStore(contents))
    return {key: buffer.to_bytes() for key, buffer in contents.items()}


def put_missing(output: Location, documents: Mapping[str, bytes]) -> None:
    """Write the documents that are missing, in order; existing ones stay as they are.

    Raises OutputError if an existing array has another layout, or if the store cannot be written.
    """
    store = open_store(output, read_only=False)
    for key, content in documents.items():
        with explained(OutputError, output):
            existing = read_bytes(store, key)
            if existing is None:
                _put_if_missing(store, key, content)
        if existing not in (None, content):
            _check_layout(output, key, _parsed(output, key, existing), json_value(content))


def put_new(output: Location, key: str, content: bytes) -> bool:
    """Write a small file unless it exists; return whether its content is now this one.

    If several writers put different contents at the same moment, one gets True. Raises OutputError
    if the store cannot be written.
    """
    with explained(OutputError, output), _one_at_a_time:
        store = open_store(output, read_only=False)
        if (existing := read_bytes(store, key)) is None:
            _put_if_missing(store, key, content)
            if not output.is_local and output.scheme != "memory":
                time.sleep(SETTLE_S)
            existing = read_bytes(store, key)
    return existing == content


def read_bytes(store: Store, key: str) -> bytes | None:
    """Return the content of a small file, or None if it does not exist."""
    found = wait_for(store.get(key, default_buffer_prototype()), timeout_s=ANSWER_WITHIN_S)
    return None if found is None else found.to_bytes()


def put_bytes(store: Store, key: str, content: bytes) -> None:
    """Write a small file, whether or not it exists."""
    buffer = default_buffer_prototype().buffer.from_bytes(content)
    wait_for(store.set(key, buffer), timeout_s=ANSWER_WITHIN_S)


def _put_if_missing(store: Store, key: str, content: bytes) -> None:
    try:
        _put_exclusively(store, key, content)
    except (OSError, NotImplementedError):  # it exists by now, or the store has no such operation
        if read_bytes(store, key) is None:
            put_bytes(store, key, content)


def _put_exclusively(store: Store, key: str, content: bytes) -> None:
    """Write a file that does not exist; Zarr's default for remote stores is not atomic."""
    if isinstance(store, FsspecStore):
        path = f"{store.path.rstrip('/')}/{key}"
        wait_for(store.fs._pipe_file(path, content, mode="create"), timeout_s=ANSWER_WITHIN_S)
        return
    buffer = default_buffer_prototype().buffer.from_bytes(content)
    wait_for(store.set_if_not_exists(key, buffer), timeout_s=ANSWER_WITHIN_S)


def _parsed(output: Location, key: str, content: bytes) -> Mapping[str, Any]:
    try:
        document = json_value(content)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise OutputError(
            f"{output / key} is damaged: check the output with overtile verify … --repair, then "
            "start the same run again"
        )
    return document


def _check_layout(
    output: Location, key: str, existing: Mapping[str, Any], wanted: Mapping[str, Any]
) -> None:
    if any(existing.get(name) != wanted.get(name) for name in _LAYOUT):
        raise OutputError(
            f"{output / key.rpartition('/')[0]} exists and is another array: "
            "choose another output, or replace it with --overwrite"
        )
