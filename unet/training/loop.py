"""The training loop, top to bottom, for one process or many ranks.

Every rank runs the same :func:`train` with the same job; gradients are summed over the ranks, and
common decisions (to stop, that a loss is bad) are made by one small sum per step. A training that
was stopped, killed, lost a rank or takes in more ranks resumes from its last checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from pipeline.base.errors import TrainingError
from pipeline.base.network_outputs import NetworkOutputs

from ..network.model import UNet
from ..recipe.schedule import StepSchedule
from ..recipe.training_config import Recipe
from ..samples.known_share import expected_known_shares
from ..samples.loader import batches_ahead
from ..samples.maker import SampleMaker
from ..samples.rules.registry import outputs_of
from ..samples.sampling import LabelledVolume, PatchSampler, Shape, Survey, shares
from ..samples.weight_map import class_weights
from .checkpoint import Checkpoint, load_newest, load_step, save_checkpoint, what_is_kept
from .clock import StepClock
from .learner import Learner
from .messages import Message, Note, Validated
from .ownership import check_owner
from .parallel.sums import share_number, sum_step
from .picture import draw_validation
from .progress import Progress
from .ranks import Alone, RankLike
from .same_training import RANDOM_NUMBERS, check_same_schedule, check_same_training
from .selection.selection import Selection
from .selection.weights_files import WeightsFacts, keep_best
from .start.weights import StartWeights, check_same_start, start_record
from .validation import validate


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingJob:
    """All that a rank needs; small, picklable, the same for all ranks."""

    recipe: Recipe
    volumes: tuple[LabelledVolume, ...]
    surveys: tuple[Survey, ...]
    validation: tuple[LabelledVolume, ...]
    core: Shape
    """Voxels (z, y, x) that a patch learns; z is 1 for a 2-D network."""
    batch: int
    directory: Path
    """For checkpoints, log and pictures; every rank can write to it."""
    validation_surveys: tuple[Survey, ...] = ()
    data_sets: Mapping[str, Any] = field(default_factory=dict)
    """What the volumes are, as JSON: a training resumes only with the same ones."""
    owner: str = ""
    """Token of the start that may write into the directory; empty: not checked."""
    schedule: StepSchedule | None = None
    """None: one cycle of all steps."""
    facts: WeightsFacts = field(default_factory=WeightsFacts)
    """What the file of the best weights states."""
    start: StartWeights | None = None
    """What the first step starts from; None: random weights."""

    @property
    def outputs(self) -> NetworkOutputs:
        """What the channels of the network are, by the label rule."""
        return outputs_of(self.recipe.labels, dims=self.recipe.network.dims)

    @property
    def validates_start(self) -> bool:
        """Whether the weights to start from are scored; with a fresh head they are not."""
        starts = self.start is not None and self.start.takes_head(self.recipe)
        return starts and bool(self.validation)

    @property
    def class_weights(self) -> tuple[float, ...]:
        """The paper's w_c, from the labels of all volumes."""
        network = self.recipe.network
        if not self.recipe.training.class_balance:
            return (1.0,) * network.classes
        counts = map(sum, zip(*(survey.counts for survey in self.surveys), strict=True))
        return class_weights(tuple(counts))


@dataclass(frozen=True, slots=True)
class TrainingEnd:
    """How a training ended, or a part of it."""

    step: int
    finished: bool
    scores: Mapping[str, Any]
    """Those of the last validation; empty without one."""
    selection: Selection = field(default_factory=Selection)
    """The best validation."""
    stopped_early: bool = False
    """Whether it finished before its last step, as its patience ran out."""

    @classmethod
    def of(cls, progress: Progress) -> TrainingEnd:
        """Return the end of a training that leaves at this step."""
        return cls(
            progress.step,
            progress.is_over,
            progress.scores,
            progress.selection,
            progress.has_stopped_early,
        )


