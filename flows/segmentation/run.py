"""What the shell's doors have in common: a cluster, a run, its progress, its report."""

from __future__ import annotations

from deploy import ClusterSpec, open_cluster
from pipeline.base.text import counted, duration_text, shape_text, voxel_rate_text
from pipeline.ledger.shares import merge_shares
from pipeline.segmentation.prepare import Prepared, prepare
from pipeline.segmentation.run import SegmentRun, complete
from pipeline.segmentation.run_report import report_path
from pipeline.volume.intensity import MEASURED_KINDS

from ..options.segment import SegmentOptions
from ..preflight.checks import check_before_start
from ..signals.drain import Drain
from ..text.terminal import say, shown


def run_segmentation(
    *,
    input: str,  # noqa: A002
    output: str,
    weights: str,
    options: SegmentOptions,
    spec: ClusterSpec,
    drain: Drain | None = None,
) -> SegmentRun:
    """Segment a volume and tell a person about it. Raises kinds of OvertileError, RunError.

    drain: told of the run once it has begun.
    """
    request = options.request(input=input, output=output)
    prepared = prepare(request, options.predictor(weights))
    return _run(prepared, weights=weights, spec=spec, drain=drain)


def run_finish(prepared: Prepared, *, weights: str, spec: ClusterSpec, drain: Drain) -> SegmentRun:
    """End an output whose shares are complete: one ledger, its pyramid, its report."""
    merge_shares(prepared.request.output)
    return _run(prepared, weights=weights, spec=spec, drain=drain)


def _run(prepared: Prepared, *, weights: str, spec: ClusterSpec, drain: Drain | None) -> SegmentRun:
    with open_cluster(spec, tell=say) as client:
        check_before_start(client, prepared, weights=weights, tell=say)
        if prepared.record["kind"] in MEASURED_KINDS and prepared.output_action != "resumed":
            say(f"measuring the normalisation first; dashboard: {client.dashboard_link}")
        run = SegmentRun.start(prepared, client, tell=say)
        if drain:
            drain.begin(run)
        say(f"dashboard: {client.dashboard_link}")
        say_start(prepared)
        with shown(run):
            complete(run)
        say_result(run)
    return run


def say_start(prepared: Prepared) -> None:
    """Print what is about to be done."""
    plan, source = prepared.plan, prepared.source
    say(
        f"segmenting {shape_text(source.shape_zyx)} voxels in {counted(len(plan), 'block')} of "
        f"{shape_text(plan.core)}"
    )
    if share := prepared.request.share:
        say(f"shard {share}: {prepared.blocks} of these blocks")
    for note in prepared.notes:
        say(f"note: {note}")


def say_result(run: SegmentRun) -> None:
    """Print what came out, and where to look at it."""
    figures, output, total = run.session, run.job.output, run.blocks
    if run.resumed_blocks == total:
        say(f"done: {counted(total, 'block')}, all by earlier runs")
    else:
        speed = figures.voxels / max(figures.seconds, 1e-9) / 1e6
        earlier = f", {run.resumed_blocks} by earlier runs" if run.resumed_blocks else ""
        say(
            f"done: {counted(total, 'block')}{earlier}; {figures.voxels:,} voxels in "
            f"{duration_text(figures.seconds)}, {voxel_rate_text(speed)}"
        )
    if bad := run.figures.bad_voxels:
        say(f"warning: {bad:,} voxels of the input are NaN or infinite: read as 0")
    if run.prepared.request.share:
        say("when all shards are done: overtile finish, with these arguments")
    say(f"segmentation: {output}")
    say(f"report: {output / report_path(run)}")
