"""The report of a run: its figures as tables, and pictures of the middle of the volume."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..base.errors import OvertileError, RunError
from ..base.geometry import Box
from ..base.stores import open_array, open_group
from ..base.text import counted, duration_text, voxel_rate_text
from ..ledger.ledger import read_states
from ..ledger.ownership import SHARDS, check_owner, owned_path
from ..ledger.shares import share_figures
from ..output.guard import RUN_GROUP, write_beside_ledger
from ..report import pictures
from ..report.report import Picture, Report, RunFigures, Table, seam_table, table_of, to_html
from ..report.seams import SeamStatistics, seam_statistics
from ..volume.volume import open_volume
from .block import OutputArray

if TYPE_CHECKING:
    from .run import SegmentRun

SIDE = 768
REPORT = "report.html"


@dataclass(frozen=True, slots=True)
class MiddleSlice:
    """The middle of one z: raw (c, y, x), classes (y, x) and scores (class, y, x) as 0..1."""

    box: Box
    raw: NDArray[Any]
    classes: NDArray[Any]
    scores: NDArray[Any] | None


def run_report(run: SegmentRun, *, error: str | None = None, side: int = SIDE) -> Report:
    """Return what a person looks at after a run; of a share, without pictures of the whole.

    error: why it did not end well. side: width and height of its pictures in voxels, at most.
    """
    figures = _figures(run)
    warnings = [error] if error else []
    shown: tuple[Picture, ...] = ()
    seams: tuple[Table, ...] = ()
    try:
        if not run.prepared.request.share:
            middle = read_middle(run, side=side)
            shown, seams = (_picture(run, middle),), (seam_table(_seams(run, middle)),)
    except Exception as unreadable:  # what failed the run must not take its report away, too
        why = " ".join(str(unreadable).split())
        warnings.append(f"no picture: the middle of the volume cannot be read ({why})")
    if figures.nan_voxels:
        warnings.append(
            f"{figures.nan_voxels:,} voxels of the input are NaN or infinite: read as 0"
        )
    warnings += run.prepared.notes
    request = run.prepared.request
    return Report(
        title=f"overtile: {request.output}",
        summary=f"{request.input}, "
        f"{figures.blocks_done + figures.blocks_done_before:,} of {figures.blocks:,} blocks done",
        warnings=tuple(warnings),
        tables=(
            *figures.tables(), *_share_table(run), _class_table(run), *seams, _job_table(run),
            table_of("Versions", run.noted("provenance")["versions"]),
        ),
        pictures=shown,
    )  # fmt: skip


def keep_report(run: SegmentRun, *, error: str | None = None) -> None:
    """Write the report beside the ledger of the output, for a browser.

    error: why the run did not end well. Then an output that cannot be written, or is another run's
    by now, is left as it is: the error says so already. Raises OutputError, RunError otherwise.
    """
    page = to_html(run_report(run, error=error)).encode()
    try:
        check_owner(run.job.output, run.job.run_token)
        name = report_path(run).removeprefix(f"{RUN_GROUP}/")
        write_beside_ledger(run.job.output, name, page)
    except (OvertileError, RunError):
        if error is None:
            raise


def report_path(run: SegmentRun) -> str:
    """Return where the report lies in the output: beside the ledger, or the share's part of it."""
    return f"{owned_path(run.job.run_token)}/{REPORT}"


def _figures(run: SegmentRun) -> RunFigures:
    figures, prepared = run.session, run.prepared
    seconds: Mapping[str, float] = figures.stage_seconds
    progress = run.progress()
    return RunFigures(
        shape=prepared.plan.shape,
        voxels=figures.voxels,
        blocks=run.blocks,
        blocks_done=progress.done - run.resumed_blocks,
        blocks_done_before=run.resumed_blocks,
        failed_blocks=tuple(",".join(map(str, index)) for index in run.failures),
        seconds=figures.seconds,
        read_s=seconds.get("read", 0.0),
        wait_s=seconds.get("wait", 0.0),
        device_s=seconds.get("device", 0.0),
        write_s=seconds.get("write", 0.0),
        bytes_read=figures.bytes_read,
        bytes_written=sum(
            figures.voxels
            * np.dtype(output.dtype).itemsize
            * prod(output.kind.channels(len(prepared.predictor.class_names)))
            for output in prepared.outputs
        ),
        nan_voxels=run.figures.bad_voxels,
    )


