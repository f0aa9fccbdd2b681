"""Blocks that suit the chunks of the input: each block reads every chunk that it needs as a whole.

Blocks are chosen for the network first. Where reading whole chunks would cost more than
:data:`WORTH_CHANGING` of the operations, other blocks are tried, and the cheapest sum wins.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ..base.geometry import Shape, round_up
from ..base.text import shape_text, size_text
from .blocks import BlockPlan
from .budget import Budget, clip
from .network import Network
from .tile_choice import BLOCK_VOXELS, BLOCKS_WANTED, SMALL_FLOPS, choose_tile, volume_flops

FLOPS_PER_BYTE: Final = 1000
"""Operations that take as long as reading and decoding a byte: 500 GFLOP/s and 0.5 GB/s."""
WORTH_CHANGING: Final = 0.1
TRIED: Final = 12
"""Blocks for which a tile is chosen; the others cannot be, or are hardly, cheaper."""
OFTEN: Final = 4.0
"""A person should know of it where every chunk is read more often than this."""
ADVISED_VOXELS: Final = 4 * BLOCK_VOXELS


@dataclass(frozen=True, slots=True, kw_only=True)
class InputLayout:
    """How the input is stored, as far as it affects what reading costs."""

    chunk_zyx: Shape
    voxel_bytes: int
    """Of all channels that are read."""


def voxels_in_whole_chunks(shape: Shape, core: Shape, halo: Shape, chunk: Shape) -> int:
    """Return the voxels of all chunks that all blocks read; a chunk counts once per block."""
    return math.prod(map(_along_axis, shape, core, halo, chunk))


@functools.lru_cache(maxsize=4096)
def _along_axis(size: int, core: int, halo: int, chunk: int) -> int:
    total = 0
    for start in range(0, size, core):
        stop = min(start + core + halo, size)
        total += min(round_up(stop, chunk), size) - max(0, start - halo) // chunk * chunk
    return total


def reading_flops(block: Shape, shape: Shape, network: Network, layout: InputLayout) -> int:
    """Return the operations that take as long as reading all blocks in whole chunks."""
    read = voxels_in_whole_chunks(shape, block, network.halo, layout.chunk_zyx)
    return FLOPS_PER_BYTE * read * layout.voxel_bytes


def fitted_to_chunks(
    core: Shape,
    tile: Shape,
    *,
    shape: Shape,
    network: Network,
    layout: InputLayout,
    memory_bytes: int,
) -> tuple[Shape, Shape]:
    """Return block and tile, others than those given where reading would cost too much.

    memory_bytes: for one tile.
    """

    def reading(block: Shape) -> int:
        return reading_flops(block, shape, network, layout)

    flops = volume_flops(tile, shape, network)
    least_read = FLOPS_PER_BYTE * math.prod(shape) * layout.voxel_bytes
    is_small = flops + reading(core) < SMALL_FLOPS
    if is_small or reading(core) - least_read < WORTH_CHANGING * flops:
        return core, tile
    blocks_wanted = min(BLOCKS_WANTED, _blocks(shape, core))
    bounds = []
    for block in _blocks_along_chunks(shape, network.divisor, layout.chunk_zyx):
        if math.prod(block) > BLOCK_VOXELS or _blocks(shape, block) < blocks_wanted:
            continue
        read = reading(block)
        if read < reading(core):
            bounds.append((read + volume_flops(block, shape, network), read, block))
    best: tuple[float, Shape, Shape] = flops + reading(core), core, tile
    for _, read, block in sorted(bounds)[:TRIED]:
        inner = clip(choose_tile(block, network, memory_bytes=memory_bytes), block)
        operations = volume_flops(inner, block, network) * math.prod(shape) / math.prod(block)
        best = min(best, (operations + read, block, inner))
    return best[1], best[2]


def _blocks(shape: Shape, block: Shape) -> int:
    return math.prod(-(-size // length) for size, length in zip(shape, block, strict=True))


def _blocks_along_chunks(shape: Shape, divisor: Shape, chunk: Shape) -> Iterator[Shape]:
    """Yield blocks whose sides are a chunk's times or divided by powers of two, or the volume's."""
    sides = [_sides(*each) for each in zip(shape, divisor, chunk, strict=True)]
    yield from itertools.product(*sides)


def _sides(size: int, divisor: int, chunk: int) -> list[int]:
    whole = round_up(size, divisor)
    lengths = {whole, divisor}
    for power in range(-16, 17):
        length = int(chunk * 2.0**power)
        if divisor <= length < whole:
            lengths.add(round_up(length, divisor))
    return sorted(lengths)


def chunk_note(
    plan: BlockPlan, budget: Budget, *, network: Network, layout: InputLayout
) -> str | None:
    """Return a note with the remedies where every chunk of the input is read often, else None."""
    times = budget.read_amplification
    if times < OFTEN:
        return None

    def reading(block: Shape) -> int:
        return voxels_in_whole_chunks(plan.shape, block, network.halo, layout.chunk_zyx)

    possible = _blocks_along_chunks(plan.shape, plan.divisor, layout.chunk_zyx)
    handy = [block for block in possible if math.prod(block) <= ADVISED_VOXELS]
    best = min(handy, key=lambda block: (reading(block), math.prod(block)), default=plan.core)
    remedy = "rewrite the input in smaller chunks with overtile convert"
    if (fewer := reading(best) / math.prod(plan.shape)) < times / 2:
        remedy = f"use --block {','.join(map(str, best))} ({fewer:.1f} times), or {remedy}"
    return (
        f"every chunk of the input, {shape_text(layout.chunk_zyx)} voxels, is read "
        f"{times:.1f} times, {size_text(budget.bytes_read_in_whole_chunks)} in all: {remedy}"
    )
