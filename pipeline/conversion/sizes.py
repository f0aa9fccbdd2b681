"""The shards and chunks of a converted image, and the blocks that tasks write: pure.

A block is one or more shards. Where the input can only be decoded in large pieces, such as whole
planes, a block is as large as these, so that each piece is decoded once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from ..base.errors import PlanError
from ..base.geometry import Shape, round_up
from ..base.text import shape_text
from ..planning.tile_choice import choose_chunk

VOLUME_SHARD: Final = (64, 512, 512)
PLANE_SHARD: Final = (1, 4096, 4096)
CHUNK_MULTIPLE: Final = 64
BLOCK_BYTES: Final = 2**29
"""Most bytes of a block, all channels together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Voxels in z, y, x: a block is whole shards, and a shard is whole chunks."""

    block: Shape
    shard: Shape
    chunk: Shape


def choose_sizes(
    shape: Shape,
    stored_chunk: Shape,
    *,
    voxel_bytes: int,
    shard: Shape | None = None,
    chunk: Shape | None = None,
) -> Sizes:
    """Return the sizes for an image; those that are given stay.

    stored_chunk: the unit in which the input is decoded. voxel_bytes: of all channels. Raises
    PlanError if a chunk does not divide its shard.
    """
    is_fixed = shard is not None
    shard = shard or _shard(shape, chunk)
    block = _block(shape, shard, stored_chunk)
    while math.prod(block) * voxel_bytes > BLOCK_BYTES and not is_fixed:
        if shard[0] % 2 or stored_chunk[0] > shard[0] // 2 or (chunk and shard[0] // 2 % chunk[0]):
            break
        shard = (shard[0] // 2, *shard[1:])
        block = _block(shape, shard, stored_chunk)
    if math.prod(block) * voxel_bytes > BLOCK_BYTES:
        block = shard
    chosen = chunk or choose_chunk(shard)
    if any(s % c for s, c in zip(shard, chosen, strict=True)):
        raise PlanError(
            f"chunk {shape_text(chosen)} does not divide shard {shape_text(shard)}: pass --shard "
            "in multiples of --chunk"
        )
    return Sizes(block=block, shard=shard, chunk=chosen)


def _shard(shape: Shape, chunk: Shape | None) -> Shape:
    """Return the usual shard, no larger than the image needs."""
    usual = VOLUME_SHARD if shape[0] > 1 else PLANE_SHARD
    unit = chunk or (1, CHUNK_MULTIPLE, CHUNK_MULTIPLE)
    return tuple(
        max(u, min(n // u * u, round_up(size, u)))
        for n, size, u in zip(usual, shape, unit, strict=True)
    )


def _block(shape: Shape, shard: Shape, stored_chunk: Shape) -> Shape:
    """Return whole shards that hold a piece of the input along each axis."""
    return tuple(
        round_up(min(max(s, piece), round_up(size, s)), s)
        for s, piece, size in zip(shard, stored_chunk, shape, strict=True)
    )
