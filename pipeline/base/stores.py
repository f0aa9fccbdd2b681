"""Opens Zarr stores and reads the metadata of their nodes.

Local paths, ``s3://``, ``http(s)://``, ``memory://`` (this process only) and all others that fsspec
supports. Options come from the environment variables of each store's own tools:
``AWS_ENDPOINT_URL``, ``AWS_PROFILE``, ``AWS_ACCESS_KEY_ID`` … for S3; ``FSSPEC_S3_ANON=1`` for a
public bucket without credentials; fsspec's configuration files for everything else.
"""

from __future__ import annotations

import asyncio
import functools
import os
import stat
import threading
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar
from urllib.parse import urlsplit

import zarr
from zarr.abc.store import Store
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import FsspecStore, LocalStore

from .denied_is_absent import DOCUMENTS as DOCUMENTS
from .denied_is_absent import DeniedIsAbsentStore
from .errors import OutputError, VolumeError
from .json_text import json_value
from .location import Location
from .loopback import is_loopback
from .remote_store import RemoteStore
from .shard_store import ShardStore
from .store_errors import ANSWER_WITHIN_S, explained, is_missing_bucket, one_line

_S3: Final = ("s3", "s3a")
_lock = threading.RLock()
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """An array or a group: its metadata document and its attributes."""

    kind: Literal["array", "group"]
    zarr_format: Literal[2, 3]
    document: Mapping[str, Any]
    attributes: Mapping[str, Any]


def open_store(location: Location, *, read_only: bool = True) -> Store:
    """Return the Zarr store at a location; opened once per process. Reads and writes nothing."""
    with _lock:
        return _store(location, read_only, _endpoint(location))


def fsspec_options(location: Location) -> dict[str, Any]:
    """Return the options with which fsspec opens a location's file system."""
    return _s3_options(_endpoint(location)) if location.scheme in _S3 else {}


def file_system(location: Location) -> tuple[Any, str]:
    """Return fsspec's file system of a location, and the path of the location in it.

    A local path is never parsed: fsspec would take `::` in a name for a chain of URIs, and then
    read, write and delete files of another folder.
    """
    import fsspec

    if location.is_local:
        return fsspec.filesystem("file"), location.uri
    system, path = fsspec.url_to_fs(location.uri, **fsspec_options(location))
    return system, path


def _endpoint(location: Location) -> str | None:
    """Return the S3 endpoint that the environment sets, None for other stores."""
    named = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return named if location.scheme in _S3 else None


@functools.lru_cache(maxsize=64)
def _store(location: Location, read_only: bool, s3_endpoint: str | None) -> Store:
    if location.is_local:
        return LocalStore(location.path, read_only=read_only)
    options = _s3_options(s3_endpoint) if location.scheme in _S3 else None
    kind = DeniedIsAbsentStore if read_only else RemoteStore
    return kind.from_url(location.uri, storage_options=options, read_only=read_only)


def _s3_options(endpoint: str | None) -> dict[str, Any]:
    """Return options with timeouts of seconds; the user's own fsspec settings override them."""
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
        if is_loopback(urlsplit(endpoint).hostname):  # botocore would ask the environment's proxy
            options["config_kwargs"]["proxies"] = {}
    configured = fsspec.config.conf.get("s3", {})
    return {name: value for name, value in options.items() if name not in configured}


def open_array(store: Location, path: str, *, token: str = "") -> zarr.Array[Any]:
    """Return an array for reading and writing.

    token: the run's token. With one, the opened array is cached in this process. Another token
    opens the array again, so that a worker never writes with stale metadata of a replaced output.
    Raises OutputError.
    """
    if not token:
        return _writable_array(store, path)
    with _lock:
        return _cached_array(store, path, token)


@functools.lru_cache(maxsize=64)
def _cached_array(store: Location, path: str, token: str) -> zarr.Array[Any]:
    return _writable_array(store, path)


def _writable_array(store: Location, path: str) -> zarr.Array[Any]:
    with explained(OutputError, store / path):
        return zarr.open_array(open_store(store, read_only=False), path=path, mode="r+")


def open_shards(store: Location, path: str, *, token: str) -> zarr.Array[Any]:
    """Return an array for writing whole shards; see :class:`ShardStore`. Cached by the run's token.

    Raises OutputError.
    """
    with _lock:
        return _cached_shards(store, path, token)


@functools.lru_cache(maxsize=64)
def _cached_shards(store: Location, path: str, token: str) -> zarr.Array[Any]:
    with explained(OutputError, store / path):
        shards = ShardStore(open_store(store, read_only=False))
        return zarr.open_array(shards, path=path, mode="r+")


