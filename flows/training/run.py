"""A training as every door runs it: a cluster, ranks, listeners, and the weights at the end."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.ranks.run import (
    YIELDED,
    Rank,
    RankEvent,
    RankLimits,
    RankReport,
    RanksResumed,
    TurnChanged,
    run_ranks,
)
from pipeline.base.errors import RunStoppedError, TrainingError, TrainingFailedError, WeightsError
from pipeline.base.scheduling import workers_of
from pipeline.base.versions import VERSION, versions
from unet.predict.runtime import device_memory_bytes
from unet.training.checkpoint import newest_checkpoint
from unet.training.loop import TrainingEnd, TrainingJob, train, trained_model
from unet.training.messages import TRAINING_MESSAGES, StepsDone, Validated
from unet.training.suggest import fitting_batch
from unet.weights.file import save_weights

from .logs import Listener, file_logs
from .ownership import OwningRank, check_owner, take_over
from .prepare import PreparedTraining, data_sets

if TYPE_CHECKING:
    from deploy import Client


def run_training(
    prepared: PreparedTraining,
    client: Client,
    *,
    listeners: Sequence[Listener] = (),
    stop: threading.Event | None = None,
    turn_s: float = 60.0,
    leave_s: float = 30.0,
) -> TrainingEnd:
    """Train to the end and write the weights. Raises kinds of OvertileError, RunError.

    turn_s: how long ranks, and then others that wait for the same workers, have them. leave_s: how
    long ranks have to save what they know, once they were asked to stop.
    """
    workers = settled_ranks(prepared, client)
    job = prepared.job(client, batch=settled_batch(prepared, client, ranks=workers))
    ranks = min(workers, job.batch)
    token = take_over(job.directory)
    heard = [*file_logs(job.directory, tell=lambda text: note(text)), *listeners]

    def hear(message: dict[str, Any]) -> None:
        for listener in heard:
            listener.hear(message)

    def note(text: str) -> None:
        hear({"kind": "note", "text": text})

    if ranks < workers:
        note(f"{ranks} of {workers} workers train: a batch of {job.batch} has no more parts")
    with failures_explained():
        end = run_ranks(
            partial(train_as_rank, job, token),
            client=client,
            ranks=ranks,
            message_types=TRAINING_MESSAGES,
            on_event=lambda event: hear(as_dict(event)),
            limits=RankLimits(turn_s=turn_s, leave_s=leave_s),
            stop=stop,
        )[0]
    if end is YIELDED:
        raise RunStoppedError(stopped_text(prepared.directory))
    assert isinstance(end, TrainingEnd)
    with failures_explained():
        check_owner(job.directory, token)
        write_weights(prepared, job, end)
    return end


def as_dict(event: RankEvent | StepsDone | Validated) -> dict[str, Any]:
    """Return an event of the ranks, or what a rank reports, as the listeners take it."""
    match event:
        case RankReport(payload=payload):
            return as_dict(payload)
        case TurnChanged(holder=holder):
            return {"kind": "turn", "whose": holder}
        case RanksResumed(attempt=attempt, world_size=ranks, reason=why):
            return {"kind": "resumed", "attempt": attempt, "ranks": ranks, "why": why}
        case StepsDone():
            return {"kind": "step", **asdict(event)}
        case Validated():
            return {"kind": "validation", **asdict(event)}


def run_interruptibly(
    prepared: PreparedTraining,
    client: Client,
    *,
    listeners: Sequence[Listener] = (),
    leave_s: float = 30.0,
) -> TrainingEnd:
    """Do as :func:`run_training`; what interrupts this thread lets the ranks save what they have.

    Ctrl-C, SIGTERM and a cancelled flow run are exceptions at any point of the main thread. The
    training has a thread of its own, where none comes; it is asked to stop, and waited for. A
    second interruption is not kept waiting.
    """
    stop = threading.Event()
    training: Future[TrainingEnd] = Future()

    def run() -> None:
        try:
            training.set_result(
                run_training(prepared, client, listeners=listeners, stop=stop, leave_s=leave_s)
            )
        except BaseException as error:  # told to whoever waits
            training.set_exception(error)

    threading.Thread(target=run, name="training", daemon=True).start()
    try:
        return training.result()
    except BaseException:
        stop.set()
        wait([training])
        raise


def train_as_rank(job: TrainingJob, token: str, rank: Rank) -> Any:
    """Train as one of the ranks; YIELDED where it was asked to leave before the end."""
    end = train(job, OwningRank(rank, job.directory, token))
    return end if end.finished else YIELDED


def stopped_text(directory: Path) -> str:
    """Return how to go on with a training that somebody stopped."""
    kept = newest_checkpoint(directory)
    if kept is None:
        return (
            "stopped before the first checkpoint, so nothing is kept yet: start the same command "
            "again"
        )
    return f"stopped; {kept.name} is kept: go on with the same command and --resume"


@contextmanager
def failures_explained() -> Iterator[None]:
    """Tell what fails in the midst of a training from bad input, which was refused before it.

    A rank's lack of memory becomes one line.
    """
    try:
        yield
    except (TrainingError, WeightsError) as error:
        raise TrainingFailedError(str(error)) from error
    except (MemoryError, RuntimeError) as error:
        said = " ".join(str(error).split())
        if not isinstance(error, MemoryError) and not _NO_MEMORY.search(said):
            raise
        raise TrainingFailedError(
            f"a rank has no memory for this ({said[:200]}): take a smaller patch or batch, or a "
            "smaller network"
        ) from error


_NO_MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory")  # torch's words


def settled_ranks(prepared: PreparedTraining, client: Client) -> int:
    """Return how many ranks train: as many as asked for, else one per worker."""
    return prepared.ranks or max(1, len(workers_of(client)))


def settled_batch(prepared: PreparedTraining, client: Client, *, ranks: int) -> int:
    """Return the patches per step: as asked for, as before, or what fits the devices."""
    batch = prepared.recipe.training.batch or prepared.batch_before
    if batch:
        return batch
    memory_bytes = client.submit(device_memory_bytes, pure=False).result()
    if not memory_bytes:
        return ranks
    network, core = prepared.recipe.network, prepared.core
    return fitting_batch(network, core, memory_bytes=memory_bytes, ranks=ranks)


def write_weights(prepared: PreparedTraining, job: TrainingJob, end: TrainingEnd) -> None:
    """Write the weights of the last checkpoint, and where they come from."""
    model, step = trained_model(job)
    save_weights(
        model,
        prepared.out,
        normalisation=prepared.record,
        class_names=prepared.recipe.class_names,
        provenance={
            "made_by": f"overtile train {VERSION}",
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "data": data_sets(prepared),
            "recipe": prepared.recipe.to_dict(),
            "batch": job.batch,
            "core_zyx": list(job.core),
            "steps": step,
            "scores": dict(end.scores),
            "versions": versions(),
        },
        dtype=prepared.dtype,
    )
