"""One segmentation run: it segments regions in any order and from any thread, then finishes.

``sequence.complete`` calls it for Python, the shell and the Prefect flow.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from distributed import Client, span

from ..base.errors import OvertileError, RunDrainedError, RunError, RunStoppedError
from ..base.geometry import Shape
from ..base.scheduling import InFlightLimit
from ..base.stores import open_array
from ..base.worker_count import WorkerCount
from ..ledger.coarser_levels import COPIED, build_levels, level_jobs
from ..ledger.earlier_output import EarlierOutput
from ..ledger.figures import Figures
from ..ledger.ledger import BlockState, Ledger, blocks_left
from ..ledger.messages import (
    drained_text,
    failed_text,
    given_up_text,
    resume_advice,
    set_aside_text,
)
from ..ledger.ownership import SHARDS
from ..ledger.progress import Progress, RunStage, progress_of
from ..ledger.tally import Tally
from ..ledger.throughput import Throughput
from ..models.protocol import Predictor
from ..planning.blocks import Region
from .engines.block import BlockJob
from .engines.part_done import PartsDone
from .engines.store import Batch, store_outcomes
from .prepare import Prepared, prepare
from .request import SegmentRequest
from .since import since_text
from .start import start_run
from .summary import RunSummary

NOTE_EVERY_S = 5.0


class SegmentRun:
    """A run whose output exists and whose ledger is open. Create it with :meth:`open`."""

    def __init__(
        self, *, prepared: Prepared, job: BlockJob, ledger: Ledger, client: Client
    ) -> None:
        self.prepared = prepared
        self.job = job
        self.resumed_blocks = ledger.count(BlockState.DONE)
        self._ledger = ledger
        self._client = client
        self._limit = InFlightLimit(client)
        self._workers = WorkerCount(client)
        self._tally = Tally(earlier=Figures.from_json(ledger.noted("figures")))
        self._parts = PartsDone(client, job.run_token, has_ended=self._has_ended)
        self._noted_at = time.monotonic()
        self._stop = threading.Event()
        self._given_up = ""
        self._stage: RunStage = "segment"

    @classmethod
    def open(cls, request: SegmentRequest, predictor: Predictor, client: Client) -> SegmentRun:
        """Check the request, then create the output or resume it. Checks write nothing.

        Raises kinds of OvertileError for what the user can fix.
        """
        return cls.start(prepare(request, predictor), client)

    @classmethod
    def start(
        cls,
        prepared: Prepared,
        client: Client,
        *,
        notify: Callable[[str], None] = lambda text: None,
    ) -> SegmentRun:
        """Check a prepared run against the cluster, then create the output or resume it.

        notify: takes a line for the user, when a share waits for another one to create the output.
        """
        settled, job, ledger = start_run(prepared, client, notify=notify)
        return cls(prepared=settled, job=job, ledger=ledger, client=client)

    @property
    def regions(self) -> tuple[Region, ...]:
        """The regions with a block to compute, of the run or its share; completed ones too."""
        return tuple(filter(self.prepared.selection.count, self.prepared.regions))

    @property
    def blocks(self) -> int:
        """Number of blocks of the run or of its share; completed and skipped ones included."""
        return self.prepared.blocks

    def segment_region(self, region: Region) -> int:
        """Do the blocks of a region that are not done; return how many are done now.

        Blocks that fail after their retries are set aside and do not stop the rest. Raises RunError
        where the run gives up, RunStoppedError after :meth:`stop`, RunDrainedError after
        :meth:`drain` if blocks are left.
        """
        left = blocks_left(self._ledger, region.indices)
        if left and not self._limit.is_drained:
            request = self.prepared.request
            outcomes = _outcomes_of(request.engine)
            with span(f"region-{region.number}"):
                for batch in outcomes(
                    self.job, region, left, client=self._client, limit=self._limit,
                    stop=self._stop, retries=request.retries,
                ):  # fmt: skip
                    self._record(batch)
        if self._stop.is_set():
            if self._given_up:  # maybe by the other region: both raise the reason
                raise RunError(self._given_up)
            raise RunStoppedError(f"stopped: {self._advice}")
        if self._limit.is_drained and self._has_untried(region):
            raise self.drained()
        return sum(map(self._ledger.is_done, region.indices))

    def _has_untried(self, region: Region) -> bool:
        return not self._tally.failures.keys() >= set(blocks_left(self._ledger, region.indices))

    def _has_ended(self, index: Shape) -> bool:
        return not self._ledger.is_left(index) or index in self._tally.failures

    def _record(self, batch: Batch) -> None:
        self._limit.ended(len(batch.results))
        self._ledger.record_done(r for r in batch.results if not r.is_skipped)
        skipped = [result.index for result in batch.results if result.is_skipped]
        self._ledger.record(skipped, BlockState.SKIPPED)
        self._ledger.record([index for index, _ in batch.failures], BlockState.SET_ASIDE)
        self._tally.add(batch.results, batch.failures)
        self._parts.forget([result.index for result in batch.results])
        self._parts.forget([index for index, _ in batch.failures])
        if time.monotonic() - self._noted_at > NOTE_EVERY_S:
            self._noted_at = time.monotonic()
            self.note_figures()
        reason = self._tally.common_failure()
        if reason and not self._ledger.count(BlockState.DONE):
            text = given_up_text(len(self._tally.failures), reason)
            self._given_up = failed_text(text, self._advice)
            self.stop()
            raise RunError(self._given_up)

    def finish(self) -> Figures:
        """Build the pyramid and return the figures; raise RunError if blocks are left.

        A share does not build the pyramid: overtile finish does, once all shares are complete.
        """
        self.note_figures()
        if failures := self._tally.failures:
            computed = self.progress().computed
            raise RunError(failed_text(set_aside_text(failures, computed), self._advice))
        if self.progress().left:
            raise RunError(f"not every block is done: {self._advice}")
        self._ledger.check()
        if not self.prepared.request.share:
            self._build_pyramid()
        self._check_arrays()
        self._stage = "done"
        self.note_figures()
        return self.figures

    def _build_pyramid(self) -> None:
        self._stage = "pyramid"
        is_complete = build_levels(
            level_jobs(self.prepared.images, self.job.output, self.job.run_token),
            self._ledger, self._client,
            is_drained=lambda: self._limit.is_drained, stop=self._stop, earlier=self._earlier(),
        )  # fmt: skip
        if not is_complete:
            raise self.drained()

    def _earlier(self) -> EarlierOutput | None:
        earlier = self.prepared.request.earlier
        return None if earlier is None else EarlierOutput.find(earlier)

    def since(self) -> str | None:
        """Return what a complete output shares with the earlier one; None without ``since``."""
        if (earlier := self._earlier()) is None or self.prepared.request.share:
            return None
        return since_text(earlier, self.job.output, copied=self._ledger.noted(COPIED))

    def _check_arrays(self) -> None:
        """Raise RunError unless every array that was written can still be opened."""
        for output in self.job.outputs:
            try:
                open_array(self.job.output, output.path)
            except OvertileError as error:
                raise RunError(f"the output was damaged during the run: {error}") from error

    def note_figures(self) -> None:
        """Write the figures to the output, those of earlier runs of the job included."""
        throughput = self._tally.throughput
        timed = {"throughput": throughput.to_json()} if throughput.voxels else {}
        self._ledger.note(figures=self.figures.to_json(), **timed)

    @property
    def figures(self) -> Figures:
        """The figures so far, of this run and of earlier runs of the same job."""
        return self._tally.figures

    def progress(self) -> Progress:
        """Return how far the run is; any thread may ask."""
        counted = progress_of(self._ledger.states, figures=self._tally.session, blocks=self.blocks)
        within = self._parts.blocks if counted.missing else 0.0
        return replace(counted, stage=self._stage, workers=self._workers(), within=within)

    def summary(self, *, error: str | None = None) -> RunSummary:
        """Return what reports show of the run. error: why it did not complete."""
        is_shared = self._ledger.noted_of_output(SHARDS) is not None
        throughput = self._tally.throughput
        if not throughput.voxels:
            throughput = Throughput.from_json(self._ledger.noted("throughput"))
        return RunSummary(
            prepared=self.prepared,
            job=self.job,
            progress=self.progress(),
            done_before=self.resumed_blocks,
            figures=self.figures,
            failures=self._tally.failures,
            states=self._ledger.states,
            throughput=throughput,
            provenance=self._ledger.noted_of_output("provenance"),
            is_merged=is_shared and not self.prepared.request.share,
            error=error,
            since=None if error else self.since(),
        )

    def stop(self) -> None:
        """End the regions: nothing new is submitted, blocks in flight are cancelled."""
        self._stop.set()

    def drain(self) -> None:
        """End the run early: nothing new is submitted, blocks in flight finish and are recorded.

        The engine map_overlap finishes the regions that it has begun. Any thread may call this.
        """
        self._limit.drain()

    def drained(self) -> RunDrainedError:
        """Return the error that ends a drained run."""
        progress = self.progress()
        return RunDrainedError(f"{drained_text(progress.done, progress.computed)}; {self._advice}")

    @property
    def dashboard_link(self) -> str:
        """The address of the Dask dashboard."""
        return str(self._client.dashboard_link)

    @property
    def _advice(self) -> str:
        return resume_advice(overwrite=self.prepared.request.overwrite)


def _outcomes_of(engine: str) -> Callable[..., Iterator[Batch]]:
    if engine == "store":
        return store_outcomes
    from .engines.graph import graph_outcomes  # with dask.array: 0.3 s

    return graph_outcomes
