"""One segmentation run: opened, its regions segmented, then finished.

Every door goes through here. The shell and Python call the regions one after the other (two at a
time, so that no worker waits for a region's last block); the Prefect flow makes each a task run.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal
from uuid import uuid4

from distributed import Client, span

from .engines import graph_outcomes, store_outcomes
from .errors import ClusterError, OutputError, PlanError, RunError, RunStoppedError, VolumeError
from .explain import redacted
from .figures import Figures
from .intensity import Intensity
from .ledger import BlockState, Ledger, blocks_left
from .measure import measure_intensity
from .ome import create_image, create_root
from .output import delete_output
from .plan import Region
from .predictor import Predictor
from .prepare import VERSION, Prepared, SegmentRequest, prepare, with_settled
from .provenance import provenance
from .pyramid import build_level
from .schedule import InFlightLimit, run_all
from .segment import BlockJob, BlockResult
from .stores import scheme_of
from .volume import VolumeSource, find_volume, open_volume

REGIONS_AT_A_TIME = 2
GIVE_UP_AFTER = 8
"""A run whose first blocks all fail, this many of them, stops: the rest would fail too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run is; read by whoever shows it, never pushed by the driving loop."""

    blocks: int
    done: int
    done_before: int
    """Of ``done``, those that an earlier run of the same job had done."""
    set_aside: int
    voxels: int
    voxels_done: int
    """By this run."""
    seconds: float
    stage: Literal["segment", "pyramid", "done"]
    """What the run is at."""


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
        self._stop = threading.Event()
        self._given_up = ""
        self._lock = threading.Lock()
        self._figures = Figures.from_json(ledger.noted("figures"))
        self._session_voxels = 0
        self._failures: dict[tuple[int, ...], str] = {}
        self._started = time.monotonic()
        self._noted_at = self._started
        self._stage: Literal["segment", "pyramid", "done"] = "segment"

    @classmethod
    def open(cls, request: SegmentRequest, predictor: Predictor, client: Client) -> SegmentRun:
        """Check everything, then create the output or resume it. Nothing is written before.

        Raises kinds of OvertileError for what the user can mend.
        """
        return cls.start(prepare(request, predictor), client)

    @classmethod
    def start(cls, prepared: Prepared, client: Client) -> SegmentRun:
        """Check what was prepared against the cluster, then create the output or resume it."""
        token = uuid4().hex[:12]
        request = prepared.request
        _check_reach(prepared, client)
        _check_memory(prepared, client)
        settled = _settle(prepared, client, token)
        prepared = with_settled(prepared, settled)
        job = prepared.job(settled)
        if prepared.fate == "resumed":
            ledger = Ledger.resume(request.output, job)
            intensity = Intensity.from_json(ledger.noted("intensity"))
        else:
            intensity = _measure(prepared, client, token)
            if prepared.fate == "replaced":
                delete_output(request.output)
            ledger = _create(prepared, job, intensity, client)
        block_job = BlockJob(
            source=prepared.source,
            output_uri=request.output,
            run_token=token,
            plan=prepared.plan,
            predictor=settled,
            intensity=intensity,
            outputs=prepared.outputs,
        )
        return cls(prepared=prepared, job=block_job, ledger=ledger, client=client)

    @property
    def regions(self) -> tuple[Region, ...]:
        """All regions; those that are done already cost nothing."""
        return self.prepared.regions

    def segment_region(self, region: Region) -> int:
        """Do the blocks of a region that are not done; return how many are done now.

        Blocks that fail after their retries are set aside and do not stop the rest.
        """
        left = blocks_left(self._ledger, region.indices)
        if left:
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
            raise RunStoppedError(f"stopped: {self._resume_advice()}")
        return sum(map(self._ledger.is_done, region.indices))

    def _record(
        self, results: Iterable[BlockResult], failures: Iterable[tuple[tuple[int, ...], str]]
    ) -> None:
        results, failures = list(results), list(failures)
        self._ledger.record([result.index for result in results], BlockState.DONE)
        self._ledger.record([index for index, _ in failures], BlockState.SET_ASIDE)
        with self._lock:
            for result in results:
                self._figures = self._figures.with_block(result)
                self._session_voxels += result.voxels
            self._failures.update(failures)
            hopeless = len(self._failures) >= GIVE_UP_AFTER and not self._session_voxels
            due = time.monotonic() - self._noted_at > 5
            if due:
                self._noted_at = time.monotonic()
        if due:
            self._ledger.note(figures=self._figures.to_json())
        if hopeless:
            self._given_up = (
                f"the first {len(self._failures)} blocks all failed, the last one with: "
                f"{next(reversed(self._failures.values()))}; {self._resume_advice()}"
            )
            self.stop()
            raise RunError(self._given_up)

    def finish(self) -> Figures:
        """Build the pyramid and note the figures; raise RunError if blocks were set aside."""
        self._note_figures()
        if self._failures:
            raise RunError(self._failure_text())
        if self._ledger.count(BlockState.DONE) < len(self.prepared.plan):
            raise RunError(f"not every block is done: {self._resume_advice()}")
        self._stage = "pyramid"
        if self._ledger.noted("pyramid") != "complete":
            for level in self.prepared.pyramid(self.job.run_token):
                build_level(self._client, level, stop=self._stop)
            self._ledger.note(pyramid="complete")
        self._stage = "done"
        self._note_figures()
        return self._figures

    def _note_figures(self) -> None:
        with self._lock:
            since = time.monotonic() - self._started
            self._figures = self._figures.with_seconds(since)
            self._started += since
            figures = self._figures
        self._ledger.note(figures=figures.to_json())

    def _failure_text(self) -> str:
        named = [f"block {','.join(map(str, i))}: {why}" for i, why in self._failures.items()]
        more = f" and {len(named) - 3} more" if len(named) > 3 else ""
        return (
            f"{len(named)} of {len(self.prepared.plan)} blocks failed and were set aside "
            f"({'; '.join(named[:3])}{more}); {self._resume_advice()}"
        )

    def _resume_advice(self) -> str:
        return "the rest is kept: start the same run again to do what is missing"

    @property
    def figures(self) -> Figures:
        """What was done and how long it took, earlier runs of the same job counted in."""
        with self._lock:
            return self._figures

    @property
    def failures(self) -> dict[tuple[int, ...], str]:
        """Blocks that were set aside in this run, and why."""
        with self._lock:
            return dict(self._failures)

    def noted(self, name: str) -> Any:
        """Return an attribute of the run as kept in the output."""
        return self._ledger.noted(name)

    def progress(self) -> Progress:
        """Return how far the run is."""
        with self._lock:
            return Progress(
                blocks=len(self.prepared.plan),
                done=self._ledger.count(BlockState.DONE),
                done_before=self.resumed_blocks,
                set_aside=len(self._failures),
                voxels=self.prepared.budget.voxels,
                voxels_done=self._session_voxels,
                seconds=time.monotonic() - self._started,
                stage=self._stage,
            )

    def stop(self) -> None:
        """Let the regions end: nothing new is submitted, what is in flight is cancelled."""
        self._stop.set()


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
    SegmentRequest. Raises kinds of OvertileError for what the user can mend, RunError for a run
    that did not end well.
    """
    request = SegmentRequest(input=input, output=output, **options)
    with _own_client() if client is None else nullcontext(client) as active:
        run = SegmentRun.open(request, predictor, active)
        with (watch(run) if watch else None) or nullcontext():
            segment_regions(run)
            return run.finish()


