"""A run as the shell shows it: lines and a progress bar on standard error."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from deploy import ClusterSpec
from pipeline.base.text import counted, duration_text, shape_text, voxel_rate_text
from pipeline.ledger.shares import merge_shares
from pipeline.output.viewing import view_commands
from pipeline.report.extras import ReportExtras
from pipeline.report.report import Command
from pipeline.segmentation.prepare import Prepared, prepare
from pipeline.segmentation.report_tables import report_path
from pipeline.segmentation.run import SegmentRun
from pipeline.segmentation.run_report import write_report
from pipeline.segmentation.sequence import Steps
from pipeline.segmentation.summary import RunSummary
from pipeline.volume.intensity import MEASURED_KINDS
from pipeline.volume.size_text import size_line

from ..options.objects import ObjectDefinition
from ..options.segment import SegmentOptions
from ..signals.drain import Drain
from ..text.next_commands import commands_after
from ..text.objects import partial_lines, result_lines, start_lines
from ..text.terminal import say, show_status, shown
from .expected_room import expected_room
from .on_cluster import FrontEnd, segment_on_cluster

if TYPE_CHECKING:
    from pipeline.objects.run import ObjectsRun


def run_segmentation(
    *,
    input: str,  # noqa: A002
    output: str,
    weights: str,
    options: SegmentOptions,
    spec: ClusterSpec,
    objects: ObjectDefinition | None = None,
    drain: Drain | None = None,
    cluster: Sequence[str] = (),
) -> RunSummary:
    """Segment a volume and show the run. Raises kinds of OvertileError, RunError.

    drain: can end the run early once it has begun. cluster: the options that ``spec`` was made
    from, for the command that the report states.
    """
    show_status("reading the metadata of the input, and planning")
    request = options.request(input=input, output=output)
    prepared = prepare(request, options.predictor(weights), room=expected_room(spec))
    commands = commands_after(
        input=input, output=output, weights=weights, options=options, objects=objects,
        cluster=cluster,
    )  # fmt: skip
    front_end = terminal(drain, commands=commands)
    return segment_on_cluster(
        prepared, weights=weights, spec=spec, front_end=front_end, objects=objects
    )


def run_finish(
    prepared: Prepared,
    *,
    weights: str,
    spec: ClusterSpec,
    objects: ObjectDefinition | None = None,
    drain: Drain,
) -> RunSummary:
    """Finish an output whose shares are complete: merge the ledgers, build pyramid and report."""
    merge_shares(prepared.request.output)
    return segment_on_cluster(
        prepared, weights=weights, spec=spec, front_end=terminal(drain), objects=objects
    )


def terminal(drain: Drain | None = None, *, commands: tuple[Command, ...] = ()) -> FrontEnd:
    """Return the front end of the shell's commands. commands: what comes next, for the report."""

    @contextmanager
    def watch(run: SegmentRun) -> Iterator[None]:
        if drain:
            drain.begin(run)
        say(f"dashboard: {run.dashboard_link}")
        say_start(run.prepared)
        with shown(run):
            yield

    return FrontEnd(
        say=say, warn=say, doing=show_status, checked=_say_measuring, watch=watch,
        steps=Steps(report=partial(_report, commands=commands)), commands=commands,
        find_objects=partial(find_objects, drain=drain),
    )  # fmt: skip


def find_objects(
    run: ObjectsRun,
    *,
    drain: Drain | None = None,
    is_alone: bool = False,
    commands: tuple[Command, ...] = (),
) -> int:
    """Find objects and show the progress. Raises kinds of OvertileError, RunError.

    is_alone: no segmentation of the same command has stated the voxel size. commands: what repeats
    the run, for its report.
    """
    from pipeline.objects.report.run_report import objects_report, write_objects_report
    from pipeline.objects.table.table_summary import summarise_table

    @contextmanager
    def watch(run: ObjectsRun) -> Iterator[None]:
        if drain:
            drain.begin(run)
        with shown(run):
            yield

    for line in start_lines(run.prepared):
        say(line)
    if is_alone:
        say(size_line(run.prepared.scores.source))
    count = run.complete(watch)
    if run.prepared.is_partial:
        for line in partial_lines(run):
            say(line)
        return count
    summary = run.summary()
    found = summarise_table(summary.table)
    write_objects_report(summary, objects_report(summary, found, commands=commands))
    for line in result_lines(summary, found):
        say(line)
    return count


def _say_measuring(prepared: Prepared, dashboard_link: str) -> None:
    if prepared.record["kind"] in MEASURED_KINDS and prepared.output_action != "resumed":
        say(f"measuring the normalisation first; dashboard: {dashboard_link}")


def say_start(prepared: Prepared) -> None:
    """Print what the run is about to do."""
    plan, source = prepared.plan, prepared.source
    selection, box = prepared.selection, prepared.part.box
    shape = shape_text(source.shape_zyx if box is None else box.shape)
    of = "" if box is None else f" of {shape_text(source.shape_zyx)}"
    say(
        f"segmenting {shape}{of} voxels in {counted(len(selection), 'block')} of "
        f"{shape_text(plan.core)}"
    )
    if skipped := len(plan) - len(selection):
        say(f"{counted(skipped, 'block')} outside the part to segment: skipped")
    if share := prepared.request.share:
        say(f"shard {share}: {prepared.computed_blocks} of these blocks")
    for note in prepared.notes:
        say(f"note: {note}")


def _report(run: RunSummary, *, commands: tuple[Command, ...]) -> None:
    show_status("writing the report")
    write_report(run, ReportExtras(commands=commands))
    if run.error is None:
        say_result(run)


def say_result(run: RunSummary) -> None:
    """Print what the run computed, and where its output and report are."""
    figures, output, blocks = run.progress.figures, run.job.output, run.progress.computed
    skipped = f", {run.progress.skipped:,} skipped" if run.progress.skipped else ""
    if run.done_before == blocks:
        say(f"done: {counted(blocks, 'block')}{skipped}, all by earlier runs")
    else:
        speed = figures.voxels / max(figures.seconds, 1e-9)
        earlier = f", {run.done_before} by earlier runs" if run.done_before else ""
        say(
            f"done: {counted(blocks, 'block')}{skipped}{earlier}; {figures.voxels:,} voxels in "
            f"{duration_text(figures.seconds)}, {voxel_rate_text(speed)}"
        )
    if bad := run.figures.bad_voxels:
        say(f"warning: {bad:,} voxels of the input are NaN or infinite: read as 0")
    if run.prepared.request.share:
        say("once all shards are done, run overtile finish with the same arguments")
    say(f"segmentation: {output}")
    say(f"report: {output / report_path(run)}")
    if not run.prepared.request.share:
        say(f"look at it: {view_commands(output)[0].command}")
