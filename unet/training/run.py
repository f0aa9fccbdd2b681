"""A training from its volumes to its weights, on one process or on the ranks of a cluster."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Unpack

from pipeline.base.errors import (
    LabelError,
    RunStoppedError,
    TrainingError,
    TrainingFailedError,
    VolumeError,
    WeightsError,
)

from ..predict.runtime import device_memory_bytes
from ..recipe.schedule import StepSchedule
from .checkpoint import newest_checkpoint
from .logs import file_logs
from .loop import TrainingEnd, TrainingJob, train, trained_model
from .messages import TRAINING_MESSAGES, Listener, Note
from .ownership import check_owner, take_over
from .prepare import PreparedTraining, prepare_training
from .ranks import RankLike, RunRanks, run_in_this_process
from .selection.weights_files import FILES, kept_of, origin_of, read_best
from .settings import TrainingSettings
from .suggest import fitting_batch
from .volumes import TrainingVolumes

_OUT_OF_MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory")  # torch's


def train_unet(
    volumes: TrainingVolumes,
    out: str | Path,
    *,
    config: Mapping[str, Any] | None = None,
    run_ranks: RunRanks = run_in_this_process,
    ranks: int = 1,
    listeners: Sequence[Listener] = (),
    **settings: Unpack[TrainingSettings],
) -> TrainingEnd:
    """Train a U-Net and write its weights; return how the training ended.

    volumes: from ``pipeline.open_labelled``, measured. out: the weights file to create;
    checkpoints, log and pictures go beside it. config: the tables of a config file
    (``unet.read_config``), or a Recipe's ``to_dict()``.
    run_ranks: where to train; by default in this process. On a cluster:
    ``functools.partial(deploy.run_ranks, client=client)``, with one worker per rank.
    settings: resume (continue from the last checkpoint, if there is one; more steps than before
    make the training longer), dtype (of the stored weights) and start_from (weights whose layers
    are the start: a file, a URI or a bundled name; normalise the volumes as those were, by
    ``open_labelled(normalisation=…)``).

    Raises kinds of OvertileError for bad input, before anything is written; RunError for a
    training that was stopped or failed: its checkpoints stay.
    """
    if ranks != 1 and run_ranks is run_in_this_process:
        raise TrainingError(
            f"ranks ({ranks}): expected 1 without a cluster; pass "
            "run_ranks=partial(deploy.run_ranks, client=client)"
        )
    prepared = prepare_training(volumes, out, config=config or {}, ranks=ranks, **settings)
    if prepared.is_done:
        return TrainingEnd.of(prepared.progress)
    for listener, text in product(listeners, prepared.notes):
        listener.hear(Note(text))
    return run_training(prepared, run_ranks, ranks=ranks, listeners=listeners)


def run_training(
    prepared: PreparedTraining,
    run_ranks: RunRanks,
    *,
    ranks: int,
    listeners: Sequence[Listener] = (),
    stop: threading.Event | None = None,
) -> TrainingEnd:
    """Train to the end and write the weights. Raises kinds of OvertileError, RunError.

    stop: once set, the ranks save a checkpoint and leave; RunStoppedError is raised.
    """
    stop = stop or threading.Event()
    run_and_stop = partial(run_ranks, stop=stop)
    batch = settled_batch(prepared, run_and_stop, ranks=ranks)
    job = prepared.job(batch=batch)
    job = replace(job, owner=take_over(job.directory))
    hear = _heard_by(listeners, job.directory)

    def hear_new(message: object) -> None:
        if not (isinstance(message, Note) and message.text in prepared.notes):
            hear(message)

    if batch < ranks:
        hear(Note(f"{batch} of {ranks} workers train, one per patch of a step"))
    with failures_explained():
        end = run_and_stop(
            partial(train_as_rank, job),
            ranks=min(ranks, batch),
            max_ranks=min(prepared.ranks or batch, batch),
            message_types=TRAINING_MESSAGES,
            on_event=lambda event: hear_new(getattr(event, "payload", event)),
        )[0]
        if not isinstance(end, TrainingEnd) or not end.finished:
            raise RunStoppedError(stopped_text(job.directory))
        check_owner(job.directory, job.owner)
        write_weights(prepared, job, end)
    return end


def train_as_rank(job: TrainingJob, rank: RankLike) -> Any:
    """Train as one of the ranks; return ``rank.yielded`` if it was asked to leave earlier."""
    end = train(job, rank)
    return end if end.finished else rank.yielded


def stopped_text(directory: Path) -> str:
    """Return how to resume a training that was stopped."""
    kept = newest_checkpoint(directory)
    if kept is None:
        return "stopped before the first checkpoint, so nothing was saved: start the command again"
    return f"stopped; {kept.name} was saved: resume with the same command and --resume"


def write_weights(prepared: PreparedTraining, job: TrainingJob, end: TrainingEnd) -> None:
    """Write the weights of the best validation or of the last step, with their provenance.

    With a validation, those of the last step lie beside the checkpoints as well.
    """
    recipe, selection = prepared.recipe, end.selection
    kept = kept_of(recipe, selection)
    model = trained_model(job, step=end.step)
    schedule = job.schedule or StepSchedule.of(recipe.training)
    origin = partial(
        origin_of, selection=selection, trained=end.step, schedule=schedule, scores=end.scores
    )
    if selection.best is not None:
        job.facts.save(model, job.directory / FILES["last"], origin=origin("last"))
    if kept == "best":
        model = read_best(job.directory, selection)
    job.facts.save(model, prepared.out, origin=origin(kept), dtype=prepared.dtype)


def _heard_by(listeners: Sequence[Listener], directory: Path) -> Callable[[object], None]:
    """Return what passes a message to the logs beside the checkpoints, then to the listeners."""
    everyone: list[Listener] = []

    def hear(message: object) -> None:
        for listener in everyone:
            listener.hear(message)

    everyone += [*file_logs(directory, note=lambda text: hear(Note(text))), *listeners]
    return hear


def settled_batch(prepared: PreparedTraining, run_ranks: RunRanks, *, ranks: int) -> int:
    """Return the patches per step: as requested, else what fits the devices; on CPUs one per rank.

    Raises RunStoppedError if the ranks were asked to leave.
    """
    if prepared.batch is not None:
        return prepared.batch
    memory_bytes = run_ranks(_memory_bytes, ranks=1)[0]
    if not isinstance(memory_bytes, int):
        raise RunStoppedError(stopped_text(prepared.directory))
    if not memory_bytes:
        return ranks
    network, core = prepared.recipe.network, prepared.core
    return fitting_batch(network, core, memory_bytes=memory_bytes, ranks=ranks)


def _memory_bytes(rank: RankLike) -> int:
    return device_memory_bytes()


@contextmanager
def failures_explained() -> Iterator[None]:
    """Turn errors of a running training into TrainingFailedError: they are not bad input.

    A rank that runs out of memory is reported in one line.
    """
    try:
        yield
    except (TrainingError, WeightsError, VolumeError, LabelError) as error:
        raise TrainingFailedError(str(error)) from error
    except (MemoryError, RuntimeError) as error:
        text = " ".join(str(error).split())
        if not isinstance(error, MemoryError) and not _OUT_OF_MEMORY.search(text):
            raise
        raise TrainingFailedError(
            f"a rank ran out of memory ({text[:200]}): use a smaller patch, batch or network"
        ) from error
