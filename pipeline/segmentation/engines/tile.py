"""One tile: what is stored of it, or its scores; halved where the device has too little memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...base.choices import OutputName
from ...base.geometry import Box, Shape, round_up
from ...base.tile_request import StoredPlanes, TileRequest
from ...models.protocol import Predictor
from ...models.stored import stored_planes
from ...planning.blocks import BlockPlan, tile_input
from ...volume.intensity import Intensity

Read: TypeAlias = Callable[[Box], NDArray[Any]]
"""From a box to its raw voxels (c, z, y, x)."""
Put: TypeAlias = Callable[[Box, StoredPlanes], None]
"""Takes a box and what is stored of its voxels."""
OnShare: TypeAlias = Callable[[Box, float], None]
"""Takes a tile and the share of its work that is done."""

T = TypeVar("T")
Stage = Literal["read", "wait", "device", "write"]


def no_share(tile: Box, share: float) -> None:
    """Take the share of a tile that is done, and drop it."""


_device = threading.Semaphore(1)
"""Lets one thread of a process use the device at a time."""


@dataclass(slots=True)
class StageClock:
    """Seconds per stage of one block; also reported to Dask."""

    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("read", "wait", "device", "write"), 0.0)
    )

    @contextmanager
    def stage(self, name: Stage) -> Iterator[None]:
        """Add the time spent inside to a stage."""
        from distributed.metrics import context_meter  # here: `overtile plan` needs no cluster

        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self.seconds[name] += spent
            context_meter.digest_metric(name, spent, "seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class TileWork:
    """Everything that the stored voxels of a tile depend on, the same for all tiles of a run."""

    predictor: Predictor
    plan: BlockPlan
    intensity: Intensity
    outputs: tuple[tuple[OutputName, str], ...]
    """Kind and dtype of each array that is stored."""

    @property
    def request(self) -> TileRequest:
        """What is asked of the predictor."""
        return TileRequest(
            offset=self.intensity.offset,
            scale=self.intensity.scale,
            outputs=self.outputs,
            traversal=self.plan.traversal,
        )


def compute_tile(
    read: Read,
    core: Box,
    put: Put,
    *,
    work: TileWork,
    clock: StageClock,
    on_share: OnShare = no_share,
) -> None:
    """Put what is stored of a tile's core, some planes at a time.

    read: returns the raw voxels (c, z, y, x) of a box. A tile that does not fit in the device's
    memory is halved at a multiple of the divisor, which does not change what is stored; a swept one
    in y or x, for its memory hardly depends on z. Planes that were put before are put again.
    on_share: called with a tile and the share of it that is done, where it is put late.
    """
    if _computed(read, core, put, work=work, clock=clock, on_share=on_share):
        return
    is_swept = work.plan.traversal == "sweep"
    halves = halved(core, work.plan.divisor, first_axis=1 if is_swept else 0)
    if halves is None:
        raise MemoryError(
            f"the device has too little memory {'to sweep' if is_swept else 'for'} a tile of "
            f"{core.shape}: use a smaller network"
        )
    for half in halves:
        in_new_thread(
            partial(compute_tile, read, half, put, work=work, clock=clock, on_share=on_share)
        )


def in_new_thread(call: Callable[[], T]) -> T:
    """Return what a call gives in a new thread, in the context of this one.

    Where memory ran out in oneDNN, it computes nothing new in that thread any more.
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(copy_context().run, call).result()


def _computed(
    read: Read, core: Box, put: Put, *, work: TileWork, clock: StageClock, on_share: OnShare
) -> bool:
    """Put what is stored of a tile; return False if it does not fit in the device's memory.

    The error is handled here because its frames keep the tile's activations alive.
    """
    outer = tile_input(core, work.plan.halo, work.predictor.input_shape)

    def raw(start: int, stop: int) -> NDArray[Any]:
        z = outer.start[0]
        return read(Box((z + start, *outer.start[1:]), (z + stop, *outer.stop[1:])))

    request = replace(work.request, on_share=lambda share: on_share(core, share))
    planes = stored_planes(
        work.predictor, raw, request, input_shape=outer.shape, core_shape=core.shape,
        turn=lambda: _turn(clock),
    )  # fmt: skip
    first = core.start[0]
    try:
        with closing(planes):
            for stored in planes:
                stop = first + len(stored.classes_zyx)
                put(Box((first, *core.start[1:]), (stop, *core.stop[1:])), stored)
                first = stop
    except MemoryError:
        return False
    assert first == core.stop[0], "a predictor gives all planes of a core"
    return True


@contextmanager
def _turn(clock: StageClock) -> Iterator[None]:
    """Wait for the device and keep it."""
    with clock.stage("wait"):
        _device.acquire()
    try:
        with clock.stage("device"):
            yield
    finally:
        _device.release()


def tile_scores(
    read: Read,
    core: Box,
    *,
    predictor: Predictor,
    plan: BlockPlan,
    intensity: Intensity,
    clock: StageClock,
) -> NDArray[np.float32]:
    """Return the scores (class, z, y, x) of one tile's core.

    read: returns the raw voxels (c, z, y, x) of a box. A tile that does not fit in the device's
    memory is halved at a multiple of the divisor, which does not change the scores.
    """
    box = tile_input(core, plan.halo, predictor.input_shape)
    scores = _on_device(predictor, intensity.apply(read(box)), clock)
    if scores is not None:
        return scores[(slice(None), *Box.of_shape(core.shape).slices)]
    halves = halved(core, plan.divisor)
    if halves is None:
        raise MemoryError(
            f"the device has too little memory for a tile of {core.shape}: use a smaller network"
        )
    whole = np.empty((len(predictor.class_names), *core.shape), np.float32)
    for half in halves:
        whole[(slice(None), *half.relative_to(core.start).slices)] = in_new_thread(
            partial(
                tile_scores, read, half, predictor=predictor, plan=plan, intensity=intensity,
                clock=clock,
            )
        )  # fmt: skip
    return whole


def _on_device(
    predictor: Predictor, x_czyx: NDArray[np.float32], clock: StageClock
) -> NDArray[np.float32] | None:
    """Return the scores of one input, or None if it does not fit in the device's memory.

    The error is handled here because its frames keep the tile's activations alive.
    """
    try:
        with _turn(clock):
            return predictor(x_czyx[None])[0]
    except MemoryError:
        return None


def halved(core: Box, divisor: Shape, *, first_axis: int = 0) -> tuple[Box, Box] | None:
    """Return two halves of a tile along its longest axis, on the grid; None if it is too small.

    first_axis: the first one that may be cut.
    """
    sizes = list(enumerate(zip(core.shape, divisor, strict=True)))
    axes = [a for a, (n, d) in sizes[first_axis:] if n > d]
    if not axes:
        return None
    axis = max(axes, key=lambda a: core.shape[a])
    middle = core.start[axis] + round_up(-(-core.shape[axis] // 2), divisor[axis])
    stop, start = list(core.stop), list(core.start)
    stop[axis] = start[axis] = middle
    return Box(core.start, tuple(stop)), Box(tuple(start), core.stop)
