"""Stored chunks that a viewer asks for in pieces: each is decoded once, and held for the rest."""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from concurrent.futures import Future
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..base.geometry import Box
from ..volume.volume import VolumeSource, read_box

_HELD_BYTES: Final = 2**30


class DecodedChunks:
    """The decoded chunks that were read last. Thread-safe.

    most_bytes: of all chunks in memory; the last one is held even if it is larger.
    """

    def __init__(self, *, most_bytes: int = _HELD_BYTES) -> None:
        self._most_bytes = most_bytes
        self._chunks: OrderedDict[tuple[VolumeSource, Box], Future[NDArray[Any]]] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, source: VolumeSource, box: Box) -> NDArray[Any]:
        """Return the voxels of a box as :func:`read_box` does; raises VolumeError as it does."""
        values = np.empty((source.channel_count, *box.shape), source.read_dtype)
        whole = Box.of_shape(source.shape_zyx)
        sizes = source.chunk_shape_zyx
        numbers = (
            range(a // size, -(-b // size))
            for a, b, size in zip(box.start, box.stop, sizes, strict=True)
        )
        for index in itertools.product(*numbers):
            start = tuple(i * size for i, size in zip(index, sizes, strict=True))
            stop = tuple(a + size for a, size in zip(start, sizes, strict=True))
            chunk = Box(start, stop).clipped_to(whole)
            part = chunk.clipped_to(box)
            voxels = self._chunk(source, chunk)[(slice(None), *part.relative_to(start).slices)]
            values[(slice(None), *part.relative_to(box.start).slices)] = voxels
        return values

    def _chunk(self, source: VolumeSource, chunk: Box) -> NDArray[Any]:
        """Return a chunk: held, being decoded by another thread, or decoded here."""
        key = source, chunk
        with self._lock:
            found = self._chunks.get(key)
            mine = self._chunks.setdefault(key, Future())
            self._chunks.move_to_end(key)
        if found is not None:
            return found.result()
        try:
            values = read_box(source, chunk)
        except BaseException as error:
            with self._lock:
                del self._chunks[key]
            mine.set_exception(error)
            raise
        with self._lock:
            mine.set_result(values)
            self._drop_oldest()
        return values

    def _drop_oldest(self) -> None:
        decoded = {key: one.result().nbytes for key, one in self._chunks.items() if one.done()}
        held = sum(decoded.values())
        for key, size in [*decoded.items()][:-1]:
            if held <= self._most_bytes:
                return
            del self._chunks[key]
            held -= size