def train(job: TrainingJob, rank: RankLike | None = None) -> TrainingEnd:
    """Train from the last checkpoint on, to the end or until the ranks are asked to stop.

    Ranks that are asked to take in others leave at the next checkpoint.

    Either way the last state is in a checkpoint. Raises TrainingError for a loss that is NaN or
    infinite, and for a checkpoint that cannot be read or written; earlier checkpoints stay.
    """
    rank = rank or Alone()
    training = job.recipe.training
    learner, progress = _resumed(job, rank)
    if _owes_validation(job, progress):
        progress = _validated(job, learner, rank, progress)
        _save_all(job, learner, rank, progress)
    schedule = progress.schedule
    if progress.is_over:
        return TrainingEnd.of(progress)
    maker = sample_maker(job, device=rank.device)
    numbers = shares(job.batch, rank=rank.rank, world_size=rank.world_size)
    clock = StepClock(batch=job.batch)
    step = progress.step
    for batch in batches_ahead(maker, range(step, schedule.steps), numbers):
        waited_s = clock.since_step_s()
        loss = learner.step(batch, step=step, batch_size=job.batch)
        known = sum_step(
            loss=float(loss), stops=rank.should_stop(), regroups=rank.should_regroup(),
            waited_s=waited_s, rank=rank.rank, world_size=rank.world_size, device=learner.device,
        )  # fmt: skip
        if not math.isfinite(known.loss):
            raise _not_finite(job, step, known.loss)
        learner.update(step)
        step += 1
        progress = replace(progress, step=step)
        ends = schedule.ends_at(step)
        leaves = known.stops and not ends  # within seconds: the validation comes after the resume
        validates = _validates_at(job, progress) and not leaves
        saves = ends or known.stops or step % training.checkpoint_every == 0
        clock.stepped(known.loss, waited_s=known.waited_s)
        if rank.rank == 0 and (validates or saves or clock.is_report_due()):
            rate = learner.learning_rate_at(step - 1)
            _report(job, rank, clock.message(step=step, steps=schedule.steps, rate=rate))
        if validates:
            progress = _validated(job, learner, rank, progress)
            saves = saves or progress.is_over or progress.selection.step == step
            clock.restart()
        if saves:
            _save_all(job, learner, rank, progress)
            clock.restart()
        if known.stops or progress.is_over or (saves and known.regroups):
            break
    return TrainingEnd.of(progress)


def _validates_at(job: TrainingJob, progress: Progress) -> bool:
    """Return whether a validation belongs to this step."""
    if not progress.step:
        return job.validates_start
    every = job.recipe.training.validate_every
    return bool(job.validation) and (
        progress.schedule.ends_at(progress.step) or progress.step % every == 0
    )


def _owes_validation(job: TrainingJob, progress: Progress) -> bool:
    """Return whether a training begins with a validation: of its start, or where it left."""
    return _validates_at(job, progress) and progress.scores.get("step") != progress.step


def trained_model(job: TrainingJob, *, step: int) -> UNet:
    """Return the network after the last step, as it is saved.

    Raises TrainingError if its checkpoint cannot be read; an earlier one is not taken for it.
    """
    checkpoint = load_step(job.directory, step)
    model = UNet(job.recipe.network, job.outputs)
    model.load_state_dict(checkpoint.ema or checkpoint.model)
    return model.eval()


def _save_all(job: TrainingJob, learner: Learner, rank: RankLike, progress: Progress) -> None:
    """Save on rank 0; the other ranks wait for it."""
    if rank.rank == 0:
        _save(job, learner, progress)
    rank.barrier()


def _save(job: TrainingJob, learner: Learner, progress: Progress) -> None:
    """Write a checkpoint and, if its weights are the best so far, their weights file.

    The checkpoint comes first: a training that is killed between them writes the file from it.
    """
    record = {
        "recipe": job.recipe.to_dict(),
        "data_sets": dict(job.data_sets),
        **_sizes(job),
        **start_record(job.start),
        **progress.to_record(),
        "random_numbers": RANDOM_NUMBERS,
    }
    save_checkpoint(learner.checkpoint(progress.step, record), job.directory)
    _keep_best(job, learner, progress)


def _sizes(job: TrainingJob) -> dict[str, Any]:
    return {"batch": job.batch, "patch": list(job.core)}


