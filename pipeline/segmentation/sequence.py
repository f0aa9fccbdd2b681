"""The steps of a run in order, for Python, the shell and Prefect: regions, pyramid, report."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, nullcontext, suppress
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, TypeAlias

from ..base.errors import OvertileError, RunDrainedError, RunError
from ..ledger.liveness import alive
from ..planning.blocks import Region
from .run import SegmentRun
from .run_report import write_report
from .summary import RunSummary

REGIONS_AT_A_TIME = 2
"""While the last blocks of one region run, the next region keeps the other workers busy."""

Watch: TypeAlias = Callable[[SegmentRun], AbstractContextManager[Any] | None]
"""Returns a context manager in which the run's work is done, for example a progress bar."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """How each step is executed: called by default; Prefect makes task runs of some."""

    segment_region: Callable[[SegmentRun, Region], Any] = SegmentRun.segment_region
    finish: Callable[[SegmentRun], Any] = SegmentRun.finish
    report: Callable[[RunSummary], None] = write_report


def complete(run: SegmentRun, *, steps: Steps = Steps(), watch: Watch | None = None) -> RunSummary:
    """Segment all regions, build the pyramid, write the report.

    Raises RunError for a run that did not complete; its report states the reason.
    """
    try:
        with (
            alive(run.job.output, token=run.job.run_token),
            (watch(run) if watch else None) or nullcontext(),
        ):
            segment_regions(run, steps)
            steps.finish(run)
    except RunError as error:
        steps.report(run.summary(error=str(error)))
        raise
    summary = run.summary()
    steps.report(summary)
    return summary


def segment_regions(run: SegmentRun, steps: Steps = Steps()) -> None:
    """Segment all regions, a few at a time.

    The first error, or an interrupt, stops the other regions; a drained region does not.
    """
    is_drained = False
    with ThreadPoolExecutor(REGIONS_AT_A_TIME, thread_name_prefix="region") as pool:
        futures: list[Future[Any]] = []
        try:
            for region in run.regions:
                context = copy_context()  # Prefect's flow run is in it
                futures.append(pool.submit(context.run, steps.segment_region, run, region))
            for future in as_completed(futures):
                try:
                    future.result()
                except RunDrainedError:
                    is_drained = True
        except BaseException:
            run.stop()
            for future in futures:
                future.cancel()
            with suppress(OvertileError):  # the first error matters
                run.note_figures()
            raise
    if is_drained:
        run.note_figures()
        raise run.drained()
