"""One conversion: copies blocks in any order on the workers, then builds the pyramid.

The ledger is that of a segmentation: the same command resumes it, and ``overtile status`` shows it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

from distributed import Client, Future

from ..base.errors import RunDrainedError, RunError
from ..base.geometry import Shape
from ..base.live_run import LiveRun
from ..base.scheduling import Outcome, drive, reason
from ..base.worker_memory import check_worker_memory
from ..base.workers import present_workers
from ..ledger.coarser_levels import build_levels, level_jobs
from ..ledger.figures import Figures
from ..ledger.ledger import BlockState, Ledger, blocks_left
from ..ledger.liveness import alive
from ..ledger.messages import drained_text, failed_text, resume_advice, set_aside_text
from ..ledger.opening import open_output
from ..ledger.progress import Progress, RunStage, progress_of
from ..ledger.tally import Tally
from ..output.ome_write import create_images, describe_again
from .block import ConversionJob, convert_block
from .prepare import PreparedConversion

NOTE_EVERY_S = 5.0


class ConversionRun(LiveRun):
    """A conversion whose output exists and whose ledger is open. Create it with :meth:`start`."""

    def __init__(
        self, prepared: PreparedConversion, job: ConversionJob, ledger: Ledger, client: Client
    ) -> None:
        super().__init__(client)
        self.prepared, self.job = prepared, job
        self.resumed_blocks = ledger.count(BlockState.DONE)
        self._ledger = ledger
        self._tally = Tally(earlier=Figures.from_json(ledger.noted("figures")))
        self._noted_at = time.monotonic()
        self._stage: RunStage = "segment"

    @classmethod
    def start(cls, prepared: PreparedConversion, client: Client) -> ConversionRun:
        """Check the cluster, then create the output or resume it.

        Raises kinds of OvertileError for what the user can fix.
        """
        _check_workers(prepared, client)
        request = prepared.request
        ledger, token = open_output(
            request.output, prepared.job, action=prepared.output_action,
            grid=prepared.plan.grid, version=request.format,
            provenance=prepared.provenance(workers=len(client.nthreads())),
        )  # fmt: skip
        if ledger.needs_arrays:
            create_images(request.output, (prepared.image,), version=request.format)
        elif prepared.shows_more:
            describe_again(request.output, prepared.image, version=request.format)
        job = ConversionJob(
            source=prepared.source,
            output=prepared.request.output,
            run_token=token,
            plan=prepared.plan,
            image=prepared.image,
        )
        return cls(prepared, job, ledger, client)

    def complete(
        self, watch: Callable[[ConversionRun], AbstractContextManager[Any] | None] | None = None
    ) -> Figures:
        """Copy all blocks that are left, build the pyramid, return the figures.

        Raises RunError if blocks are left, RunDrainedError after :meth:`drain`.
        """
        try:
            with (
                alive(self.job.output, token=self.job.run_token),
                (watch(self) if watch else None) or nullcontext(),
            ):
                for outcomes in self._outcomes():
                    self._record(outcomes)
                self._finish()
        except BaseException:
            self._stop.set()
            raise
        return self._tally.figures

    def _outcomes(self) -> Iterator[list[Outcome[Shape]]]:
        left = blocks_left(self._ledger, (block.index for block in self.prepared.plan.blocks()))

        def submit(indices: list[Shape]) -> list[Future]:
            keys = [(f"convert-block-{self.job.run_token}", *index) for index in indices]
            futures: list[Future] = self._client.map(
                partial(convert_block, self.job), indices, key=keys,
                retries=self.prepared.request.retries, pure=False,
            )  # fmt: skip
            return futures

        return drive(self._client, iter(left), submit, limit=self._limit, stop=self._stop)

    def _record(self, outcomes: list[Outcome[Shape]]) -> None:
        self._limit.ended(len(outcomes))
        done = [outcome.result for outcome in outcomes if outcome.error is None]
        failed = [(outcome.item, reason(outcome)) for outcome in outcomes if outcome.error]
        self._ledger.record_done(done)
        self._ledger.record([index for index, _ in failed], BlockState.SET_ASIDE)
        self._tally.add(done, failed)
        if time.monotonic() - self._noted_at > NOTE_EVERY_S:
            self._noted_at = time.monotonic()
            self._note()

    def _finish(self) -> None:
        self._note()
        if failures := self._tally.failures:
            raise RunError(failed_text(set_aside_text(failures, self.blocks), self._advice))
        done = self._ledger.count(BlockState.DONE)
        if done < self.blocks:
            kind = RunDrainedError if self._limit.is_drained else RunError
            raise kind(f"{drained_text(done, self.blocks)}; {self._advice}")
        self._ledger.check()
        self._stage = "pyramid"
        levels = level_jobs((self.prepared.image,), self.job.output, self.job.run_token)
        if not build_levels(
            levels, self._ledger, self._client,
            is_drained=lambda: self._limit.is_drained, stop=self._stop,
        ):  # fmt: skip
            raise RunDrainedError(f"drained: the coarser levels are not all built; {self._advice}")
        self._stage = "done"
        self._note()

    def _note(self) -> None:
        self._ledger.note(figures=self._tally.figures.to_json())

    def progress(self) -> Progress:
        """Return how far the conversion is, with the figures of this run."""
        counted = progress_of(self._ledger.states, figures=self._tally.session)
        return replace(counted, stage=self._stage, workers=self._workers())

    @property
    def blocks(self) -> int:
        """Number of blocks, completed ones included."""
        return len(self.prepared.plan)

    @property
    def _advice(self) -> str:
        return resume_advice(overwrite=self.prepared.request.overwrite)


def _check_workers(prepared: PreparedConversion, client: Client) -> None:
    """Raise if no workers join, or if one cannot hold a block for each of its threads."""
    for worker in present_workers(client).values():
        check_worker_memory(
            worker["nthreads"] * prepared.block_bytes,
            has_bytes=worker.get("memory_limit"), smaller="smaller shards (--shard)",
        )  # fmt: skip
