"""How a volume goes through the network, in tiles or in sweeps, and the plan for it.

Both give the scores of the whole volume. What differs is the work: tiles compute each other's halos
again in all directions, a sweep hardly along z, and its memory leaves room for longer sides in y
and x. Operations take as long in either way (measured: a sweep's were 1.0 to 1.15 times as fast,
``docs/performance-details.md``), so the plan of fewer operations is chosen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ..base.choices import Traversal
from ..base.errors import PlanError
from ..base.geometry import Box, Shape, round_up
from ..base.text import flops_text, shape_text
from .blocks import BlockPlan, check_multiple
from .budget import clip
from .chunk_fit import InputLayout, reading_flops
from .make_plan import choose_both, core_of_tiles, make_plan
from .network import Network, can_sweep
from .swept import SweptTiles
from .tile_choice import WORKERS, choose_tile, volume_flops, volume_work

WORTH_SWEEPING = 0.97
"""A sweep is chosen where its work is below this part of the tiles'."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a request, or the job that it resumes, decides; the rest is chosen."""

    block: Shape | None = None
    tile: Shape | None = None
    traversal: Traversal = "auto"
    """``auto`` with a tile means tiles."""
    workers: tuple[int, ...] = WORKERS
    """Possible numbers of workers, equally likely."""


@dataclass(frozen=True, slots=True)
class ChosenPlan:
    """A plan, and why its tiles go through the network as they do."""

    plan: BlockPlan
    reason: str
    work: float
    """Operations that the volume takes as long as, idle workers and reading included."""


def choose_plan(
    given: Given,
    shape: Shape,
    network: Network,
    *,
    memory_bytes: int,
    layout: InputLayout,
    origin: Shape = (0, 0, 0),
    within: Box | None = None,
) -> ChosenPlan:
    """Return the plan of the least work; parameters are those of :func:`make_plan`.

    Raises PlanError for sizes that are invalid or do not fit, and for a sweep that the network
    does not allow.
    """

    def chosen(plan: BlockPlan, reason: str) -> ChosenPlan:
        return ChosenPlan(plan, reason, _work(plan, network, layout, given.workers))

    def tiled() -> BlockPlan:
        block, tile = given.block, given.tile
        if block is None and tile is None:
            block, tile = choose_both(
                shape, network, memory_bytes=memory_bytes, layout=layout, origin=origin,
                workers=given.workers,
            )  # fmt: skip
        return make_plan(
            shape, network, block=block, tile=tile, memory_bytes=memory_bytes, origin=origin,
            within=within,
        )  # fmt: skip

    def swept() -> BlockPlan:
        column = _column(given, shape, network, memory_bytes, origin)
        block = given.block or _one_column(column, shape, network, origin)
        plan = make_plan(shape, network, block=block, tile=column, origin=origin, within=within)
        return replace(plan, traversal="sweep")

    if given.traversal == "tiles" or (given.traversal == "auto" and given.tile is not None):
        return chosen(tiled(), "as given")
    if given.traversal == "sweep":
        _check_sweeps(network)
        return chosen(swept(), "as given")
    if not can_sweep(network):
        return chosen(tiled(), "this network cannot be swept, or would gain little")
    return _cheapest([chosen(plan, "") for plan in _possible(tiled, swept)], network)


def _possible(*makers: Callable[[], BlockPlan]) -> list[BlockPlan]:
    """Return the plans that fit. Raises the first PlanError where none does."""
    plans, problems = [], []
    for make in makers:
        try:
            plans.append(make())
        except PlanError as error:
            problems.append(error)
    if not plans:
        raise problems[0]
    return plans


def _cheapest(plans: list[ChosenPlan], network: Network) -> ChosenPlan:
    """Return the plan of the least work, with the operations of both as the reason."""
    best = min(plans, key=lambda one: one.work)
    if len(plans) == 1:
        return replace(best, reason="nothing else fits the tile memory")
    other = next(one for one in plans if one is not best)
    reason = f"{_cost_text(best.plan, network)}; {_cost_text(other.plan, network)}"
    return replace(best, reason=reason)


def _cost_text(plan: BlockPlan, network: Network) -> str:
    per_voxel = volume_flops(plan.tile, plan.shape, network) / math.prod(plan.shape)
    way = "in tiles" if plan.traversal == "tiles" else "in sweeps"
    return f"{flops_text(per_voxel)} per voxel {way} of {shape_text(plan.tile)}"


def _work(plan: BlockPlan, network: Network, layout: InputLayout, workers: Sequence[int]) -> float:
    """Return the operations that a plan takes as long as, idle workers and reading included."""
    margin = 1.0 if plan.traversal == "tiles" else 1 / WORTH_SWEEPING
    tiled = tuple(n + p for n, p in zip(plan.shape, plan.phase, strict=True))
    computing = volume_work(plan.tile, tiled, network, workers=workers)
    return margin * computing + reading_flops(plan.core, plan.shape, network, layout)


def _column(
    given: Given, shape: Shape, network: Network, memory_bytes: int, origin: Shape
) -> Shape:
    """Return the swept tile: that given, or the one of the least work."""
    if given.tile is not None:
        return given.tile
    if given.block is not None:
        check_multiple("block", given.block, network.divisor)
        inside = clip(given.block, _rounded(shape, network))
        return choose_tile(inside, SweptTiles(network), memory_bytes=memory_bytes)
    phase = tuple(o % d for o, d in zip(origin, network.divisor, strict=True))
    tiled = tuple(n + p for n, p in zip(shape, phase, strict=True))
    return choose_tile(tiled, SweptTiles(network), memory_bytes=memory_bytes, workers=given.workers)


def _one_column(column: Shape, shape: Shape, network: Network, origin: Shape) -> Shape:
    """Return the block of one swept tile."""
    phase = tuple(o % d for o, d in zip(origin, network.divisor, strict=True))
    check_multiple("tile", column, network.divisor)
    whole = clip(column, _rounded(tuple(map(sum, zip(shape, phase, strict=True))), network))
    return core_of_tiles(whole, shape, phase, network.divisor)


def _rounded(shape: Shape, network: Network) -> Shape:
    return tuple(round_up(n, d) for n, d in zip(shape, network.divisor, strict=True))


def _check_sweeps(network: Network) -> None:
    if not can_sweep(network):
        raise PlanError(
            "--traversal sweep: this network cannot be swept (it is 2-D, uses statistics of the "
            "whole tile, or is not overtile's own); use --traversal auto"
        )