def forget_arrays() -> None:
    """Empty the cache of ``open_array`` in this process; call it after an output was deleted."""
    with _lock:
        _cached_array.cache_clear()
        _cached_shards.cache_clear()


def open_group(location: Location, *, mode: Literal["r", "r+"] = "r") -> zarr.Group:
    """Return the group at the root of a store; it must exist. Raises OutputError."""
    with explained(OutputError, location):
        store = open_store(location, read_only=mode == "r")
        return zarr.open_group(store, mode=mode, use_consolidated=False)


def wait_for(request: Coroutine[Any, Any, T], *, timeout_s: float | None) -> T:
    """Run a store's coroutine on Zarr's own event loop, where its connections live."""
    return sync(request, timeout=timeout_s)


def read_node(store: Location, *, path: str = "") -> Node | None:
    """Return the array or group at ``path`` in the store, or None if there is none.

    Needs neither consolidated metadata nor listing. Raises VolumeError if the store cannot be
    reached, denies access, or holds invalid Zarr metadata.
    """
    node = store / path
    if node.is_local:
        _check_files(node)
    with explained(VolumeError, node):
        prefix = f"{path}/" if path else ""
        texts = wait_for(_read_documents(open_store(store), prefix), timeout_s=ANSWER_WITHIN_S)
    documents = {name: _parsed(text, node / name) for name, text in texts.items()}
    return _node(documents, node)


def _check_files(node: Location) -> None:
    """Raise VolumeError for metadata that is a pipe or a device: reading it may never end."""
    for name in DOCUMENTS:
        path = node.path / name
        try:
            mode = path.stat().st_mode
        except (OSError, ValueError):  # it does not exist; reading it reports anything else
            continue
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise VolumeError(f"{node / name} is not a file (a pipe or a device): remove it")


async def _read_documents(store: Store, prefix: str) -> dict[str, bytes]:
    """Return the documents found. A denied one counts as missing if another one was found."""
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
        if isinstance(store, FsspecStore):  # its own `get` hides that the bucket does not exist
            content: bytes = await store.fs._cat_file(f"{store.path.rstrip('/')}/{key}")
            return content
        buffer = await store.get(key, prototype=default_buffer_prototype())
        return buffer.to_bytes() if buffer is not None else None
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        if is_missing_bucket(error):
            raise
        return None


def _parsed(text: bytes, where: Location) -> Mapping[str, Any]:
    try:
        document, why = json_value(text), ""
    except ValueError as error:
        document, why = None, f" ({one_line(str(error), limit=100)})"
    if not isinstance(document, dict):
        raise VolumeError(f"{where} is not Zarr metadata{why}: expected a JSON object")
    return document


def _node(documents: Mapping[str, Mapping[str, Any]], where: Location) -> Node | None:
    if (document := documents.get("zarr.json")) is not None:
        kind = document.get("node_type")
        if kind not in ("array", "group") or document.get("zarr_format") != 3:
            raise VolumeError(f"{where / 'zarr.json'} is neither a Zarr v3 array nor a group")
        attributes = document.get("attributes") or {}
        if not isinstance(attributes, dict):
            raise VolumeError(
                f"{where / 'zarr.json'} is damaged: its attributes are not a JSON object"
            )
        return Node(kind=kind, zarr_format=3, document=document, attributes=attributes)
    attributes = documents.get(".zattrs", {})
    if (document := documents.get(".zarray")) is not None:
        return Node(kind="array", zarr_format=2, document=document, attributes=attributes)
    if documents:
        document = documents.get(".zgroup", {})
        return Node(kind="group", zarr_format=2, document=document, attributes=attributes)
    return None


def stored_bytes(store: Location, path: str) -> int | None:
    """Return the size of everything below a path, or None if the store cannot tell."""
    try:
        return wait_for(open_store(store).getsize_prefix(path), timeout_s=ANSWER_WITHIN_S)
    except Exception:  # many HTTP servers cannot list
        return None


def list_names(location: Location) -> tuple[str, ...] | None:
    """Return the names directly inside a folder, sorted, or None if it cannot be listed."""

    async def names() -> list[str]:
        return [name async for name in open_store(location).list_dir("")]

    try:
        found = wait_for(names(), timeout_s=10)
    except Exception:  # many HTTP servers cannot list
        return None
    return tuple(sorted({name.strip("/") for name in found} - {""}))
