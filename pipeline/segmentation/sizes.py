"""The sizes of blocks and tiles: those of the request, of the job that it resumes, or chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..models.protocol import Predictor, outputs_of
from ..planning.blocks import BlockPlan
from ..planning.budget import reckon, tiles_bytes
from ..planning.network import Remembered
from ..planning.tile_choice import WORKERS
from ..planning.tile_memory import ASSUMED_BYTES, WorkerRoom, choose_memory
from ..planning.traversal import ChosenPlan, Given, choose_plan
from ..volume.volume import VolumeSource
from .images import image_specs, input_layout, storage_layout
from .part import Part
from .request import SegmentRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """A plan, why it was chosen, and the memory of a tile that it was made for."""

    plan: BlockPlan
    reason: str
    tile_memory_bytes: int
    room: WorkerRoom | None
    """What a worker can spare, if the plan depends on it."""


@dataclass(frozen=True, slots=True)
class _Priced:
    """A plan with its costs, for the choice of the memory of a tile."""

    chosen: ChosenPlan
    work: float
    tile_bytes: int
    worker_bytes: int


def choose_sizes(
    request: SegmentRequest,
    predictor: Predictor,
    source: VolumeSource,
    part: Part,
    *,
    stored: Mapping[str, Any],
    room: WorkerRoom | None,
) -> Sizes:
    """Return the plan, with the sizes of the stored job where the request leaves them open.

    room: what a worker can spare, if it is known. Raises PlanError.
    """
    given, network = _given(request, stored, room), Remembered(predictor)

    def chosen(memory_bytes: int) -> ChosenPlan:
        return choose_plan(
            given,
            part.output_box.shape,
            network,
            memory_bytes=memory_bytes,
            layout=input_layout(source),
            origin=part.output_box.start,
            within=part.within,
        )

    def priced(memory_bytes: int) -> _Priced:
        plan = chosen(memory_bytes)
        images = image_specs(
            request, source, plan.plan, predictor.class_names, outputs_of(predictor)
        )
        layout = storage_layout(source, images, request)
        budget = reckon(plan.plan, network, layout, regions=1)
        return _Priced(plan, plan.work, tiles_bytes(plan.plan, budget), budget.worker_memory_bytes)

    is_open = given.tile is None
    if is_open and room is not None and request.tile_memory_bytes is None:
        found, memory_bytes = choose_memory(priced, room)
        plan = found.chosen
    else:
        memory_bytes = request.tile_memory_bytes or ASSUMED_BYTES
        plan = chosen(memory_bytes)
    if stored.get("block") and request.block is None:  # a chosen one may be longer than the volume
        plan = replace(plan, plan=replace(plan.plan, core=tuple(stored["block"])))
    return Sizes(
        plan=plan.plan,
        reason=plan.reason,
        tile_memory_bytes=memory_bytes,
        room=room if is_open else None,
    )


def _given(request: SegmentRequest, stored: Mapping[str, Any], room: WorkerRoom | None) -> Given:
    """Return what the request decides, and the stored job where the request leaves it open."""
    block = request.block or tuple(stored.get("block") or ()) or None
    tile, traversal = request.tile, request.traversal
    if tile is None and (not request.block or list(request.block) == stored.get("block")):
        tile = tuple(stored.get("tile") or ()) or None
        if stored and traversal == "auto":
            traversal = stored.get("traversal") or "tiles"
    if request.engine != "store" and traversal == "auto":
        traversal = "tiles"
    shares = request.share.of if request.share else 1  # they run at the same time
    workers = (room.workers * shares,) if room and room.workers else WORKERS
    return Given(block=block, tile=tile, traversal=traversal, workers=workers)
