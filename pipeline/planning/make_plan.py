"""The plan of a volume: sizes that the user leaves open are chosen."""

from __future__ import annotations

from collections.abc import Sequence

from ..base.errors import PlanError
from ..base.geometry import Box, Halo, Shape, round_up
from .blocks import BlockPlan, check_count, check_multiple
from .budget import clip
from .chunk_fit import InputLayout, fitted_to_chunks
from .network import Network
from .tile_choice import WORKERS, choose_block, choose_tile


def make_plan(
    shape: Shape,
    network: Network,
    *,
    block: Shape | None = None,
    tile: Shape | None = None,
    memory_bytes: int = 2**31,
    layout: InputLayout | None = None,
    origin: Shape = (0, 0, 0),
    within: Box | None = None,
) -> BlockPlan:
    """Return the plan for a volume, or for a box of it; sizes that are not given are chosen.

    block, tile: cores in voxels, clipped to the volume. memory_bytes: for one tile on the device.
    layout: of the input; without it, its chunks do not matter. origin: the box's first voxel.
    within: what is computed, by default everything.
    Raises PlanError for sizes that are invalid or do not fit.
    """
    divisor = network.divisor
    phase = tuple(o % d for o, d in zip(origin, divisor, strict=True))
    tiled = tuple(n + p for n, p in zip(shape, phase, strict=True))  # from the first tile's start
    enough = tuple(round_up(n, d) for n, d in zip(tiled, divisor, strict=True))
    for name, sizes in (("block", block), ("tile", tile)):
        if sizes is not None:
            if len(sizes) != len(shape):
                raise PlanError(f"{name} ({','.join(map(str, sizes))}): expected three sizes z,y,x")
            check_multiple(name, sizes, divisor)
    if block is not None:
        block = clip(block, tuple(round_up(n, d) for n, d in zip(shape, divisor, strict=True)))
        tile = tile or choose_tile(block, network, memory_bytes=memory_bytes)
    elif tile is not None:
        block = core_of_tiles(choose_block(tiled, clip(tile, enough)), shape, phase, divisor)
    else:
        block, tile = choose_both(
            shape, network, memory_bytes=memory_bytes, layout=layout, origin=origin
        )
    return BlockPlan(
        shape=shape,
        core=block,
        tile=clip(tile, enough),
        halo=Halo.same_on_both_sides(network.halo),
        divisor=divisor,
        origin=origin,
        within=within,
    )


def choose_both(
    shape: Shape,
    network: Network,
    *,
    memory_bytes: int,
    layout: InputLayout | None,
    origin: Shape,
    workers: Sequence[int] = WORKERS,
) -> tuple[Shape, Shape]:
    """Return a block and a tile for a volume; parameters are those of :func:`make_plan`.

    workers: possible numbers of workers, equally likely.
    """
    phase = tuple(o % d for o, d in zip(origin, network.divisor, strict=True))
    tiled = tuple(n + p for n, p in zip(shape, phase, strict=True))
    tile = choose_tile(tiled, network, memory_bytes=memory_bytes, workers=workers)
    block = choose_block(tiled, tile)
    check_count(tiled, block)
    if layout is not None:
        block, tile = fitted_to_chunks(
            block, tile, shape=tiled, network=network, layout=layout, memory_bytes=memory_bytes
        )
    return core_of_tiles(block, shape, phase, network.divisor), tile


def core_of_tiles(whole_tiles: Shape, shape: Shape, phase: Shape, divisor: Shape) -> Shape:
    """Return the largest core for which no block needs more than these whole tiles.

    A block of a box that starts off the pooling grid starts ``phase`` voxels after its first tile,
    so its core is one divisor shorter than its tiles. (A remainder of ``phase`` voxels would cost a
    pass through the network with a whole halo around it.)
    """
    core = []
    for length, size, start, step in zip(whole_tiles, shape, phase, divisor, strict=True):
        if start == 0:
            core.append(length)
        elif length >= size + start:
            core.append(round_up(size, step))
        else:
            core.append(max(step, length - step))
    return tuple(core)