def _resumed(job: TrainingJob, rank: RankLike) -> tuple[Learner, Progress]:
    """Return the network and how far it is trained: as in the last checkpoint, else the start."""
    progress = Progress.at_start(job.recipe, job.schedule)
    learner = Learner(
        job.recipe.network,
        job.recipe.training,
        device=rank.device,
        world_size=rank.world_size,
        outputs=job.outputs,
        schedule=progress.schedule,
    )
    checkpoint = _same_checkpoint(job, rank, learner.device)
    if checkpoint is None:
        load_start(job, learner)
        return learner, progress
    check_same_start(checkpoint.record, job.start)
    check_same_training(checkpoint.record, job.recipe, job.data_sets)
    check_same_schedule(checkpoint.record, progress.schedule)
    for name, size in _sizes(job).items():
        if (before := checkpoint.record.get(name, size)) != size:
            raise TrainingError(
                f"the checkpoint was made with a {name} of {before}, now it is {size}: resume with "
                "the same one, or choose another --out"
            )
    learner.restore(checkpoint)
    progress = progress.at(checkpoint)
    if rank.rank == 0:
        _keep_best(job, learner, progress)
    return learner, progress


def _same_checkpoint(job: TrainingJob, rank: RankLike, device: torch.device) -> Checkpoint | None:
    """Return the last checkpoint as rank 0 finds it; the machines of others may list older ones.

    Ranks that began with different steps would sum gradients of different weights.
    """

    def note(text: str) -> None:
        _report(job, rank, Note(text))

    checkpoint = load_newest(job.directory, note=note) if rank.rank == 0 else None
    found = -1 if checkpoint is None else checkpoint.step
    step = share_number(found, device=device, world_size=rank.world_size)
    if step < 0 or rank.rank == 0:
        return checkpoint
    return load_step(job.directory, step)


def _keep_best(job: TrainingJob, learner: Learner, progress: Progress) -> None:
    """Write the weights of this step if they are the best so far."""
    if progress.selection.step == progress.step:
        keep_best(learner.best(), job.directory, job.facts, progress.selection, progress.schedule)


def load_start(job: TrainingJob, learner: Learner) -> None:
    """Load the weights to start from, if there are any; their running mean begins with them."""
    if job.start is None:
        return
    tensors = job.start.tensors(learner.model, job.recipe)
    untouched = learner.optimiser.state_dict()
    learner.restore(Checkpoint(step=0, model=tensors, ema=tensors, optimiser=untouched))


def sample_maker(job: TrainingJob, *, device: str) -> SampleMaker:
    """Return the maker of the training's samples; it makes the same ones on every rank."""
    recipe = job.recipe
    sampler = PatchSampler(
        shapes=tuple(volume.shape_zyx for volume in job.volumes),
        surveys=job.surveys,
        core=job.core,
        seed=recipe.training.seed,
        rare_share=recipe.training.rare_share,
    )
    return SampleMaker(
        volumes=job.volumes,
        network=recipe.network,
        training=recipe.training,
        labels=recipe.labels,
        sampler=sampler,
        class_weights=job.class_weights,
        weight_scales=tuple(1 / share for share in expected_known_shares(sampler)),
        device=device,
    )


def _validated(job: TrainingJob, learner: Learner, rank: RankLike, progress: Progress) -> Progress:
    """Validate, draw the picture, and report the scores; return the progress with them."""
    scores, picture = validate(
        learner, job.validation, labels=job.recipe.labels, core=job.core,
        surveys=job.validation_surveys, rank=rank.rank, barrier=rank.barrier,
    )  # fmt: skip
    step = progress.step
    record = {"step": step, **asdict(scores)}
    progress = progress.validated(record)
    if rank.rank == 0:
        _check_owner(job)
        path = job.directory / f"validation-{step:08d}.png"
        if picture is not None:
            draw_validation(picture, path)
        is_best = progress.selection.step == step
        names = () if job.outputs.names else job.recipe.class_names or ()
        _report(job, rank, Validated(**record, picture=str(path), is_best=is_best, names=names))
    return progress


def _report(job: TrainingJob, rank: RankLike, message: Message) -> None:
    """Report, if this start still owns the directory. Comes before every checkpoint."""
    _check_owner(job)
    rank.report(message)


def _check_owner(job: TrainingJob) -> None:
    if job.owner:
        check_owner(job.directory, job.owner)


def _not_finite(job: TrainingJob, step: int, loss: float) -> TrainingError:
    kept = what_is_kept(job.directory)
    return TrainingError(
        f"the loss of step {step + 1} is {loss}: the training stops, {kept}; "
        "use a lower learning_rate or a smaller gradient_norm, and check the volume's values"
    )
