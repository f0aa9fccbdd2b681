"""The Prefect flow ``segment-volume``: the shell's run, with a task run per region.

Objects are found in one task run, with one in it for each of its stages.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial

from prefect import State, flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.states import Cancelled

from pipeline.base.errors import RunStoppedError
from pipeline.objects.report.run_report import objects_report, write_objects_report
from pipeline.objects.run import ObjectsRun, Stage
from pipeline.objects.table.table_summary import summarise_table
from pipeline.planning.blocks import Region
from pipeline.report.extras import ReportExtras
from pipeline.report.report import Command
from pipeline.segmentation.prepare import Prepared, prepare
from pipeline.segmentation.run import SegmentRun
from pipeline.segmentation.run_report import run_report, write_report
from pipeline.segmentation.sequence import Steps
from pipeline.segmentation.summary import RunSummary

from .options.declared import words_of
from .options.segment import SegmentOptions
from .prefect.artifacts import link_dashboard, show_report
from .prefect.form import (
    DEFAULTS,
    Cluster,
    HowToSegment,
    Objects,
    Weights,
    cluster_of,
    objects_of,
    options_of,
)
from .prefect.progress import PrefectProgress, progress_in_prefect
from .prefect.run_names import named_after, region_name
from .prefect.without_credentials import Place, without_credentials
from .segmentation.expected_room import expected_room
from .segmentation.on_cluster import FrontEnd, segment_on_cluster
from .text.next_commands import commands_after
from .text.objects import result_lines, start_lines

ARTIFACT_PICTURE_SIDE = 384
"""Pictures in an artifact go through Prefect's database: smaller than the report's."""


@task(
    name="segment-region",
    task_run_name=region_name,  # type: ignore[arg-type]  # Prefect's protocol fits no function
    cache_policy=NO_CACHE,
)
def segment_region(run: SegmentRun, region: Region) -> int | State[int]:
    """Do the blocks of one region; return how many are done."""
    try:
        return run.segment_region(region)
    except RunStoppedError as stopped:  # cancelled with its flow run, not failed
        return Cancelled(message=str(stopped))


@task(name="build-pyramid", task_run_name="build pyramid", cache_policy=NO_CACHE)
def finish(run: SegmentRun) -> None:
    """Build the coarser levels, except for a share; raise RunError where blocks were set aside."""
    run.finish()


@task(name="objects-stage", task_run_name="objects: {stage.name}", cache_policy=NO_CACHE)
def objects_stage(stage: Stage) -> None:
    """Do one stage of finding objects: label, merge, …, write, table, pyramid."""
    stage.do()


@task(name="find-objects", task_run_name="find objects", cache_policy=NO_CACHE)
def find_objects(run: ObjectsRun) -> int | State[int]:
    """Find the objects in the scores; return their number."""
    logger = get_run_logger()
    for line in start_lines(run.prepared):
        logger.info(line)
    try:
        with progress_in_prefect(
            logger.info, key="objects-progress", doing="finding objects in the scores"
        ) as progress:
            count = run.complete(progress.watch, do=objects_stage)
    except RunStoppedError as stopped:
        return Cancelled(message=str(stopped))
    summary = run.summary()
    found = summarise_table(summary.table)
    write_objects_report(summary, objects_report(summary, found))
    shown = objects_report(summary, found, side=ARTIFACT_PICTURE_SIDE)
    show_report(shown, key="objects-report", description="Figures and pictures of the objects")
    for line in result_lines(summary, found):
        logger.info(line)
    return count


STEPS = Steps(segment_region=segment_region, finish=finish)


@without_credentials
@flow(name="segment-volume", flow_run_name=named_after("segment-volume"))
def segment_volume(
    input: Place,  # noqa: A002  the same name as in the shell
    output: Place,
    weights: Weights,
    objects: Objects = None,
    cluster: Cluster = "local",
    options: HowToSegment = DEFAULTS,
) -> str:
    """Segment a volume: Zarr, TIFF or slices in, OME-Zarr out.

    Relative paths start at the folder in which the flow runs. For a deployment, this is the
    project's folder on the Prefect worker's machine, wherever the run was requested.

    Args:
        input: OME-Zarr, Zarr array, TIFF, slide, folder or pattern of slices: a path or URI.
            Relative paths start at the folder in which overtile prefect up was called.
        output: OME-Zarr to create; an existing output of the same job is resumed. For example
            /data/out.zarr.
        weights: Weights file or URI, or the name of bundled weights, such as nuclei-2d.
        objects: Whether to find single objects too (cells, nuclei), into labels/objects. Yes, by
            components: connected voxels; by watershed: also splits objects that touch. Advanced:
            class, threshold, sizes and more.
        cluster: Where to compute: this machine (local), its GPUs (cuda), Slurm jobs, or a profile.
            Advanced: number of workers or jobs, partition and more.
        options: The defaults suit most images. Advanced: resolution level, channel, voxel size,
            part of the image, outputs, memory and more.
    """
    how, objects = options_of(options, SegmentOptions), objects_of(objects)
    how = how if objects is None else how.finding_objects()
    spec = cluster_of(cluster).spec()
    logging.getLogger("distributed").setLevel(logging.ERROR)  # Prefect prints what all log
    logger = get_run_logger()
    with progress_in_prefect(
        logger.info, key="segment-progress", doing="reading the metadata of the input, and planning"
    ) as progress:
        request = how.request(input=input, output=output)
        prepared = prepare(request, how.predictor(weights), room=expected_room(spec))
        for note in prepared.notes:
            logger.warning(note)
        commands = commands_after(
            input=input, output=output, weights=weights, options=how, objects=objects,
            cluster=words_of(cluster_of(cluster)),
        )  # fmt: skip
        front_end = replace(
            _front_end(logger, progress),
            steps=replace(STEPS, report=partial(_report, commands=commands)),
            commands=commands,
        )
        segment_on_cluster(
            prepared, weights=weights, spec=spec, front_end=front_end, objects=objects
        )
    return str(prepared.request.output)


def _front_end(
    logger: logging.Logger | logging.LoggerAdapter[logging.Logger], progress: PrefectProgress
) -> FrontEnd:
    def show_dashboard(prepared: Prepared, link: str) -> None:
        logger.info("Dask dashboard: %s", link)
        link_dashboard(link)

    return FrontEnd(
        say=progress.say,
        warn=logger.warning,
        doing=progress.doing,
        checked=show_dashboard,
        watch=progress.watch,
        steps=STEPS,
        find_objects=find_objects,
    )


def _report(run: RunSummary, *, commands: tuple[Command, ...]) -> None:
    extras = ReportExtras(commands=commands)
    write_report(run, extras)
    shown = run_report(run, side=ARTIFACT_PICTURE_SIDE, extras=extras, all_planes=False)
    show_report(shown, key="segment-report", description="Figures and pictures of the run")