def segment_regions(run: SegmentRun) -> None:
    """Segment all regions, two at a time; whatever ends this ends the regions."""
    with ThreadPoolExecutor(REGIONS_AT_A_TIME, thread_name_prefix="region") as pool:
        futures = [pool.submit(run.segment_region, region) for region in run.regions]
        try:
            for future in futures:
                future.result()
        except BaseException:
            run.stop()
            for future in futures:
                future.cancel()
            raise


def _own_client() -> Client:
    return Client(
        processes=False, n_workers=1, threads_per_worker=3, dashboard_address=None,
        set_as_default=False,
    )  # fmt: skip


def _check_reach(prepared: Prepared, client: Client) -> None:
    """Raise where a ``memory://`` store is asked of workers in other processes."""
    addresses = list(client.scheduler_info(n_workers=-1)["workers"])
    if not addresses:
        raise ClusterError("the cluster has no workers: start some, then run again")
    uris = (prepared.source.uri, prepared.request.output)
    if any(scheme_of(uri) == "memory" for uri in uris) and not all(
        address.startswith("inproc://") for address in addresses
    ):
        raise VolumeError(
            "memory:// lives in one process and the workers are others: use a store that they can "
            "reach, or a client with processes=False"
        )


def _check_memory(prepared: Prepared, client: Client) -> None:
    need = prepared.budget.worker_memory_bytes
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    limits = [w["memory_limit"] for w in workers if w.get("memory_limit")]
    if limits and need > min(limits):
        raise PlanError(
            f"a worker would need {need / 2**30:.1f} GiB and has {min(limits) / 2**30:.1f} GiB: "
            "take fewer workers, smaller blocks (--block), or smaller tiles (--tile-memory)"
        )


def _settle(prepared: Prepared, client: Client, token: str) -> Predictor:
    """Settle the predictor on a worker, which proves that it can import us and see the files."""
    calls = [(_settled_on_worker, (prepared.predictor, prepared.source))]
    settled: Predictor = run_all(
        client, calls, key="settle-predictor", token=token, stop=threading.Event(), retries=0
    )[0]
    return settled


def _settled_on_worker(predictor: Predictor, source: VolumeSource) -> Predictor:
    open_volume(source)
    return predictor.settled()


def _measure(prepared: Prepared, client: Client, token: str) -> Intensity:
    request, source = prepared.request, prepared.source
    if "level" in prepared.record:
        source = find_volume(
            request.input, level=prepared.record["level"], channel=request.channel,
            time=request.time, axes=request.axes,
        )  # fmt: skip
    return measure_intensity(source, prepared.record, client, token=token)


def _create(prepared: Prepared, job: Any, intensity: Intensity, client: Client) -> Ledger:
    """Create the output; the ledger first, so that a run that dies here is known as ours."""
    request = prepared.request
    try:
        create_root(request.output, version=request.format)
        ledger = Ledger.create(request.output, job, grid=prepared.plan.grid, version=VERSION)
        ledger.note(
            intensity=intensity.to_json(),
            provenance=provenance(prepared, workers=len(client.nthreads())),
        )
        for image in prepared.images:
            create_image(request.output, image, version=request.format)
        ledger.note(created=True)
    except OSError as error:
        raise OutputError(
            f"{redacted(request.output)} cannot be written ({error.strerror or error}): "
            "choose another output"
        ) from error
    return ledger
