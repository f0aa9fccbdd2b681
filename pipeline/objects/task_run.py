"""Runs the tasks of one stage after the other on the workers, and counts what they did."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeGuard, TypeVar

from distributed import Client, Future

from ..base.errors import (
    OutputError,
    OvertileError,
    RunDrainedError,
    RunError,
    StorageFullError,
)
from ..base.geometry import Shape
from ..base.live_run import LiveRun
from ..base.scheduling import drive, reason
from ..base.text import counted
from ..ledger.block_result import BlockResult
from ..ledger.figures import Figures
from ..ledger.messages import drained_text, failed_text, named_failures, resume_advice
from ..ledger.progress import RunStage
from ..ledger.tally import Tally
from .preparation.prepared import PreparedObjects
from .preparation.run_clock import RunClock
from .tasks.intermediates import missing
from .tasks.tasks import ObjectsJob

Item = TypeVar("Item")


def is_refused(error: BaseException | None) -> TypeGuard[OvertileError]:
    """Return whether the user must act before any other task can succeed.

    A store that failed for one file is an OutputError too, and costs its block or group only.
    """
    if isinstance(error, StorageFullError):
        return True
    return isinstance(error, OvertileError) and not isinstance(error, OutputError)


class TaskRun(LiveRun):
    """A run whose stages are tasks per block, group or layer, in any order within a stage."""

    def __init__(self, prepared: PreparedObjects, job: ObjectsJob, client: Client) -> None:
        super().__init__(client)
        self.prepared, self.job = prepared, job
        self._tally = Tally(earlier=Figures())
        self._clock = RunClock("label")
        self._done = 0

    def do_missing(
        self, stage: RunStage, call: Callable[[Shape], Any], items: Iterable[Shape], *,
        files: str, of: ObjectsJob | None = None,
    ) -> Iterator[Any]:  # fmt: skip
        """Do what has no file yet, and yield the results.

        files: the stage whose files the tasks write last. of: whose files they are, by default
        those of the run's job.
        """
        job = of or self.job
        items = missing(items, job.files.names(files))
        return self.results(stage, call, items, key=f"objects-{job.folder}{files}")

    def do_all_missing(
        self, stage: RunStage, call: Callable[[Shape], Any], items: Iterable[Shape], *,
        files: str, of: ObjectsJob | None = None,
    ) -> None:  # fmt: skip
        """Do as :meth:`do_missing`, to the end."""
        for _ in self.do_missing(stage, call, items, files=files, of=of):
            pass

    def results(
        self, stage: RunStage, call: Callable[[Item], Any], items: Iterable[Item], *, key: str
    ) -> Iterator[Any]:
        """Yield the results of a stage's tasks; raise once all others are done if one failed.

        After an error that :func:`is_refused`, only tasks in flight are done.
        """
        if stage != self._clock.stage:  # a stage has its own speed
            self._tally = Tally(earlier=Figures())
        self._clock.enter(stage)
        self._done = 0
        failed: dict[Item, str] = {}
        refused: list[OvertileError] = []

        def submit(some: list[Item]) -> list[Future]:
            futures: list[Future] = self._client.map(
                call, some, key=[(f"{key}-{self.job.run_token}", str(one)) for one in some],
                retries=self.prepared.request.retries, pure=False,
            )  # fmt: skip
            return futures

        # In no variable: an error's traceback would keep it, and its tasks in flight, alive until
        # the garbage collector closes it in any thread, which can wait for itself.
        for outcomes in drive(
            self._client, iter(items), submit, limit=self._limit, stop=self._stop
        ):
            self._limit.ended(len(outcomes))
            for outcome in outcomes:
                if is_refused(outcome.error):
                    refused.append(outcome.error)
                    self._limit.drain()
                    continue
                if outcome.error is not None:
                    failed[outcome.item] = reason(outcome)
                    continue
                self._done += 1
                if isinstance(outcome.result, BlockResult):
                    self._tally.add([outcome.result], [])
                yield outcome.result
        if refused:
            raise refused[0]
        is_whole = not self._limit.is_drained and not self._stop.is_set()
        if failed:
            of = "block" if stage in ("label", "write") else "group"
            problem = f"{counted(len(failed), of)} failed ({named_failures(failed, of=of)})"
            raise RunError(failed_text(problem, self.advice))
        if not is_whole:
            raise RunDrainedError(f"{drained_text(self._done, self.blocks)}; {self.advice}")

    @property
    def blocks(self) -> int:
        """Number of blocks of the run or of its share, completed ones included."""
        return sum(map(len, self.prepared.regions))

    def indices(self) -> Iterator[Shape]:
        """Yield the blocks of the run or of its share."""
        for region in self.prepared.regions:
            yield from region.indices

    @property
    def advice(self) -> str:
        """How to resume the run."""
        return resume_advice(overwrite=self.prepared.request.overwrite)
