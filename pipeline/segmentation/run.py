"""One segmentation run: opened, its regions segmented, then finished.

Every door goes through here. The shell and Python call the regions one after the other (two at a
time, so that no worker waits for a region's last block); the Prefect flow makes each a task run.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import nullcontext, suppress
from typing import Any

from distributed import Client, span

from ..base.errors import OutputError, OvertileError, RunDrainedError, RunError, RunStoppedError
from ..base.location import Location
from ..base.scheduling import InFlightLimit
from ..base.stores import open_array
from ..ledger.block_result import BlockResult
from ..ledger.figures import Figures
from ..ledger.ledger import BlockState, Ledger, blocks_left
from ..models.protocol import Predictor
from ..output.pyramid import build_level
from ..planning.blocks import Region
from .block import BlockJob
from .engines import graph_outcomes, store_outcomes
from .prepare import Prepared, prepare
from .progress import Progress, RunStage, WorkerCount
from .request import SegmentRequest
from .run_report import keep_report
from .start import start_run

REGIONS_AT_A_TIME = 2
GIVE_UP_AFTER = 32
"""A run whose first blocks all fail for one reason, this many of them, stops: so would the rest."""
NOTE_EVERY_S = 5.0


class SegmentRun:
    """A run whose output exists and whose ledger is open. Made by :meth:`open`."""

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
        self._stop = threading.Event()
        self._given_up = ""
        self._lock = threading.Lock()
        self._before = Figures.from_json(ledger.noted("figures"))
        self._figures = Figures()
        self._failures: dict[tuple[int, ...], str] = {}
        self._started = time.monotonic()
        self._noted_at = self._started
        self._stage: RunStage = "segment"

    @classmethod
    def open(cls, request: SegmentRequest, predictor: Predictor, client: Client) -> SegmentRun:
        """Check everything, then create the output or resume it. Nothing is written before.

        Raises kinds of OvertileError for what the user can mend.
        """
        return cls.start(prepare(request, predictor), client)

    @classmethod
    def start(
        cls,
        prepared: Prepared,
        client: Client,
        *,
        tell: Callable[[str], None] = lambda text: None,
    ) -> SegmentRun:
        """Check what was prepared against the cluster, then create the output or resume it.

        tell: told in a line where a share waits for another one to create the output.
        """
        settled, job, ledger = start_run(prepared, client, tell=tell)
        return cls(prepared=settled, job=job, ledger=ledger, client=client)

    @property
    def regions(self) -> tuple[Region, ...]:
        """All regions, or those of the run's share; those that are done already cost nothing."""
        return self.prepared.regions

    @property
    def blocks(self) -> int:
        """How many blocks the run is there for: all, or those of its share."""
        return self.prepared.blocks

    def segment_region(self, region: Region) -> int:
        """Do the blocks of a region that are not done; return how many are done now.

        Blocks that fail after their retries are set aside and do not stop the rest.
        """
        left = blocks_left(self._ledger, region.indices)
        if left and not self._limit.is_drained:
            outcomes = store_outcomes if self.prepared.request.engine == "store" else graph_outcomes
            with span(f"region-{region.number}"):
                for batch in outcomes(
                    self.job, region, left, client=self._client, limit=self._limit,
                    stop=self._stop, retries=self.prepared.request.retries,
                ):  # fmt: skip
                    self._record(batch.results, batch.failures)
        if self._stop.is_set():
            if self._given_up:  # by the other region, perhaps: both say why
                raise RunError(self._given_up)
            raise RunStoppedError(f"stopped: {self.resume_advice}")
        if self._limit.is_drained and self._is_left(region):
            raise self.drained()
        return sum(map(self._ledger.is_done, region.indices))

    def _is_left(self, region: Region) -> bool:
        left = blocks_left(self._ledger, region.indices)
        return not self.failures.keys() >= set(left)

    def drained(self) -> RunDrainedError:
        """Return what a drained run ends with."""
        done = self._ledger.count(BlockState.DONE)
        return RunDrainedError(
            f"drained: {done} of {self.blocks} blocks are done; {self.resume_advice}"
        )

    def _record(
        self, results: Iterable[BlockResult], failures: Iterable[tuple[tuple[int, ...], str]]
    ) -> None:
        results, failures = list(results), list(failures)
        self._limit.ended(len(results))
        self._ledger.record([result.index for result in results], BlockState.DONE)
        self._ledger.record([index for index, _ in failures], BlockState.SET_ASIDE)
        with self._lock:
            for result in results:
                self._figures = self._figures.with_block(result)
                self._failures.pop(result.index, None)
            self._failures.update(failures)
            due = time.monotonic() - self._noted_at > NOTE_EVERY_S
            if due:
                self._noted_at = time.monotonic()
        if due:
            self.note_figures()
        if self._is_hopeless():
            self._given_up = (
                f"the first {len(self._failures)} blocks all failed, the last one with: "
                f"{next(reversed(self._failures.values()))}; {self.resume_advice}"
            )
            self.stop()
            raise RunError(self._given_up)

    def _is_hopeless(self) -> bool:
        """Return whether nothing was ever done, and every block failed for one reason."""
        with self._lock:
            alike = len(set(self._failures.values())) == 1
            many = len(self._failures) >= GIVE_UP_AFTER
            return alike and many and not self._ledger.count(BlockState.DONE)

    def finish(self) -> Figures:
        """Build the pyramid and note the figures; raise RunError if blocks were set aside.

        A share builds none: its pyramid is the whole volume's, made once all shares are done.
        """
        self.note_figures()
        if self._failures:
            raise RunError(self._failure_text())
        if self._ledger.count(BlockState.DONE) < self.blocks:
            raise RunError(f"not every block is done: {self.resume_advice}")
        self._ledger.check()
        if not self.prepared.request.share:
            self._build_pyramid()
        self._check_arrays()
        self._stage = "done"
        self.note_figures()
        return self.figures

    def _build_pyramid(self) -> None:
        """Build the levels that are not there yet; a drained run ends between two of them."""
        self._stage = "pyramid"
        if self._ledger.noted("pyramid") == "complete":
            return
        built = list(self._ledger.noted("levels") or ())
        for level in self.prepared.pyramid(self.job.run_token):
            if level.path in built:
                continue
            if self._limit.is_drained:
                raise self.drained()
            build_level(self._client, level, stop=self._stop)
            built.append(level.path)
            self._ledger.note(levels=built)
        self._ledger.note(pyramid="complete")

    def _check_arrays(self) -> None:
        """Raise RunError unless every array that was written can still be opened."""
        for output in self.job.outputs:
            try:
                open_array(self.job.output, output.path)
            except OvertileError as error:
                raise RunError(f"the output was damaged while the run wrote it: {error}") from error

    def note_figures(self) -> None:
        """Keep the figures in the output, those of earlier runs of the job counted in."""
        self._ledger.note(figures=self.figures.to_json())

    def _failure_text(self) -> str:
        named = [f"block {','.join(map(str, i))}: {why}" for i, why in self._failures.items()]
        more = f" and {len(named) - 3} more" if len(named) > 3 else ""
        return (
            f"{len(named)} of {self.blocks} blocks failed and were set aside "
            f"({'; '.join(named[:3])}{more}); {self.resume_advice}"
        )

    @property
    def resume_advice(self) -> str:
        """What a person does after a run that did not end well."""
        without = " without --overwrite" if self.prepared.request.overwrite else ""
        return f"the rest is kept: start the same run again{without} to do what is missing"

    @property
    def session(self) -> Figures:
        """What this run did until now."""
        with self._lock:
            return self._figures.with_seconds(time.monotonic() - self._started)

    @property
    def figures(self) -> Figures:
        """What was done until now, by this and earlier runs of the same job."""
        return self._before + self.session

    @property
    def failures(self) -> dict[tuple[int, ...], str]:
        """Blocks that were set aside in this run, and why."""
        with self._lock:
            return dict(self._failures)

    def noted(self, name: str) -> Any:
        """Return an attribute of the run as kept in the output, the same for all shares."""
        return self._ledger.noted_of_output(name)

    def progress(self) -> Progress:
        """Return how far the run is."""
        workers = self._workers()
        with self._lock:
            return Progress(
                blocks=self.blocks,
                done=self._ledger.count(BlockState.DONE),
                done_before=self.resumed_blocks,
                set_aside=len(self._failures),
                voxels=self.prepared.voxels,
                voxels_done=self._figures.voxels,
                seconds=time.monotonic() - self._started,
                stage=self._stage,
                workers=workers,
            )

    def stop(self) -> None:
        """Let the regions end: nothing new is submitted, what is in flight is cancelled."""
        self._stop.set()

    def drain(self) -> None:
        """Let the run end early: nothing new is submitted, what is in flight ends and is recorded.

        Then segment_region, or finish, raises RunDrainedError, unless there was nothing left. Of
        the engine map_overlap the regions at hand are in flight. Any thread may call this.
        """
        self._limit.drain()