def _class_table(run: SegmentRun) -> Table:
    counts = run.figures.class_voxels
    total = max(1, sum(counts))
    names = run.prepared.predictor.class_names
    rows = tuple(
        (f"{number} {name}", f"{count:,} voxels ({count / total:.2%})")
        for number, (name, count) in enumerate(zip(names, counts, strict=False))
    )
    if sum(counts) < run.prepared.voxels:
        rows += (("counted", f"{sum(counts):,} voxels; a run that was killed counted the others"),)
    return Table(title="Classes", rows=rows)


def _share_table(run: SegmentRun) -> tuple[Table, ...]:
    """Return what each share came to, once all of them are one; nothing where there is one run."""
    if run.prepared.request.share or run.noted(SHARDS) is None:
        return ()
    group: Any = open_group(run.job.output)[RUN_GROUP]
    rows = []
    for state in read_states(run.job.output):
        came_to = share_figures(group, state.number)
        speed = came_to.voxels / max(came_to.seconds, 1e-9)
        rows.append(
            (
                f"{state.number} of {state.of}",
                f"{counted(state.done, 'block')}, {came_to.voxels:,} voxels, "
                f"{duration_text(came_to.seconds)}, {voxel_rate_text(speed)}",
            )
        )
    return (Table(title="Shares", rows=tuple(rows)),)


def _job_table(run: SegmentRun) -> Table:
    prepared = run.prepared
    plan = prepared.plan
    return table_of(
        "Job",
        {
            "engine": prepared.request.engine,
            "block, tile, halo": f"{plan.core}, {plan.tile}, {plan.halo.low}",
            "normalisation": dict(prepared.record),
            "offset, scale": f"{run.job.intensity.offset}, {run.job.intensity.scale}",
            "weights": prepared.predictor.digest,
            **prepared.predictor.settings(),
            "started": run.noted("provenance")["created"],
            "workers": run.noted("provenance")["workers"],
            "this report": str(prepared.request.output / report_path(run)),
        },
    )


def read_middle(run: SegmentRun, *, side: int) -> MiddleSlice:
    """Read the middle of the middle slice from input and output."""
    box = middle_box(run.prepared.plan.shape, side=side)
    arrays: dict[str, NDArray[Any]] = {}
    for output in run.prepared.outputs:
        arrays[output.kind.name] = _read(run, output, box)
    scores = arrays.get("scores")
    if scores is not None and scores.dtype == np.uint8:
        scores = scores.astype(np.float32) / 255
    classes = arrays["classes"] if "classes" in arrays else np.argmax(arrays["scores"], axis=0)
    raw = open_volume(run.prepared.source).read(box)[:, 0]
    return MiddleSlice(box, raw, classes, scores)


def middle_box(shape: tuple[int, ...], *, side: int) -> Box:
    """Return the middle of the middle slice, at most ``side`` wide and high."""
    sizes = (1, min(shape[1], side), min(shape[2], side))
    start = tuple((n - s) // 2 for n, s in zip(shape, sizes, strict=True))
    return Box(start, tuple(a + s for a, s in zip(start, sizes, strict=True)))


def _read(run: SegmentRun, output: OutputArray, box: Box) -> NDArray[Any]:
    array: Any = open_array(run.job.output, output.path, token=run.job.run_token)
    channels = (slice(None),) * output.kind.per_class
    spatial = array.ndim - len(channels)
    values = np.asarray(array[channels + box.slices[3 - spatial :]])
    return values if spatial == 2 else values.take(0, axis=len(channels))


def _seams(run: SegmentRun, middle: MiddleSlice) -> SeamStatistics:
    edges = [
        [edge - a for edge in range(core, b, core) if a < edge < b]
        for a, b, core in zip(
            middle.box.start[1:], middle.box.stop[1:], run.prepared.plan.core[1:], strict=True
        )
    ]
    if middle.scores is not None:
        return seam_statistics(middle.scores, block_edges=[None, *edges])
    return seam_statistics(middle.classes, block_edges=edges)


def _picture(run: SegmentRun, middle: MiddleSlice) -> Picture:
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


def _um_per_px(run: SegmentRun, middle: MiddleSlice) -> float | None:
    source = run.prepared.source
    um = {"micrometer": 1.0, "nanometer": 1e-3, "millimeter": 1e3}.get(source.unit[2] or "")
    if um is None:
        return None
    return pictures.displayed_um(source.voxel_size[2] * um, size=max(middle.classes.shape))
