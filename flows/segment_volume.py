"""The Prefect flow ``segment-volume``: one task run per region, the same run as in the shell."""

from __future__ import annotations

import logging
from concurrent.futures import wait
from typing import Any

from prefect import State, flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import as_completed
from prefect.states import Cancelled
from prefect.task_runners import ThreadPoolTaskRunner

from deploy import open_cluster
from pipeline.base.errors import RunError, RunStoppedError
from pipeline.segmentation.prepare import prepare
from pipeline.segmentation.run import REGIONS_AT_A_TIME, SegmentRun
from pipeline.segmentation.run_report import keep_report, run_report

from .options.cluster import ClusterOptions
from .options.segment import SegmentOptions
from .prefect.artifacts import link_dashboard, progress_shown, show_report
from .preflight.checks import check_before_start

ARTIFACT_PICTURE_SIDE = 384
"""Pictures inside an artifact travel through Prefect's database: smaller than the report's."""


@task(name="segment-region", task_run_name="region-{number}", cache_policy=NO_CACHE)
def segment_region(run: SegmentRun, number: int) -> int | State[int]:
    """Do the blocks of one region; return how many are done."""
    try:
        return run.segment_region(next(one for one in run.regions if one.number == number))
    except RunStoppedError as stopped:  # cancelled with its flow run, not failed
        return Cancelled(message=str(stopped))


@task(name="build-pyramid", cache_policy=NO_CACHE)
def finish(run: SegmentRun) -> None:
    """Build the coarser levels, a share none; raise RunError where blocks were set aside."""
    run.finish()


@flow(
    name="segment-volume",
    task_runner=ThreadPoolTaskRunner(max_workers=REGIONS_AT_A_TIME),  # type: ignore[arg-type]
)
def segment_volume(
    input: str,  # noqa: A002  the same name as in the shell
    output: str,
    weights: str,
    options: SegmentOptions = SegmentOptions(),  # noqa: B008  frozen by use: pydantic copies it
    cluster: ClusterOptions = ClusterOptions(),  # noqa: B008
) -> str:
    """Segment a volume: Zarr in, OME-Zarr out.

    A path that is relative starts at the folder in which the flow runs. For a deployment that is
    the project's folder on the Prefect worker's machine, wherever the run was asked for.

    Args:
        input: OME-Zarr 0.4 or 0.5, or a Zarr v2 or v3 array: a path, s3://… or https://…
            (relative paths start at the project's folder)
        output: OME-Zarr to create; an existing output of the same job is resumed
        weights: Weights file or URI, or the name of bundled weights (demo, fib25-boundary)
        options: How to segment
        cluster: Where the Dask workers are
    """
    request = options.request(input=input, output=output)
    spec = cluster.spec()
    prepared = prepare(request, options.predictor(weights))
    logging.getLogger("distributed").setLevel(logging.ERROR)  # Prefect prints what all log
    logger = get_run_logger()
    for note in prepared.notes:
        logger.warning(note)
    with open_cluster(spec) as client:
        logger.info("Dask dashboard: %s", client.dashboard_link)
        link_dashboard(client.dashboard_link)
        check_before_start(client, prepared, weights=weights, tell=logger.warning)
        run = SegmentRun.start(prepared, client, tell=logger.info)
        try:
            with progress_shown(run):
                _segment_regions(run)
                finish(run)
        except RunError as error:
            _report(run, error=str(error))
            raise
        _report(run)
    return str(prepared.request.output)


def _segment_regions(run: SegmentRun) -> None:
    """Submit every region; whatever ends this (a cancellation too) ends the regions' blocks."""
    futures: list[Any] = []  # PrefectConcurrentFuture; Prefect's types say less
    try:
        futures.extend(segment_region.submit(run, region.number) for region in run.regions)
        for future in as_completed(futures):
            future.result()
    except BaseException:
        run.stop()
        for future in futures:
            future.wrapped_future.cancel()  # those that have not begun
        wait([future.wrapped_future for future in futures])
        raise


def _report(run: SegmentRun, *, error: str | None = None) -> None:
    keep_report(run, error=error)
    show_report(run_report(run, error=error, side=ARTIFACT_PICTURE_SIDE))
