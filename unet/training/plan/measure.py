"""Some steps of a training, measured on its ranks; no state is kept."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median
from typing import Any

from torch import Tensor

from ...samples.loader import batches_ahead
from ...samples.sampling import shares
from ..learner import Learner
from ..loop import TrainingJob, sample_maker
from ..parallel.sums import sum_step
from ..ranks import RankLike
from .memory import PeakMemory
from .patches import Patch, first_patches

WARM_UP, MEASURED = 2, 10
"""Steps. The first ones allocate memory and choose algorithms."""
FORWARD_PASSES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredSteps:
    """What a rank measured."""

    device: str
    seconds: tuple[float, ...]
    """From step to step, with the wait for samples."""
    wait_share: float
    """Share of this time in which the device waited for a batch."""
    tile_s: float
    """Of the network's forward pass over a patch, as in a validation."""
    memory_bytes: int
    """At its peak; of the GPU, or of the whole process on a CPU."""
    empty_patches: int
    """Patches of these steps in which no voxel is known."""
    patches: tuple[Patch, ...]
    """The first ones of the training; empty on all ranks but the first."""

    @property
    def step_s(self) -> float:
        """The median step."""
        return median(self.seconds)


def measure_as_rank(job: TrainingJob, rank: RankLike) -> Any:
    """Return MeasuredSteps; ``rank.yielded`` if the ranks were asked to leave."""
    training = job.recipe.training
    memory = PeakMemory(rank.device)
    learner = Learner(
        job.recipe.network,
        training,
        device=rank.device,
        world_size=rank.world_size,
        outputs=job.outputs,
        schedule=job.schedule,
    )
    maker = sample_maker(job, device=rank.device)
    numbers = shares(job.batch, rank=rank.rank, world_size=rank.world_size)
    seconds: list[float] = []
    waited, empty = 0.0, 0
    mark = time.perf_counter()
    for step, batch in enumerate(batches_ahead(maker, range(WARM_UP + MEASURED), numbers)):
        arrived = time.perf_counter()
        within = min(step, training.steps - 1)  # a short training has fewer steps
        loss = learner.step(batch, step=within, batch_size=job.batch)
        known = sum_step(
            loss=float(loss), stops=rank.should_stop(), regroups=False, waited_s=arrived - mark,
            rank=rank.rank, world_size=rank.world_size, device=learner.device,
        )  # fmt: skip
        if known.stops:
            return rank.yielded
        learner.update(within)
        ended = time.perf_counter()
        if step >= WARM_UP:
            seconds.append(ended - mark)
            waited += known.waited_s
            empty += int((batch.weights.flatten(1) == 0).all(dim=1).sum())
        mark = ended
    return MeasuredSteps(
        device=rank.device,
        seconds=tuple(seconds),
        wait_share=waited / sum(seconds),
        tile_s=_tile_s(learner, batch.x[:1]),
        memory_bytes=memory.peak_bytes(),
        empty_patches=empty,
        patches=first_patches(maker, batch=job.batch) if rank.rank == 0 else (),
    )


def _tile_s(learner: Learner, x: Tensor) -> float:
    """Return the seconds of a forward pass: the fastest of some, as the first one is slow."""
    model = learner.best()
    times: list[float] = []
    for _ in range(FORWARD_PASSES):
        began = time.perf_counter()
        learner.probabilities(model, x).cpu()
        times.append(time.perf_counter() - began)
    return min(times)
