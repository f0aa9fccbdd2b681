"""A training's plan: what it learns from, how long it takes, how much memory it needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from pipeline.base.errors import RunStoppedError

from ...samples.sampling import LabelledVolume, Shape
from ..prepare import PreparedTraining
from ..ranks import RunRanks
from ..run import failures_explained, settled_batch
from ..validation import MAX_TILES, MAX_VOXELS, PICTURE_SIDE, PICTURE_TILES
from .measure import MeasuredSteps, measure_as_rank
from .patches import Patch
from .statistics import Statistics, statistics_of


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlan:
    """What a training will do, and what some of its steps cost on its ranks."""

    statistics: Statistics
    batch: int
    ranks: int
    steps_left: int
    validations: int
    """That are left."""
    tiles: int
    """That rank 0 predicts in a validation, those of its picture included."""
    measured: tuple[MeasuredSteps, ...]
    """One per rank."""

    @property
    def step_s(self) -> float:
        """Seconds of the median step: the ranks wait for the slowest one."""
        return max(one.step_s for one in self.measured)

    @property
    def validation_s(self) -> float:
        """Seconds of a validation, without reading its tiles."""
        return self.tiles * max(one.tile_s for one in self.measured)

    @property
    def seconds_left(self) -> float:
        """Seconds of all steps and validations that are left, without checkpoints."""
        return self.steps_left * self.step_s + self.validations * self.validation_s

    @property
    def memory_bytes(self) -> int:
        """Of the rank that needs most."""
        return max(one.memory_bytes for one in self.measured)

    @property
    def empty_patches(self) -> int:
        """Of the measured steps."""
        return sum(one.empty_patches for one in self.measured)

    @property
    def patches(self) -> tuple[Patch, ...]:
        """The first patches of the training."""
        return self.measured[0].patches


def plan_training(prepared: PreparedTraining, run_ranks: RunRanks, *, ranks: int) -> TrainingPlan:
    """Run some steps on the ranks and return the plan. Nothing is written.

    prepared: its volumes are measured. Raises kinds of OvertileError, RunError, as a training does.
    """
    batch = settled_batch(prepared, run_ranks, ranks=ranks)
    job = prepared.job(batch=batch)
    ranks = min(ranks, batch)
    with failures_explained():
        measured = run_ranks(partial(measure_as_rank, job), ranks=ranks)
    if not all(isinstance(one, MeasuredSteps) for one in measured):
        raise RunStoppedError("stopped: nothing was measured, and nothing written")
    steps, dims = prepared.progress.schedule.steps, prepared.recipe.network.dims
    return TrainingPlan(
        statistics=statistics_of(
            [volume.shape_zyx for volume in job.volumes], job.surveys, core=job.core,
            patches=steps * batch,
        ),
        batch=batch,
        ranks=ranks,
        steps_left=steps - prepared.done_steps,
        validations=_validations_left(prepared) if job.validation else 0,
        tiles=tiles_of_rank_0(job.validation, job.core, dims=dims, ranks=ranks),
        measured=tuple(measured),
    )  # fmt: skip


def _validations_left(prepared: PreparedTraining) -> int:
    """Return how many steps are validated: some, and the last one of each cycle."""
    every, done = prepared.recipe.training.validate_every, prepared.done_steps
    schedule = prepared.progress.schedule
    ends = (schedule.steps, *(start for start, _ in schedule.cycles[1:]))
    between = [step for step in ends if step > done and step % every]
    return schedule.steps // every - done // every + len(between)


def tiles_of_rank_0(
    volumes: Sequence[LabelledVolume], core: Shape, *, dims: int, ranks: int
) -> int:
    """Return how many tiles rank 0 predicts in a validation; see validation.py."""
    grids = [
        tuple(-(-size // step) for size, step in zip(volume.shape_zyx, core, strict=True))
        for volume in volumes
    ]
    if not grids:
        return 0
    tiles = min(sum(map(math.prod, grids)), max(MAX_TILES, MAX_VOXELS // math.prod(core)))
    across = [
        min(max(1, PICTURE_SIDE // step), PICTURE_TILES[dims], count)
        for step, count in zip(core[1:], grids[0][1:], strict=True)
    ]
    return -(-tiles // ranks) + math.prod(across)
