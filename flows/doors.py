"""What the shell's doors have in common: a cluster, a run, its progress, its report."""

from __future__ import annotations

from deploy import ClusterSpec, open_cluster
from pipeline.errors import RunError
from pipeline.geometry import shape_text
from pipeline.intensity import MEASURED_KINDS
from pipeline.output import write_beside_ledger
from pipeline.prepare import Prepared, prepare
from pipeline.report import to_html
from pipeline.run import SegmentRun, segment_regions
from pipeline.run_report import run_report
from unet import UNetPredictor

from .parameters import SegmentOptions
from .terminal import duration_text, say, shown


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
    prepared = prepare(request, UNetPredictor(weights, precision=options.precision))
    with open_cluster(spec) as client:
        if prepared.record["kind"] in MEASURED_KINDS and prepared.fate != "resumed":
            say(f"measuring the normalisation first; dashboard: {client.dashboard_link}")
        run = SegmentRun.start(prepared, client)
        say(f"dashboard: {client.dashboard_link}")
        say_start(prepared)
        try:
            with shown(run):
                segment_regions(run)
                run.finish()
        except RunError as error:
            keep_report(run, error=str(error))
            raise
        keep_report(run)
        say_result(run)
    return run


def say_start(prepared: Prepared) -> None:
    """Print what is about to be done."""
    plan, source = prepared.plan, prepared.source
    say(
        f"segmenting {shape_text(source.shape_zyx)} voxels in {len(plan)} blocks of "
        f"{shape_text(plan.core)}"
    )
    for note in prepared.notes:
        say(f"note: {note}")


def keep_report(run: SegmentRun, *, error: str | None = None) -> None:
    """Write the report beside the ledger of the output."""
    page = to_html(run_report(run, error=error))
    write_beside_ledger(run.job.output_uri, "report.html", page.encode())


def say_result(run: SegmentRun) -> None:
    """Print what came out, and where to look at it."""
    figures, output, total = run.session, run.job.output_uri, len(run.prepared.plan)
    if run.resumed_blocks == total:
        say(f"done: all {total} blocks were done already")
    else:
        speed = figures.voxels / max(figures.seconds, 1e-9) / 1e6
        earlier = f", {run.resumed_blocks} by earlier runs" if run.resumed_blocks else ""
        say(
            f"done: {total} blocks{earlier}; {figures.voxels:,} voxels in "
            f"{duration_text(figures.seconds)}, {speed:.2f} Mvoxel/s"
        )
    if bad := run.figures.bad_voxels:
        say(f"warning: {bad:,} voxels of the input are NaN or infinite: read as 0")
    say(f"segmentation: {output}")
    say(f"report: {output.rstrip('/')}/run/report.html")
