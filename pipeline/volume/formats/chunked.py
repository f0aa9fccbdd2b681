"""An array that is read chunk by chunk, for formats that store strips, tiles or whole planes.

Decoded chunks are cached, ``DECODED_CACHE_BYTES`` per process: neighbouring blocks share them.
"""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...base.choices import DECODED_CACHE_BYTES
from .image import Selection


class ChunkedArray:
    """An array whose chunks a function reads.

    read_chunk: takes a chunk's position in the grid, returns its voxels: of shape ``chunks``, or
    cut at the array's end. Called from several threads at once.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        chunks: tuple[int, ...],
        dtype: np.dtype[Any],
        read_chunk: Callable[[tuple[int, ...]], NDArray[Any]],
    ) -> None:
        self.shape, self.chunks, self.dtype = shape, chunks, dtype
        self._read_chunk = read_chunk

    def __getitem__(self, selection: Selection) -> NDArray[Any]:
        """Return the voxels of slices inside the array and of single indices."""
        spans = [
            (one, one + 1) if isinstance(one, int) else one.indices(size)[:2]
            for one, size in zip(selection, self.shape, strict=True)
        ]
        found = np.empty(tuple(stop - start for start, stop in spans), self.dtype)
        for index in self._chunks_of(spans):
            self._copy(index, spans, found)
        squeezed = tuple(axis for axis, one in enumerate(selection) if isinstance(one, int))
        return found.squeeze(squeezed)

    def _chunks_of(self, spans: list[tuple[int, int]]) -> Iterator[tuple[int, ...]]:
        return itertools.product(
            *(
                range(start // chunk, -(-stop // chunk) if stop > start else start // chunk)
                for (start, stop), chunk in zip(spans, self.chunks, strict=True)
            )
        )

    def _copy(
        self, index: tuple[int, ...], spans: list[tuple[int, int]], into: NDArray[Any]
    ) -> None:
        chunk = _cache.get((id(self), index), lambda: self._read_chunk(index))
        source, target = [], []
        for i, size, (start, stop), length in zip(
            index, self.chunks, spans, self.shape, strict=True
        ):
            first, last = max(start, i * size), min(stop, (i + 1) * size, length)
            source.append(slice(first - i * size, last - i * size))
            target.append(slice(first - start, last - start))
        into[tuple(target)] = chunk[tuple(source)]

    def __del__(self) -> None:
        _cache.forget(id(self))


class _ChunkCache:
    """The chunks used last, at most ``DECODED_CACHE_BYTES`` in all. Thread-safe."""

    def __init__(self) -> None:
        self._chunks: OrderedDict[tuple[int, tuple[int, ...]], NDArray[Any]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.RLock()  # `forget` may run inside of `get`, by garbage collection

    def get(
        self, key: tuple[int, tuple[int, ...]], read: Callable[[], NDArray[Any]]
    ) -> NDArray[Any]:
        """Return a chunk, reading it only if it is not in the cache."""
        with self._lock:
            if key in self._chunks:
                self._chunks.move_to_end(key)
                return self._chunks[key]
        chunk = read()
        with self._lock:
            if chunk.nbytes <= DECODED_CACHE_BYTES // 4 and key not in self._chunks:
                self._chunks[key] = chunk
                self._bytes += chunk.nbytes
            while self._bytes > DECODED_CACHE_BYTES:
                self._bytes -= self._chunks.popitem(last=False)[1].nbytes
        return chunk

    def forget(self, array: int) -> None:
        """Drop the chunks of an array that no longer exists."""
        with self._lock:
            for key in [key for key in self._chunks if key[0] == array]:
                self._bytes -= self._chunks.pop(key).nbytes


_cache = _ChunkCache()
