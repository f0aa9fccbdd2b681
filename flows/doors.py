"""What the shell's doors have in common: a cluster, a run, its progress, its report."""

from __future__ import annotations

from deploy import ClusterSpec, open_cluster
from pipeline.geometry import shape_text
from pipeline.intensity import MEASURED_KINDS
from pipeline.prepare import Prepared, prepare
from pipeline.run import SegmentRun, complete

from .parameters import SegmentOptions
from .terminal import counted, duration_text, say, shown


def run_segmentation(
    *,
    input: str,  # noqa: A002
    output: str,
    weights: str,
    options: SegmentOptions,
    spec: ClusterSpec,
) -> SegmentRun:
    """Segment a volume and tell a person about it. Raises kinds of OvertileError, RunError."""
    request = options.request(input=input, output=output)
    prepared = prepare(request, options.predictor(weights))
    with open_cluster(spec, tell=say) as client:
        if prepared.record["kind"] in MEASURED_KINDS and prepared.fate != "resumed":
            say(f"measuring the normalisation first; dashboard: {client.dashboard_link}")
        run = SegmentRun.start(prepared, client)
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
    for note in prepared.notes:
        say(f"note: {note}")


def say_result(run: SegmentRun) -> None:
    """Print what came out, and where to look at it."""
    figures, output, total = run.session, run.job.output_uri, len(run.prepared.plan)
    if run.resumed_blocks == total:
        say(f"done: {counted(total, 'block')}, all by earlier runs")
    else:
        speed = figures.voxels / max(figures.seconds, 1e-9) / 1e6
        earlier = f", {run.resumed_blocks} by earlier runs" if run.resumed_blocks else ""
        say(
            f"done: {counted(total, 'block')}{earlier}; {figures.voxels:,} voxels in "
            f"{duration_text(figures.seconds)}, {speed:.2f} Mvoxel/s"
        )
    if bad := run.figures.bad_voxels:
        say(f"warning: {bad:,} voxels of the input are NaN or infinite: read as 0")
    say(f"segmentation: {output}")
    say(f"report: {output.rstrip('/')}/run/report.html")
