"""A prepared training on the workers of a cluster, interruptible from the main thread."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, wait
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from deploy import RankLimits, run_ranks
from pipeline.base.errors import RunDrainedError, RunError, RunStoppedError
from pipeline.base.workers import workers_of
from unet.training.loop import TrainingEnd
from unet.training.messages import Listener
from unet.training.prepare import PreparedTraining
from unet.training.run import run_training, stopped_text

from ..signals.drain import Drain

if TYPE_CHECKING:
    from deploy import Client, ClusterSpec

AWAKE_S: Final = 0.5
"""A wait of the main thread for its training is never longer, so that handlers of signals run."""


def train_on_cluster(
    prepared: PreparedTraining,
    client: Client,
    *,
    listeners: Sequence[Listener] = (),
    stop: threading.Event | None = None,
    limits: RankLimits | None = None,
) -> TrainingEnd:
    """Measure the volumes, train to the end and write the weights.

    Raises kinds of OvertileError, RunError; RunStoppedError once ``stop`` is set.
    """
    try:
        volumes = prepared.volumes.measured(client, stop=stop)
    except RunError:
        if stop is not None and stop.is_set():
            raise RunStoppedError(stopped_text(prepared.directory)) from None
        raise
    return run_training(
        replace(prepared, volumes=volumes),
        partial(run_ranks, client=client, limits=limits),
        ranks=prepared.ranks or max(1, len(workers_of(client))),
        listeners=listeners,
        stop=stop,
    )


def train_interruptibly(
    prepared: PreparedTraining,
    client: Client,
    *,
    listeners: Sequence[Listener] = (),
    limits: RankLimits | None = None,
    drain: Drain | None = None,
) -> TrainingEnd:
    """Do as :func:`train_on_cluster`; an interruption lets the ranks save their state first.

    Ctrl-C, SIGTERM and a cancelled flow run raise exceptions at any point of the main thread. So
    the training runs in another thread; it is asked to stop, and this thread waits until it has
    ended: ranks that do not leave within ``limits.leave_s`` are ended. A second interruption ends
    the wait.

    drain: asks the training to stop as well; RunDrainedError is then raised.
    """
    stop = threading.Event()
    draining = _Draining(stop)
    training: Future[TrainingEnd] = Future()

    def run() -> None:
        try:
            end = train_on_cluster(prepared, client, listeners=listeners, stop=stop, limits=limits)
            training.set_result(end)
        except BaseException as error:  # raised again in the main thread
            training.set_exception(error)

    if drain is not None:
        drain.begin(draining)
    thread = threading.Thread(target=run, name="training", daemon=True)
    try:
        thread.start()
        while not wait([training], timeout=AWAKE_S).done:
            pass  # the handler of a signal that came just before the wait runs here
        return training.result()
    except RunStoppedError as stopped:
        if draining.has_begun:
            raise RunDrainedError(str(stopped)) from None
        raise
    except BaseException:
        if not stop.is_set() and thread.ident is not None:  # else it has not started
            stop.set()
            wait([training])
        raise


def rank_limits(spec: ClusterSpec, *, ranks: int | None, leave_s: float = 30.0) -> RankLimits:
    """Return how long a training waits for the workers of this cluster.

    Jobs may wait in a queue: for them it waits as long as for the first one, if the cluster submits
    enough jobs for all ranks at its start.
    """
    job, queue_s = spec.job, spec.first_worker_limit_s
    come = job is not None and (ranks or 1) <= max(1, job.fewest) * job.workers
    start_s = queue_s if come or spec.first_worker_s is not None else 0.0
    return RankLimits(leave_s=leave_s, start_s=max(RankLimits().start_s, start_s), queue_s=queue_s)


class _Draining:
    """What a drain does to a training."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self.has_begun = False

    def drain(self) -> None:
        """Ask the ranks to save a checkpoint and leave."""
        self.has_begun = True
        self._stop.set()
