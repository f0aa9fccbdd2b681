"""What a plan costs in operations, bytes, files and memory: integers in, integers out.

Costs are summed per axis and multiplied, so a plan of 10^6 blocks is priced as fast as one of ten.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ..base.choices import DECODED_CACHE_BYTES
from ..base.geometry import Shape, round_up
from .blocks import BlockPlan
from .network import Network, sweep_memory_bytes, takes_raw_planes

CHUNKS_AT_ONCE = 16
"""Chunks of one read that exist at the same time (measured: zarr 10, tensorstore up to 25)."""
COMPRESSED_SHARE = 0.5
"""Size of a compressed chunk, which is held until it is decoded, as a part of the decoded one."""

PROCESS_BYTES = 380 * 2**20
"""A worker with Dask, Zarr and torch loaded and used, CPU build of torch.

Measured with one small block: 370 MiB where it was spawned, 301 MiB where it was forked.
"""
KEPT_TILES = 2
"""Tiles of memory in a worker: one that is computed, and what the allocator keeps in pieces.

Measured by hand on a local cluster: peaks of up to 1.95 tiles (2-D, float32). The memory of a sweep
contains what the allocator keeps.
benchmarks/worker_memory.py compares stated and measured memory.
"""
KEPT_BLOCKS = 1
"""Blocks of memory besides one per thread, which the allocator keeps in pieces.

Measured on a slide of 58,368 x 58,368 RGB voxels of uint16: 290 MiB at blocks of 319 MiB.
"""
Summed: TypeAlias = Callable[[Sequence[Sequence[int]]], int]
"""The sum, over the blocks that are computed, of the product of one number per axis and block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How a volume and its output are stored, as far as it affects the cost."""

    channels: int
    itemsize: int
    chunk_zyx: Shape
    output_bytes_per_voxel: int
    files_per_block: int
    worker_threads: int = 3
    volume_zyx: Shape = ()
    """Shape of the whole volume, if the plan is of a box of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a plan costs: the blocks that are computed, the others cost nothing.

    Bytes are before compression, without the pyramid's coarser levels.
    """

    blocks: int
    regions: int
    tiles: int
    flops: int
    voxels: int
    bytes_read: int
    bytes_read_in_whole_chunks: int
    bytes_written: int
    files: int
    tile_memory_bytes: int
    block_memory_bytes: int
    worker_memory_bytes: int
    """The most that a worker process takes, its libraries and the allocator's rest included."""

    read_amplification: float
    """Voxels read per voxel written, in whole chunks: no part of a chunk can be read."""
    tile_amplification: float
    """Voxels that go through the network per voxel written."""


def every_block(per_axis: Sequence[Sequence[int]]) -> int:
    """Return the sum over all blocks; see :data:`Summed`."""
    return math.prod(map(sum, per_axis))


