"""The cells of an array: what one task writes at once, as files, and as a digest of these.

A cell of level 0 is a block, a cell of a coarser level is a shard. The digest covers the bytes that
are stored, so that any changed bit is found, and without decoding.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..base.geometry import Box, Shape
from ..base.shard_store import ShardStore, digest_of_files


@dataclass(frozen=True, slots=True, kw_only=True)
class CellDigest:
    """The digest of one cell. Shapes have the axes of the array."""

    path: str
    """Of the array in the output."""
    cells: Shape
    """Number of cells per axis."""
    size: Shape
    """Voxels of a cell, per axis."""
    index: Shape
    """Position among the cells."""
    value: int


def written_block(array: Any, path: str, *, core: Box, block: Shape, channels: bool) -> CellDigest:
    """Return the digest of a block that was just written to an array of ``open_shards``.

    core, block: the voxels that were written, and the size of blocks, both z, y, x. channels:
    whether the first axis of the array is that of channels, which are written together.
    """
    first = int(channels)
    spatial = array.ndim - first
    box = Box(
        (0,) * first + core.start[3 - spatial :], array.shape[:first] + core.stop[3 - spatial :]
    )
    return written_cell(array, path, box=box, size=array.shape[:first] + block[3 - spatial :])


def written_cell(array: Any, path: str, *, box: Box, size: Shape) -> CellDigest:
    """Return the digest of a cell that was just written. size: of cells, in voxels."""
    store: ShardStore = array.store
    digests = [(name, store.take(key_of(array, name))) for name, _ in files_in(array, box)]
    return CellDigest(
        path=path,
        cells=tuple(-(-n // s) for n, s in zip(array.shape, size, strict=True)),
        size=tuple(size),
        index=tuple(a // s for a, s in zip(box.start, size, strict=True)),
        value=digest_of_files(digests),
    )


def files_in(array: Any, box: Box) -> Iterator[tuple[str, Box]]:
    """Yield the files that hold a box, whether or not they exist: name below the array, its box."""
    stored = array.shards or array.chunks
    ranges = (
        range(a // s, -(-b // s)) for a, b, s in zip(box.start, box.stop, stored, strict=True)
    )
    for place in itertools.product(*ranges):
        start = tuple(p * s for p, s in zip(place, stored, strict=True))
        unclipped = Box(start, tuple(a + s for a, s in zip(start, stored, strict=True)))
        name: str = array.metadata.encode_chunk_key(place)
        yield name, unclipped.clipped_to(Box.of_shape(array.shape))


def key_of(array: Any, name: str) -> str:
    """Return the key, in the array's store, of a file below the array."""
    return f"{array.store_path.path}/{name}".lstrip("/")
