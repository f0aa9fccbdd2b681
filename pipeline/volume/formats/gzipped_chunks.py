"""Precomputed chunks that are ``.gz`` files, as CloudVolume writes them to local disks.

tensorstore does not look for them: they would read as missing, as zeros. Each is decompressed
here, then decoded by tensorstore from memory.
"""

from __future__ import annotations

import gzip
import itertools
import json
import os
import threading
import zlib
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ...base.errors import VolumeError
from ...base.location import Location
from ...base.store_errors import one_line
from ...base.tensorstore_use import check_not_forked, reason, required
from .chunked import ChunkedArray

GZIP: Final = ".gz"
OTHERS: Final = (".br", ".zstd")
_INSPECTED: Final = 16


def suffix_of_chunks(folder: Location) -> str:
    """Return the suffix of the compressed files of a local scale, empty if they have none."""
    if not folder.is_local or not folder.path.is_dir():
        return ""
    with os.scandir(folder.path) as entries:
        names = [entry.name for entry in itertools.islice(entries, _INSPECTED)]
    return next((one for one in (GZIP, *OTHERS) if any(name.endswith(one) for name in names)), "")


def gzipped_array(
    store: Location, info: Mapping[str, Any], key: str, where: Location
) -> ChunkedArray:
    """Return a scale as an array c z y x. ``info``: the volume's document."""
    chunks = _Chunks(store, info, key, where)
    shape = (chunks.channels, *chunks.size[::-1])
    return ChunkedArray(
        shape, (chunks.channels, *chunks.chunk[::-1]), np.dtype(info["data_type"]), chunks.read
    )


class _Chunks:
    """The chunks of one scale; ``info`` lies in a store in memory, each chunk for a moment."""

    def __init__(self, store: Location, info: Mapping[str, Any], key: str, where: Location) -> None:
        self._where, self._folder = where, store / key
        self._tensorstore = required(VolumeError, where)
        scale = next(one for one in info["scales"] if one["key"] == key)
        self.size, self.chunk = scale["size"], scale["chunk_sizes"][0]
        self._offset = scale.get("voxel_offset", [0, 0, 0])
        self.channels = int(info.get("num_channels", 1))
        context = self._tensorstore.Context()
        memory = self._tensorstore.KvStore.open("memory://", context=context).result()
        only = {**info, "scales": [{**scale, "key": "chunks", "chunk_sizes": [self.chunk]}]}
        memory.write("info", json.dumps(only).encode()).result()
        spec = {"driver": "neuroglancer_precomputed", "kvstore": "memory://"}
        self._memory, self._in_memory = memory, threading.Lock()
        self._decoded = self._tensorstore.open(spec, context=context, read=True).result()

    def read(self, index: tuple[int, ...]) -> NDArray[Any]:
        """Return one chunk, (c, z, y, x), cut at the volume's end; zeros if it is missing."""
        check_not_forked(VolumeError, self._where)
        spans = [
            (offset + i * chunk, offset + min((i + 1) * chunk, size))
            for i, chunk, size, offset in zip(
                index[:0:-1], self.chunk, self.size, self._offset, strict=True
            )
        ]
        name = "_".join(f"{start}-{stop}" for start, stop in spans)
        content = self._content(name)
        if content is None:
            shape = (self.channels, *(stop - start for start, stop in reversed(spans)))
            return np.zeros(shape, self._decoded.dtype.numpy_dtype)
        place = tuple(slice(start, stop) for start, stop in spans)
        try:
            with self._in_memory:  # another thread would delete the chunk before it is read here
                self._memory.write(f"chunks/{name}", content).result()
                decoded = np.asarray(self._decoded[place].read().result()).T
                self._memory.write(f"chunks/{name}", None).result()
        except Exception as error:
            raise self._damaged(name, reason(error, self._where)) from error
        return decoded

    def _content(self, name: str) -> bytes | None:
        for path in (self._folder.path / f"{name}{GZIP}", self._folder.path / name):
            try:
                content = path.read_bytes()
            except FileNotFoundError:
                continue
            try:
                return gzip.decompress(content) if path.suffix == GZIP else content
            except (EOFError, OSError, zlib.error) as error:
                raise self._damaged(path.name, one_line(str(error))) from error
        return None

    def _damaged(self, name: str, why: str) -> VolumeError:
        return VolumeError(f"{self._where} cannot be read ({name}: {why})")
