"""Intermediate results: one file each, named by stage and block, complete or absent.

They lie in the output's run group. A stage that finds its file does not compute it again, so a run
that was killed resumes where it was.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import threading
import typing
import zipfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
from numcodecs.zstd import Zstd
from numpy.typing import NDArray

from ...base.errors import OutputError, RunError
from ...base.geometry import Shape
from ...base.location import Location
from ...base.store_errors import explained, one_line
from ...base.stores import list_names, open_store, wait_for
from ...output.documents import put_bytes, read_bytes
from ...output.guard import RUN_GROUP

T = TypeVar("T")
FOLDER = f"{RUN_GROUP}/objects"
REUSABLE = ("labels", "graphs", "touching", "groups", "settled", "names")
"""Stages that depend on the labelling of the blocks alone, not on what is merged or kept then."""
_ZSTD = Zstd(level=1)
_VERSION_1 = np.lib.format.magic(1, 0)
_parsing = threading.Lock()
"""NumPy parses its headers with ``ast``, which fails in several threads at once ("recursion depth
mismatch", python/cpython#106905)."""


def file_name(index: Shape) -> str:
    """Return the name of a block's or group's file.

    >>> file_name((0, 12, 3))
    '0.12.3'
    """
    return ".".join(map(str, index))


@dataclasses.dataclass(frozen=True, slots=True)
class Intermediates:
    """The intermediate results inside an output. folder: below the run's, ends with a slash."""

    output: Location
    folder: str = ""
    reused: Location | None = None
    """Another output, whose results of the stages in ``REUSABLE`` count as well."""

    def _key(self, stage: str, name: str) -> str:
        return f"{FOLDER}/{self.folder}{stage}/{name}"

    def put(self, stage: str, name: str, value: Any) -> None:
        """Write a dataclass of arrays, whole. Raises OutputError."""
        self.put_packed(stage, name, pack(value))

    def put_packed(self, stage: str, name: str, content: bytes) -> None:
        """Write what :func:`pack` has returned. Raises OutputError."""
        with explained(OutputError, self.output):
            put_bytes(open_store(self.output, read_only=False), self._key(stage, name), content)

    def find(self, stage: str, name: str) -> bytes | None:
        """Return a file of this output, still packed; None without one. Raises OutputError."""
        with explained(OutputError, self.output):
            return read_bytes(open_store(self.output), self._key(stage, name))

    def get(self, stage: str, name: str, kind: type[T], *, part: str = "") -> T:
        """Read a dataclass of arrays. Raises RunError where it is missing or damaged.

        part: of what is stored, as ``faces/0,-1``; the arrays beside it are not decoded.
        """
        with explained(OutputError, self.output):
            content = read_bytes(open_store(self.output), self._key(stage, name))
            if content is None and self.reused is not None and is_reusable(stage):
                content = read_bytes(open_store(self.reused), self._key(stage, name))
        try:
            if content is None:
                raise ValueError("it is missing")
            return unpack(content, kind, part=part)
        except Exception as error:
            file, reason = self.output / self._key(stage, name), one_line(str(error))
            raise RunError(
                f"{file} cannot be read ({reason}): delete the folder "
                f"{self.output / FOLDER}, then start the same run again"
            ) from error

    def names(self, stage: str) -> Collection[str]:
        """Return the names of a stage's files."""
        places = [self.output]
        if self.reused is not None and is_reusable(stage):
            places.append(self.reused)
        found = [list_names(place / FOLDER / f"{self.folder}{stage}") or () for place in places]
        return frozenset(name for names in found for name in names if not name.endswith(".partial"))

    def delete(self) -> None:
        """Delete all of them."""
        with explained(OutputError, self.output):
            store = open_store(self.output, read_only=False)
            wait_for(store.delete_dir(FOLDER), timeout_s=None)


def is_reusable(stage: str) -> bool:
    """Return whether outputs with the same labelling share a stage."""
    return stage.partition("/")[0] in REUSABLE


def missing(items: Iterable[Shape], done: Collection[str]) -> Iterator[Shape]:
    """Yield the blocks or groups that have no file."""
    return (item for item in items if file_name(item) not in done)


def pack(value: Any) -> bytes:
    """Return a dataclass of arrays, numbers and such dataclasses as bytes; without pickle."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **dict(_flat("", value)))
    packed: bytes = _ZSTD.encode(buffer.getvalue())
    return packed


def unpack(content: bytes, kind: type[T], *, part: str = "") -> T:
    """Return what :func:`pack` wrote, or a part of it. Raises an error for damaged bytes."""
    below = f"{part}/" if part else ""
    with zipfile.ZipFile(io.BytesIO(_ZSTD.decode(content))) as archive:
        stored = {
            name.removeprefix(below).removesuffix(".npy"): _array(archive.read(name))
            for name in archive.namelist()
            if name.startswith(below)
        }
    return _nested(kind, stored)


def _array(stored: bytes) -> NDArray[Any]:
    """Return an array of the npy format; its header is parsed once for all arrays like it."""
    if not stored.startswith(_VERSION_1):
        raise ValueError("no npy header of version 1.0")
    length = len(_VERSION_1) + 2
    length += int.from_bytes(stored[length - 2 : length], "little")
    shape, is_fortran, dtype = _header(stored[:length])
    flat = np.frombuffer(stored, dtype, offset=length)
    return flat.reshape(shape, order="F" if is_fortran else "C").copy(order="K")


@functools.lru_cache(4096)
def _header(stored: bytes) -> tuple[Shape, bool, np.dtype[Any]]:
    header = io.BytesIO(stored[len(_VERSION_1) :])
    with _parsing:
        return np.lib.format.read_array_header_1_0(header)


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, NDArray[Any]]]:
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _flat(f"{prefix}{field.name}/", getattr(value, field.name))
    elif isinstance(value, Mapping):  # of faces, by axis and side
        for (axis, side), one in value.items():
            yield from _flat(f"{prefix}{axis},{side}/", one)
    else:
        yield prefix, np.asarray(value)


def _nested(kind: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return kind(
            **{name: _nested(inner, _below(arrays, name)) for name, inner in _fields(kind).items()}
        )
    if typing.get_origin(kind) in (Mapping, dict):
        _, inner = typing.get_args(kind)
        keys = dict.fromkeys(name.partition("/")[0] for name in arrays)
        return {
            tuple(map(int, key.split(","))): _nested(inner, _below(arrays, key)) for key in keys
        }
    (array,) = arrays.values()
    return array


def _below(arrays: Mapping[str, NDArray[Any]], name: str) -> Mapping[str, NDArray[Any]]:
    start = f"{name}/"
    return {key[len(start) :]: array for key, array in arrays.items() if key.startswith(start)}


@functools.cache
def _fields(kind: type) -> Mapping[str, Any]:
    return typing.get_type_hints(kind)
