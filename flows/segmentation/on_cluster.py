"""One run on a cluster, the same for the shell and for the Prefect flow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deploy import ClusterSpec, open_cluster
from deploy.clusters.fork_server import start_fork_server
from pipeline.base.location import Location
from pipeline.base.text import shape_text
from pipeline.output.guard import check_apart
from pipeline.report.extras import ObjectsShown, ReportExtras
from pipeline.report.report import Command, Table
from pipeline.segmentation.prepare import Prepared
from pipeline.segmentation.report_tables import report_path
from pipeline.segmentation.room import fit_to_workers
from pipeline.segmentation.run import SegmentRun
from pipeline.segmentation.run_report import write_report
from pipeline.segmentation.sequence import Steps, Watch, complete
from pipeline.segmentation.summary import RunSummary
from pipeline.volume.size_text import size_line

from ..metrics.publish import published
from ..metrics.work import Work
from ..options.objects import ObjectDefinition
from ..preflight.checks import check_before_start
from ..preflight.output import check_writable_here

if TYPE_CHECKING:
    from pipeline.objects.run import ObjectsRun


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontEnd:
    """Where a run shows its messages, its progress and its result."""

    say: Callable[[str], None]
    warn: Callable[[str], None]
    doing: Callable[[str], None] = lambda text: None
    """Takes what is being done, for a display that the next message replaces."""
    checked: Callable[[Prepared, str], None]
    """Called after the preflight checks, with the address of the Dask dashboard."""
    watch: Watch
    steps: Steps
    find_objects: Callable[[ObjectsRun], Any]
    """Finds the objects of a segmentation, and shows the progress and the result."""
    commands: tuple[Command, ...] = ()
    """What repeats the run, for the report."""
    score: Callable[[], Table] | None = None
    """Scores the result against a truth, once the objects are found, for the report."""


def segment_on_cluster(
    prepared: Prepared,
    *,
    weights: str,
    spec: ClusterSpec,
    front_end: FrontEnd,
    objects: ObjectDefinition | None = None,
) -> RunSummary:
    """Open the cluster, check it, do the run, and find objects where they are defined.

    Raises kinds of OvertileError, RunError.
    """
    if objects is not None:
        from pipeline.objects.preparation.memory import check_memory  # with numba: 1 s

        from .objects import objects_run, planned_objects

        planned_objects(objects, prepared)  # raises before a cluster is started
    if prepared.output_action == "replaced":
        check_apart(prepared.request.output, Location.parse(weights), name="weights file")
    if spec.kind == "local":
        start_fork_server(with_torch=True)
    check_writable_here(prepared.request.output)
    if not is_existing(spec):
        front_end.say(f"{_input_text(prepared)}; starting workers")
    front_end.doing("connecting to the cluster" if is_existing(spec) else "starting workers")
    with open_cluster(spec, notify=front_end.say) as client:
        front_end.doing("checking the workers: files, space, devices")
        prepared = fit_to_workers(prepared, client)
        check_before_start(client, prepared, weights=weights, notify=front_end.warn)
        if objects is not None:
            check_memory(planned_objects(objects, prepared), client)
        front_end.checked(prepared, client.dashboard_link)
        front_end.doing("loading the network on a worker")
        run = SegmentRun.start(prepared, client, notify=front_end.say)
        front_end.say(size_line(prepared.source))
        with published(
            client.dashboard_link, output=str(prepared.request.output),
            is_existing=is_existing(spec),
        ) as works:  # fmt: skip
            works.append(Work(run=run, name="segment", voxel_bytes=run.prepared.output_voxel_bytes))
            summary = complete(run, steps=front_end.steps, watch=front_end.watch)
            if summary.since is not None:
                front_end.say(summary.since)
            if objects is not None and prepared.request.share is None:  # else finish does it
                of_objects = objects_run(objects, prepared, client)
                works.append(
                    Work(run=of_objects, name="objects", objects=lambda: of_objects.objects)
                )
                front_end.find_objects(of_objects)
                _report_again(summary, of_objects, front_end)
    return summary


def _report_again(summary: RunSummary, of_objects: ObjectsRun, front_end: FrontEnd) -> None:
    """Write the report of the segmentation once more: now it shows the objects."""
    extras = ReportExtras(
        objects=_shown(of_objects), commands=front_end.commands,
        scores=None if front_end.score is None else front_end.score(),
    )  # fmt: skip
    write_report(summary, extras)
    place = summary.job.output / report_path(summary)
    front_end.say(f"report of the whole run, now with the objects: {place}")


def _shown(run: ObjectsRun) -> ObjectsShown:
    """Return what the report of the segmentation shows of its objects."""
    from pipeline.objects.report.run_report import objects_shown  # with pyarrow
    from pipeline.objects.table.table_summary import summarise_table

    summary = run.summary()
    return objects_shown(summary, summarise_table(summary.table))


def _input_text(prepared: Prepared) -> str:
    source = prepared.source
    shape = shape_text(source.shape_zyx)
    return f"input: {source.location}, {shape} voxels, {source.dtype}"


def is_existing(spec: ClusterSpec) -> bool:
    """Return whether the cluster exists: then nothing is said before it has answered."""
    return spec.kind in ("address", "scheduler_file")
