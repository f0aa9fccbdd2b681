"""Where arrays live: URIs, Zarr stores, and the few small documents that describe a node.

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
import re
import threading
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import zarr
from zarr.abc.store import Store
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import FsspecStore, LocalStore

from .errors import OutputError, OvertileError, VolumeError
from .store_errors import ANSWER_WITHIN_S, explained, redacted

DOCUMENTS: Final = ("zarr.json", ".zarray", ".zgroup", ".zattrs")

_SCHEME = re.compile(r"^([a-zA-Z][a-zA-Z0-9+.-]*)://")
_lock = threading.RLock()
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """An array or a group: its metadata document, and its attributes apart from it."""

    kind: Literal["array", "group"]
    zarr_format: Literal[2, 3]
    document: Mapping[str, Any]
    attributes: Mapping[str, Any]


def scheme_of(uri: str) -> str:
    """Return the scheme of a URI in lower case, ``"file"`` for a local path.

    >>> scheme_of("S3://bucket/in.zarr"), scheme_of("in.zarr")
    ('s3', 'file')
    """
    match = _SCHEME.match(uri)
    return match.group(1).lower() if match else "file"


def is_local(uri: str) -> bool:
    """Return whether ``uri`` is a path of this machine's file system."""
    return scheme_of(uri) in ("file", "local")


def normalised_uri(uri: str, *, kind: type[OvertileError] = VolumeError) -> str:
    """Return ``uri`` in one spelling: absolute where local, no trailing slash.

    ``~`` is expanded, ``file://`` is dropped, symbolic links stay. Raises ``kind`` where it is
    empty or has a query (a store is many files, so a signed link to one of them opens nothing).
    """
    text = str(uri).strip()
    if not text or "\0" in text:
        raise kind("no path is given: say where it is, e.g. in.zarr or s3://bucket/in.zarr")
    if is_local(text):
        path = _SCHEME.sub("", text)
        return str(Path(os.path.abspath(os.path.expanduser(path))))
    scheme = scheme_of(text)
    if scheme in ("http", "https") and ("?" in text or "#" in text):
        raise kind(
            f"{redacted(text)} has a query, and a Zarr store is many files: "
            "give the address of its folder"
        )
    rest = re.sub(r"/{2,}", "/", _SCHEME.sub("", text)).rstrip("/")
    return f"{scheme}://{rest}"


def joined(uri: str, path: str) -> str:
    """Return the URI of ``path`` inside ``uri``.

    >>> joined("s3://bucket/in.zarr", "labels/cells"), joined("/in.zarr", "")
    ('s3://bucket/in.zarr/labels/cells', '/in.zarr')
    """
    return f"{uri.rstrip('/')}/{path}" if path else uri


def parent_of(uri: str) -> tuple[str, str] | None:
    """Return the URI one folder up and the last name, or None where there is no folder above.

    >>> parent_of("s3://bucket/in.zarr/s0"), parent_of("s3://bucket")
    (('s3://bucket/in.zarr', 's0'), None)
    """
    scheme, _, rest = uri.rpartition("://")
    above, _, name = rest.rpartition("/")
    if not above or not name:
        return None
    return (f"{scheme}://{above}" if scheme else above), name


def open_store(uri: str, *, read_only: bool = True) -> Store:
    """Return the Zarr store at a normalised URI; opened once per process. Touches nothing yet."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    with _lock:
        return _store(uri, read_only, endpoint if scheme_of(uri) in ("s3", "s3a") else None)


@functools.lru_cache(maxsize=64)
def _store(uri: str, read_only: bool, s3_endpoint: str | None) -> Store:
    if is_local(uri):
        return LocalStore(uri, read_only=read_only)
    options = _s3_options(s3_endpoint) if scheme_of(uri) in ("s3", "s3a") else None
    return FsspecStore.from_url(uri, storage_options=options, read_only=read_only)


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


def open_array(uri: str, path: str, *, token: str = "") -> zarr.Array[Any]:
    """Return an array for reading and writing.

    token: what the output was made under, e.g. the run's id. With one, the opened array is kept for
    this process; another token opens anew, so that a worker never writes with what it remembers of
    an output that was replaced. Raises OutputError.
    """
    if not token:
        return _writable_array(normalised_uri(uri), path)
    with _lock:
        return _kept_array(normalised_uri(uri), path, token)


@functools.lru_cache(maxsize=64)
def _kept_array(uri: str, path: str, token: str) -> zarr.Array[Any]:
    return _writable_array(uri, path)


def _writable_array(uri: str, path: str) -> zarr.Array[Any]:
    with explained(OutputError, joined(uri, path)):
        return zarr.open_array(open_store(uri, read_only=False), path=path, mode="r+")


def forget_arrays() -> None:
    """Close what ``open_array`` keeps in this process: an output was deleted."""
    with _lock:
        _kept_array.cache_clear()


def open_group(uri: str, *, mode: Literal["r", "r+"] = "r") -> zarr.Group:
    """Return the group at the root of a store; it must be there. Raises OutputError."""
    uri = normalised_uri(uri, kind=OutputError)
    with explained(OutputError, uri):
        store = open_store(uri, read_only=mode == "r")
        return zarr.open_group(store, mode=mode, use_consolidated=False)


def wait_for(answer: Coroutine[Any, Any, T], *, timeout_s: float | None) -> T:
    """Run a store's coroutine on Zarr's own event loop, where its connections live."""
    return sync(answer, timeout=timeout_s)


def read_node(uri: str, *, path: str = "") -> Node | None:
    """Return the array or group at ``path`` in the store, or None where there is none.

    Consolidated metadata and listing are not needed. Raises VolumeError where the store is out of
    reach, closed to us, or holds documents that are no Zarr metadata.
    """
    with explained(VolumeError, joined(uri, path)):
        prefix = f"{path}/" if path else ""
        texts = wait_for(_read_documents(open_store(uri), prefix), timeout_s=ANSWER_WITHIN_S)
    documents = {name: _parsed(text, f"{joined(uri, path)}/{name}") for name, text in texts.items()}
    return _node(documents, joined(uri, path))


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


def _parsed(text: bytes, where: str) -> Mapping[str, Any]:
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise VolumeError(f"{redacted(where)} is no Zarr metadata: it is not a JSON object")
    return document


def _node(documents: Mapping[str, Mapping[str, Any]], where: str) -> Node | None:
    if (document := documents.get("zarr.json")) is not None:
        kind = document.get("node_type")
        if kind not in ("array", "group") or document.get("zarr_format") != 3:
            raise VolumeError(f"{redacted(where)}/zarr.json describes neither an array nor a group")
        attributes = document.get("attributes") or {}
        return Node(kind=kind, zarr_format=3, document=document, attributes=attributes)
    attributes = documents.get(".zattrs", {})
    if (document := documents.get(".zarray")) is not None:
        return Node(kind="array", zarr_format=2, document=document, attributes=attributes)
    if documents:
        document = documents.get(".zgroup", {})
        return Node(kind="group", zarr_format=2, document=document, attributes=attributes)
    return None


def list_names(uri: str) -> tuple[str, ...] | None:
    """Return the names directly inside a folder, sorted, or None where it cannot be listed."""

    async def names() -> list[str]:
        return [name async for name in open_store(uri).list_dir("")]

    try:
        found = wait_for(names(), timeout_s=10)
    except Exception:  # many HTTP servers cannot list: this serves messages only
        return None
    return tuple(sorted({name.strip("/") for name in found} - {""}))
