"""The plan of a volume: sizes that the user leaves open are chosen."""

from __future__ import annotations

from ..base.errors import PlanError
from ..base.geometry import Halo, Shape, round_up
from .blocks import BlockPlan, check_multiple
from .budget import Network, clip
from .chunk_fit import InputLayout, fitted_to_chunks
from .tile_choice import WORKERS, choose_block, choose_tile


def make_plan(
    shape: Shape,
    network: Network,
    *,
    block: Shape | None = None,
    tile: Shape | None = None,
    memory_bytes: int = 2**31,
    layout: InputLayout | None = None,
) -> BlockPlan:
    """Return the plan for a volume; sizes that are not given are chosen.

    block, tile: cores in voxels, clipped to the volume. memory_bytes: for one tile on the device.
    layout: of the input; without it, its chunks do not matter.
    Raises PlanError for sizes that are invalid or do not fit.
    """
    divisor = network.divisor
    enough = tuple(round_up(n, d) for n, d in zip(shape, divisor, strict=True))
    for name, sizes in (("block", block), ("tile", tile)):
        if sizes is not None:
            if len(sizes) != len(shape):
                raise PlanError(f"{name} ({','.join(map(str, sizes))}): expected three sizes z,y,x")
            check_multiple(name, sizes, divisor)
    if block is not None:
        block = clip(block, enough)
        tile = tile or choose_tile(block, network, memory_bytes=memory_bytes)
    elif tile is not None:
        block = choose_block(shape, clip(tile, enough))
    else:
        tile = choose_tile(shape, network, memory_bytes=memory_bytes, workers=WORKERS)
        block = choose_block(shape, tile)
        if layout is not None:
            block, tile = fitted_to_chunks(
                block, tile, shape=shape, network=network, layout=layout, memory_bytes=memory_bytes
            )
    return BlockPlan(
        shape=shape,
        core=block,
        tile=clip(tile, enough),
        halo=Halo.same_on_both_sides(network.halo),
        divisor=divisor,
    )