def segment_volume(
    input: str,  # noqa: A002
    output: str,
    predictor: Predictor,
    *,
    client: Client | None = None,
    watch: Callable[[SegmentRun], Any] | None = None,
    **options: Any,
) -> Figures:
    """Segment a volume, Zarr in, Zarr out, and return what it came to.

    input, output: local paths or URIs. predictor: see predictor.py. client: a Dask client; without
    one, threads of this process do the work. watch: called with the run once it is open; what it
    returns is used as a context manager around the work (a progress bar). options: the fields of
    SegmentRequest. The output keeps a report, ``run/report.html``. Raises kinds of OvertileError
    for what the user can mend, RunError for a run that did not end well.
    """
    request = SegmentRequest(
        input=Location.parse(input), output=Location.parse(output, kind=OutputError), **options
    )
    with own_client() if client is None else nullcontext(client) as active:
        run = SegmentRun.open(request, predictor, active)
        with (watch(run) if watch else None) or nullcontext():
            return complete(run)


def complete(run: SegmentRun) -> Figures:
    """Segment all regions, build the pyramid, keep the report; return what the run came to.

    A run that does not end well keeps a report too, which says why, and raises RunError.
    """
    try:
        segment_regions(run)
        figures = run.finish()
    except RunError as error:
        keep_report(run, error=str(error))
        raise
    keep_report(run)
    return figures


def segment_regions(run: SegmentRun) -> None:
    """Segment all regions, two at a time; whatever ends this ends the regions.

    Only a drained region leaves the other one its time.
    """
    is_drained = False
    with ThreadPoolExecutor(REGIONS_AT_A_TIME, thread_name_prefix="region") as pool:
        futures = [pool.submit(run.segment_region, region) for region in run.regions]
        try:
            for future in as_completed(futures):
                try:
                    future.result()
                except RunDrainedError:
                    is_drained = True
        except BaseException:
            run.stop()
            for future in futures:
                future.cancel()
            with suppress(RunError):  # the first error is the one to tell
                run.note_figures()
            raise
    if is_drained:
        run.note_figures()
        raise run.drained()


def own_client() -> Client:
    """Return a client of a cluster of threads in this process, for who has none."""
    return Client(
        processes=False, n_workers=1, threads_per_worker=3, dashboard_address=None,
        set_as_default=False,
    )  # fmt: skip
