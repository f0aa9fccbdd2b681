"""The report of a run: its figures as tables, and pictures of the middle of the volume."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base.errors import OvertileError, RunError
from ..base.geometry import Box
from ..base.stores import open_array, open_store, wait_for
from ..base.text import counted, duration_text, voxel_rate_text
from ..ledger.ownership import check_owner, owned_path
from ..ledger.progress import read_progress
from ..output.guard import RUN_GROUP, write_beside_ledger
from ..output.kinds import OBJECTS_PATH
from ..report import pictures
from ..report.middle import middle_box
from ..report.report import (
    REPORT_FILE,
    Link,
    Picture,
    Report,
    RunFigures,
    Table,
    seam_table,
    table_of,
    to_html,
)
from ..report.seams import SeamStatistics, seam_statistics
from ..volume.micrometres import voxel_size_um
from ..volume.volume import open_volume
from .engines.block import OutputArray
from .prepare import Prepared
from .summary import RunSummary

SIDE = 768


@dataclass(frozen=True, slots=True)
class MiddleSlice:
    """The middle of one z: raw (c, y, x), classes (y, x) and scores (class, y, x) as 0..1."""

    box: Box
    raw: NDArray[Any]
    classes: NDArray[Any]
    scores: NDArray[Any] | None


def run_report(run: RunSummary, *, side: int = SIDE) -> Report:
    """Return the report of a run; a share's report has no pictures.

    side: width and height of the pictures in voxels, at most.
    """
    warnings = [run.error] if run.error else []
    pictures_shown: tuple[Picture, ...] = ()
    seams: tuple[Table, ...] = ()
    request = run.prepared.request
    try:
        if not request.share:
            middle = read_middle(run, side=side)
            pictures_shown = (_picture(run, middle),)
            if not run.progress.skipped:  # a skipped block has a border, not a seam
                seams = (seam_table(_seams(run, middle)),)
    except Exception as unreadable:  # the error that ended the run may also have broken the output
        why = " ".join(str(unreadable).split())
        warnings.append(f"no picture: the middle of the volume cannot be read ({why})")
    if bad := run.figures.bad_voxels:
        warnings.append(f"{bad:,} voxels of the input are NaN or infinite: read as 0")
    progress = run.progress
    return Report(
        title=f"overtile: {request.output}",
        summary=f"{request.input}, "
        f"{progress.done:,} of {progress.computed:,} blocks done",
        warnings=(*warnings, *run.prepared.notes),
        tables=(
            *_figures(run).tables(), *_share_table(run), _class_table(run), *seams,
            _job_table(run), table_of("Versions", run.provenance["versions"]),
        ),
        pictures=pictures_shown,
        links=_links(run),
    )  # fmt: skip


def write_report(run: RunSummary) -> None:
    """Write the report as HTML beside the ledger of the output.

    Raises OutputError or RunError where it cannot be written or another run has taken the output
    over; not for a run that failed, since its error states this already.
    """
    page = to_html(run_report(run)).encode()
    try:
        check_owner(run.job.output, run.job.run_token)
        name = report_path(run).removeprefix(f"{RUN_GROUP}/")
        write_beside_ledger(run.job.output, name, page)
    except (OvertileError, RunError):
        if run.error is None:
            raise


def report_path(run: RunSummary) -> str:
    """Return the report's path in the output: beside the ledger, or the share's part of it."""
    return f"{owned_path(run.job.run_token)}/{REPORT_FILE}"


def _links(run: RunSummary) -> tuple[Link, ...]:
    """Return a link to the report of the objects, once they have been found."""
    page = f"{OBJECTS_PATH}/{RUN_GROUP}/{REPORT_FILE}"
    store = open_store(run.job.output)
    if run.prepared.request.share or not wait_for(store.exists(page), timeout_s=None):
        return ()
    return (Link(text="Report of the objects", address=f"../{page}"),)


def _figures(run: RunSummary) -> RunFigures:
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
    )


def _class_table(run: RunSummary) -> Table:
    counts = run.figures.class_voxels
    total = max(1, sum(counts))
    names = run.prepared.predictor.class_names
    rows = tuple(
        (f"{number} {name}", f"{count:,} voxels ({count / total:.2%})")
        for number, (name, count) in enumerate(zip(names, counts, strict=False))
    )
    if run.figures.blocks < run.progress.done:
        lost = "the counts of the others were lost with a killed run"
        rows += (("counted", f"{sum(counts):,} voxels; {lost}"),)
    return Table(title="Classes", rows=rows)


def _share_table(run: RunSummary) -> tuple[Table, ...]:
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


def _job_table(run: RunSummary) -> Table:
    prepared = run.prepared
    plan = prepared.plan
    return table_of(
        "Job",
        {
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


def read_middle(run: RunSummary, *, side: int) -> MiddleSlice:
    """Read the middle of the middle slice from input and output."""
    box = middle_box(run.prepared.plan.computed, around=shown(run.prepared), side=side)
    arrays: dict[str, NDArray[Any]] = {}
    for output in run.prepared.outputs:
        arrays[output.kind.name] = _read(run, output, box)
    scores = arrays.get("scores")
    if scores is not None and scores.dtype == np.uint8:
        scores = scores.astype(np.float32) / 255
    classes = arrays["classes"] if "classes" in arrays else np.argmax(arrays["scores"], axis=0)
    raw = open_volume(run.prepared.source).read(box.shifted(run.prepared.plan.origin))[:, 0]
    return MiddleSlice(box, raw, classes, scores)


def shown(prepared: Prepared) -> Box:
    """Return the box of the output whose middle is shown: what is computed, or a block of it."""
    return prepared.plan.computed if prepared.part.mask is None else prepared.selection.central()


def _read(run: RunSummary, output: OutputArray, box: Box) -> NDArray[Any]:
    array: Any = open_array(run.job.output, output.path, token=run.job.run_token)
    channels = (slice(None),) * output.kind.per_class
    spatial = array.ndim - len(channels)
    values = np.asarray(array[channels + box.slices[3 - spatial :]])
    return values if spatial == 2 else values.take(0, axis=len(channels))


def _seams(run: RunSummary, middle: MiddleSlice) -> SeamStatistics:
    edges = [
        [edge - a for edge in range(core, b, core) if a < edge < b]
        for a, b, core in zip(
            middle.box.start[1:], middle.box.stop[1:], run.prepared.plan.core[1:], strict=True
        )
    ]
    if middle.scores is not None:
        return seam_statistics(middle.scores, block_edges=[None, *edges])
    return seam_statistics(middle.classes, block_edges=edges)


def _picture(run: RunSummary, middle: MiddleSlice) -> Picture:
    titled = [("raw", pictures.grey_picture(middle.raw))]
    if middle.scores is not None:
        titled.append(("scores", pictures.scores_picture(middle.scores)))
    else:
        titled.append(("classes", pictures.classes_picture(middle.classes)))
    titled.append(("overlay", pictures.overlay_picture(middle.raw, middle.classes)))
    names = run.prepared.predictor.class_names
    sheet = pictures.panel(
        titled, legend=pictures.Legend(class_names=names), um_per_px=_um_per_px(run, middle)
    )
    z, y, x = middle.box.start
    return Picture(
        title="The middle of the volume",
        png=pictures.png_bytes(sheet),
        caption=f"z {z}, y from {y}, x from {x}.",
    )


def _um_per_px(run: RunSummary, middle: MiddleSlice) -> float | None:
    source = run.prepared.source
    voxel_um = voxel_size_um(source)[2]
    if voxel_um is None:
        return None
    return pictures.displayed_um(voxel_um, size=max(middle.classes.shape))
