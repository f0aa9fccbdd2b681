"""The scores of one tile: as a whole, or some planes at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...base.geometry import Box, Shape, round_up
from ...models.protocol import Predictor, Sweeps
from ...planning.blocks import BlockPlan, tile_input
from ...volume.intensity import Intensity

Read: TypeAlias = Callable[[Box], NDArray[Any]]
"""From a box to its raw voxels (c, z, y, x)."""
Put: TypeAlias = Callable[[Box, NDArray[np.float32]], None]
"""Takes a box and the scores (class, z, y, x) of its voxels."""

Stage = Literal["read", "wait", "device", "write"]

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
            with context_meter.meter(name):
                yield
        finally:
            self.seconds[name] += time.perf_counter() - start


@dataclass(frozen=True, slots=True, kw_only=True)
class TileWork:
    """Everything that the scores of a tile depend on, the same for all tiles of a run."""

    predictor: Predictor
    plan: BlockPlan
    intensity: Intensity


def compute_tile(read: Read, core: Box, put: Put, *, work: TileWork, clock: StageClock) -> None:
    """Put the scores of a tile's core, as the plan says: as a whole, or some planes at a time."""
    if work.plan.traversal == "sweep":
        sweep_tile(read, core, put, work=work, clock=clock)
        return
    scores = tile_scores(
        read,
        core,
        predictor=work.predictor,
        plan=work.plan,
        intensity=work.intensity,
        clock=clock,
    )
    put(core, scores)


def sweep_tile(read: Read, core: Box, put: Put, *, work: TileWork, clock: StageClock) -> None:
    """Put the scores of a tile's core some planes at a time.

    A tile that does not fit in the device's memory is halved in y or x: its memory hardly depends
    on z. Planes that were put before that are put again, with the same scores.
    """
    if _swept_on_device(read, core, put, work=work, clock=clock):
        return
    halves = halved(core, work.plan.divisor, first_axis=1)
    if halves is None:
        raise MemoryError(
            f"the device has too little memory to sweep a tile of {core.shape}: use a smaller "
            "network"
        )
    for half in halves:
        sweep_tile(read, half, put, work=work, clock=clock)


def _swept_on_device(read: Read, core: Box, put: Put, *, work: TileWork, clock: StageClock) -> bool:
    """Sweep a tile and put its scores; return False if it does not fit in the device's memory."""
    predictor = work.predictor
    assert isinstance(predictor, Sweeps), "a plan of sweeps has a predictor that can sweep"
    outer = tile_input(core, work.plan.halo, predictor.input_shape)

    def planes(start: int, stop: int) -> NDArray[np.float32]:
        z = outer.start[0]
        slab = Box((z + start, *outer.start[1:]), (z + stop, *outer.stop[1:]))
        return work.intensity.apply(read(slab))

    with clock.stage("wait"):
        _device.acquire()
    try:
        with clock.stage("device"):
            first = core.start[0]
            for scores in predictor.sweep(planes, outer.shape):
                stop = min(first + scores.shape[1], core.stop[0])
                slab = Box((first, *core.start[1:]), (stop, *core.stop[1:]))
                put(slab, scores[(slice(None), *Box.of_shape(slab.shape).slices)])
                if stop == core.stop[0]:
                    break
                first = stop
        return True
    except MemoryError:
        return False
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
        whole[(slice(None), *half.relative_to(core.start).slices)] = tile_scores(
            read, half, predictor=predictor, plan=plan, intensity=intensity, clock=clock
        )
    return whole


def _on_device(
    predictor: Predictor, x_czyx: NDArray[np.float32], clock: StageClock
) -> NDArray[np.float32] | None:
    """Return the scores of one input, or None if it does not fit in the device's memory.

    The error is handled here because its frames keep the tile's activations alive.
    """
    with clock.stage("wait"):
        _device.acquire()
    try:
        with clock.stage("device"):
            return predictor(x_czyx[None])[0]
    except MemoryError:
        return None
    finally:
        _device.release()


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
