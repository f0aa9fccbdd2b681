"""The figures of a run as tables of its report."""

from __future__ import annotations

from ..base.network_outputs import NetworkOutputs
from ..base.text import counted, duration_text, voxel_rate_text
from ..ledger.ownership import owned_path
from ..ledger.progress import read_progress
from ..models.protocol import outputs_of
from ..report.report import REPORT_FILE, Table, table_of
from ..report.run_figures import RunFigures
from ..volume.size_text import size_with_origin
from .summary import RunSummary


def report_path(run: RunSummary) -> str:
    """Return the report's path in the output: beside the ledger, or the share's part of it."""
    return f"{owned_path(run.job.run_token)}/{REPORT_FILE}"


def run_figures(run: RunSummary) -> RunFigures:
    """Return the figures of a run, or of earlier runs if it had nothing to do."""
    progress, prepared = run.progress, run.prepared
    figures = progress.figures if progress.figures.blocks else run.figures
    seconds = figures.stage_seconds
    return RunFigures(
        shape=prepared.plan.shape,
        voxels=figures.voxels,
        blocks=progress.computed,
        blocks_skipped=progress.skipped,
        blocks_done=progress.done,
        blocks_done_before=run.done_before,
        blocks_timed=figures.blocks,
        failed_blocks=tuple(",".join(map(str, index)) for index in run.failures),
        seconds=figures.seconds,
        read_s=seconds.get("read", 0.0),
        wait_s=seconds.get("wait", 0.0),
        device_s=seconds.get("device", 0.0),
        write_s=seconds.get("write", 0.0),
        bytes_read=figures.bytes_read,
        bytes_written=figures.voxels * prepared.output_voxel_bytes,
        nan_voxels=run.figures.bad_voxels,
        workers=int(run.provenance["workers"]),
    )


def outputs_of_run(run: RunSummary) -> NetworkOutputs:
    """Return what the channels of the scores are."""
    return outputs_of(run.prepared.predictor)


def class_shares(run: RunSummary) -> tuple[tuple[str, float], ...]:
    """Return name and share of the voxels of each class; nothing of a network without classes."""
    if not outputs_of_run(run).has_classes:
        return ()
    counts = run.figures.class_voxels
    total = max(1, sum(counts))
    names = run.prepared.predictor.class_names
    return tuple((name, count / total) for name, count in zip(names, counts, strict=False))


def class_table(run: RunSummary) -> tuple[Table, ...]:
    """Return voxels per class; nothing of a network without classes."""
    if not outputs_of_run(run).has_classes:
        return ()
    counts = run.figures.class_voxels
    rows = tuple(
        (f"{number} {name}", f"{count:,} voxels ({share:.2%})")
        for number, ((name, share), count) in enumerate(zip(class_shares(run), counts, strict=True))
    )
    if run.figures.blocks < run.progress.done:
        lost = "the counts of the others were lost with a killed run"
        rows += (("counted", f"{sum(counts):,} voxels; {lost}"),)
    return (Table(title="Classes", rows=rows),)


def share_table(run: RunSummary) -> tuple[Table, ...]:
    """Return the figures of each share as a table, once all shares are merged."""
    if not run.is_merged:
        return ()
    rows = []
    for share in read_progress(run.job.output):
        figures = share.figures
        speed = figures.voxels / max(figures.seconds, 1e-9)
        text = (
            f"{counted(share.done, 'block')}, {figures.voxels:,} voxels, "
            f"{duration_text(figures.seconds)}, {voxel_rate_text(speed)}"
        )
        rows.append((f"{share.number} of {share.of}", text))
    return (Table(title="Shares", rows=tuple(rows)),)


def job_table(run: RunSummary) -> Table:
    """Return the settings of a run."""
    prepared = run.prepared
    plan = prepared.plan
    return table_of(
        "Job",
        {
            "voxel size": size_with_origin(prepared.source),
            "engine": prepared.request.engine,
            "block, tile, halo": f"{plan.core}, {plan.tile}, {plan.halo.low}",
            "traversal": plan.traversal,
            "normalisation": dict(prepared.record),
            "offset, scale": f"{run.job.intensity.offset}, {run.job.intensity.scale}",
            "weights": prepared.predictor.digest,
            **prepared.predictor.settings(),
            "started": run.provenance["created"],
            "workers": run.provenance["workers"],
            "this report": str(prepared.request.output / report_path(run)),
        },
    )
