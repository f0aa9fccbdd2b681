"""Opens Zarr stores, and reads the few small documents that describe a node.

Local paths, ``s3://``, ``http(s)://``, ``memory://`` (this process only) and whatever else fsspec
knows. Options come from the environment, as the tools of each store read them:
``AWS_ENDPOINT_URL``, ``AWS_PROFILE``, ``AWS_ACCESS_KEY_ID`` … for S3; ``FSSPEC_S3_ANON=1`` for a
public bucket without credentials; fsspec's configuration files for everything else.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import threading
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

import zarr
from zarr.abc.store import Store
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import FsspecStore, LocalStore

from .errors import OutputError, VolumeError
from .location import Location
from .store_errors import ANSWER_WITHIN_S, explained

DOCUMENTS: Final = ("zarr.json", ".zarray", ".zgroup", ".zattrs")

_S3: Final = ("s3", "s3a")
_lock = threading.RLock()
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """An array or a group: its metadata document, and its attributes apart from it."""

    kind: Literal["array", "group"]
    zarr_format: Literal[2, 3]
    document: Mapping[str, Any]
    attributes: Mapping[str, Any]


def open_store(location: Location, *, read_only: bool = True) -> Store:
    """Return the Zarr store at a location; opened once per process. Touches nothing yet."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    with _lock:
        return _store(location, read_only, endpoint if location.scheme in _S3 else None)


@functools.lru_cache(maxsize=64)
def _store(location: Location, read_only: bool, s3_endpoint: str | None) -> Store:
    if location.is_local:
        return LocalStore(location.path, read_only=read_only)
    options = _s3_options(s3_endpoint) if location.scheme in _S3 else None
    return FsspecStore.from_url(location.uri, storage_options=options, read_only=read_only)


def _s3_options(endpoint: str | None) -> dict[str, Any]:
    """Give up in seconds on an S3 that does not answer; the user's own settings win."""
    import fsspec.config

    options: dict[str, Any] = {
        "config_kwargs": {
            "connect_timeout": 5,
            "read_timeout": 60,
            "retries": {"mode": "standard", "max_attempts": 3},
        },
        "use_listings_cache": False,
    }
    if endpoint:
        options["endpoint_url"] = endpoint
    configured = fsspec.config.conf.get("s3", {})
    return {name: value for name, value in options.items() if name not in configured}


def open_array(store: Location, path: str, *, token: str = "") -> zarr.Array[Any]:
    """Return an array for reading and writing.

    token: what the output was made under, e.g. the run's id. With one, the opened array is kept for
    this process; another token opens anew, so that a worker never writes with what it remembers of
    an output that was replaced. Raises OutputError.
    """
    if not token:
        return _writable_array(store, path)
    with _lock:
        return _kept_array(store, path, token)


@functools.lru_cache(maxsize=64)
def _kept_array(store: Location, path: str, token: str) -> zarr.Array[Any]:
    return _writable_array(store, path)


def _writable_array(store: Location, path: str) -> zarr.Array[Any]:
    with explained(OutputError, store / path):
        return zarr.open_array(open_store(store, read_only=False), path=path, mode="r+")


def forget_arrays() -> None:
    """Close what ``open_array`` keeps in this process: an output was deleted."""
    with _lock:
        _kept_array.cache_clear()


def open_group(location: Location, *, mode: Literal["r", "r+"] = "r") -> zarr.Group:
    """Return the group at the root of a store; it must be there. Raises OutputError."""
    with explained(OutputError, location):
        store = open_store(location, read_only=mode == "r")
        return zarr.open_group(store, mode=mode, use_consolidated=False)


def wait_for(answer: Coroutine[Any, Any, T], *, timeout_s: float | None) -> T:
    """Run a store's coroutine on Zarr's own event loop, where its connections live."""
    return sync(answer, timeout=timeout_s)


def read_node(store: Location, *, path: str = "") -> Node | None:
    """Return the array or group at ``path`` in the store, or None where there is none.

    Consolidated metadata and listing are not needed. Raises VolumeError where the store is out of
    reach, closed to us, or holds documents that are no Zarr metadata.
    """
    node = store / path
    with explained(VolumeError, node):
        prefix = f"{path}/" if path else ""
        texts = wait_for(_read_documents(open_store(store), prefix), timeout_s=ANSWER_WITHIN_S)
    documents = {name: _parsed(text, node / name) for name, text in texts.items()}
    return _node(documents, node)


async def _read_documents(store: Store, prefix: str) -> dict[str, bytes]:
    """Return the documents that are there. Denied counts as missing where another one is there."""
    answers = await asyncio.gather(
        *(_read_bytes(store, prefix + name) for name in DOCUMENTS), return_exceptions=True
    )
    found = {
        name: answer
        for name, answer in zip(DOCUMENTS, answers, strict=True)
        if isinstance(answer, bytes)
    }
    failures = [answer for answer in answers if isinstance(answer, BaseException)]
    if failures and not found:
        raise failures[0]
    return found


async def _read_bytes(store: Store, key: str) -> bytes | None:
    try:
        if isinstance(store, FsspecStore):  # its own `get` hides that a whole bucket is missing
            content: bytes = await store.fs._cat_file(f"{store.path.rstrip('/')}/{key}")
            return content
        buffer = await store.get(key, prototype=default_buffer_prototype())
        return buffer.to_bytes() if buffer is not None else None
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        if "bucket does not exist" in str(error):
            raise
        return None


def _parsed(text: bytes, where: Location) -> Mapping[str, Any]:
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise VolumeError(f"{where} is no Zarr metadata: it is not a JSON object")
    return document


def _node(documents: Mapping[str, Mapping[str, Any]], where: Location) -> Node | None:
    if (document := documents.get("zarr.json")) is not None:
        kind = document.get("node_type")
        if kind not in ("array", "group") or document.get("zarr_format") != 3:
            raise VolumeError(f"{where / 'zarr.json'} describes neither an array nor a group")
        attributes = document.get("attributes") or {}
        return Node(kind=kind, zarr_format=3, document=document, attributes=attributes)
    attributes = documents.get(".zattrs", {})
    if (document := documents.get(".zarray")) is not None:
        return Node(kind="array", zarr_format=2, document=document, attributes=attributes)
    if documents:
        document = documents.get(".zgroup", {})
        return Node(kind="group", zarr_format=2, document=document, attributes=attributes)
    return None


def list_names(location: Location) -> tuple[str, ...] | None:
    """Return the names directly inside a folder, sorted, or None where it cannot be listed."""

    async def names() -> list[str]:
        return [name async for name in open_store(location).list_dir("")]

    try:
        found = wait_for(names(), timeout_s=10)
    except Exception:  # many HTTP servers cannot list: this serves messages only
        return None
    return tuple(sorted({name.strip("/") for name in found} - {""}))