def reckon(
    plan: BlockPlan,
    network: Network,
    layout: Layout,
    *,
    regions: int,
    summed: Summed = every_block,
) -> Budget:
    """Return the cost of ``plan`` with this network. summed: over the blocks that are computed."""
    axes = range(len(plan.shape))
    sizes = [_tile_sizes(plan, axis) for axis in axes]
    tiles = flops = tile_input_voxels = tile_memory = 0
    for combination in itertools.product(*(counts.items() for counts in sizes)):
        shape = tuple(size for size, _ in combination)
        times = summed([counts for _, counts in combination])
        tiles += times
        flops += times * network.flops(shape)
        tile_input_voxels += times * math.prod(network.input_shape(shape))
        # Not always that of the largest: of smaller images, more may go through together.
        tile_memory = max(tile_memory, _tile_memory_bytes(plan, network, shape))
    whole = layout.volume_zyx or plan.shape
    spans = [_read_spans(plan, network, axis, whole[axis]) for axis in axes]
    voxel_bytes = layout.channels * layout.itemsize
    read = summed([[b - a for a, b in axis] for axis in spans])
    chunked = summed(
        [
            [min(round_up(b, chunk), size) - a // chunk * chunk for a, b in axis]
            for axis, chunk, size in zip(spans, layout.chunk_zyx, whole, strict=True)
        ]
    )
    voxels = summed([[b - a for a, b in _cores(plan, axis)] for axis in axes])
    blocks = summed([[1] * count for count in plan.grid])
    block_memory = _block_memory_bytes(plan, network, layout)
    return Budget(
        blocks=blocks,
        regions=regions,
        tiles=tiles,
        flops=flops,
        voxels=voxels,
        bytes_read=read * voxel_bytes,
        bytes_read_in_whole_chunks=chunked * voxel_bytes,
        bytes_written=voxels * layout.output_bytes_per_voxel,
        files=blocks * layout.files_per_block,
        tile_memory_bytes=tile_memory,
        block_memory_bytes=block_memory,
        worker_memory_bytes=PROCESS_BYTES
        + DECODED_CACHE_BYTES
        + _tiles_kept(plan) * tile_memory
        + (layout.worker_threads + KEPT_BLOCKS) * block_memory,
        read_amplification=chunked / max(1, voxels),
        tile_amplification=tile_input_voxels / max(1, voxels),
    )


def tiles_bytes(plan: BlockPlan, budget: Budget) -> int:
    """Return the memory of a worker that tiles take, what the allocator keeps included."""
    return _tiles_kept(plan) * budget.tile_memory_bytes


def _tiles_kept(plan: BlockPlan) -> int:
    return KEPT_TILES if plan.traversal == "tiles" else 1


def clip(size: Shape, shape: Shape) -> Shape:
    """Return ``size``, no axis longer than in ``shape``."""
    return tuple(min(a, b) for a, b in zip(size, shape, strict=True))


def _cores(plan: BlockPlan, axis: int) -> list[tuple[int, int]]:
    """Return the range of each block's core along an axis."""
    core, size = plan.core[axis], plan.shape[axis]
    return [(start, min(start + core, size)) for start in range(0, size, core)]


def _tile_sizes(plan: BlockPlan, axis: int) -> dict[int, list[int]]:
    """Return, by size, how many tiles each block has along an axis."""
    cores = _cores(plan, axis)
    sizes: dict[int, list[int]] = {}
    for number, ends in enumerate(cores):
        for start, stop in plan.tile_ranges(axis, *ends):
            sizes.setdefault(stop - start, [0] * len(cores))[number] += 1
    return sizes


def _read_spans(plan: BlockPlan, network: Network, axis: int, volume: int) -> list[tuple[int, int]]:
    """Return, for each block along an axis, the part of its outer box inside the volume.

    volume: the length of the whole volume along the axis.
    """
    low, origin = plan.halo.low[axis], plan.origin[axis]
    shape = list(clip(plan.tile, plan.shape))
    spans = []
    for ends in _cores(plan, axis):
        tiles = plan.tile_ranges(axis, *ends)
        if not tiles:
            spans.append((0, 0))
            continue
        (first, _), (last, stop) = tiles[0], tiles[-1]
        shape[axis] = stop - last
        reach = last - low + network.input_shape(shape)[axis]
        spans.append((max(0, origin + first - low), min(volume, origin + reach)))
    return spans


def _tile_memory_bytes(plan: BlockPlan, network: Network, tile: Shape) -> int:
    """Return the memory of one tile on the device."""
    if plan.traversal == "tiles":
        return network.memory_bytes(tile)
    need = sweep_memory_bytes(network, tile)
    assert need is not None, "a plan of sweeps has a network that can be swept"
    return need


def _block_memory_bytes(plan: BlockPlan, network: Network, layout: Layout) -> int:
    """Return the memory of one thread: the block as read, its output, a tile on the host."""
    core = clip(plan.core, plan.shape)
    tile = clip(plan.tile, plan.shape)
    outer_shape = tuple(
        c + p + n - t
        for c, p, n, t in zip(core, plan.phase, network.input_shape(tile), tile, strict=True)
    )
    outer = math.prod(outer_shape)
    # What a network normalises itself, or slab by slab, is in its own memory.
    on_host = plan.traversal == "tiles" and not takes_raw_planes(network)
    tile_voxels = math.prod(network.input_shape(tile)) if on_host else 0
    raw = outer * layout.channels * layout.itemsize
    # The block exists twice, as zarr read it and mirrored, and so does its output with the classes
    # that are counted: collected, and as it comes from the device or goes to the store.
    return (
        2 * raw
        + _open_chunks_bytes(outer_shape, layout.volume_zyx or plan.shape, layout)
        + 2 * 4 * layout.channels * tile_voxels
        + 2 * math.prod(core) * (layout.output_bytes_per_voxel + 1)
    )


def _open_chunks_bytes(outer: Shape, shape: Shape, layout: Layout) -> int:
    """Return the memory of the input's chunks that are decoded while a block is read."""
    chunk = clip(layout.chunk_zyx, shape)
    touched = math.prod(
        min(-(-size // length), -(-(n - 1) // length) + 1)
        for n, size, length in zip(outer, shape, chunk, strict=True)
    )
    chunk_bytes = math.prod(chunk) * layout.channels * layout.itemsize
    return int(min(touched, CHUNKS_AT_ONCE) * chunk_bytes * (1 + COMPRESSED_SHARE))
