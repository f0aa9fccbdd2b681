"""The report of a run that found objects: figures of its table, a histogram, a picture."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

from ...base.redaction import command_text
from ...base.shell_words import positional
from ...base.stores import open_store, wait_for
from ...base.text import counted, duration_text, shape_text
from ...ledger.kept_scores import read_scores
from ...ledger.ownership import check_owner, owned_path
from ...output.guard import RUN_GROUP, write_beside_ledger
from ...output.viewing import view_commands
from ...report.extras import ObjectsShown
from ...report.histogram import Mark
from ...report.pictures import png_bytes
from ...report.report import (
    REPORT_FILE,
    Command,
    Link,
    Picture,
    Report,
    Table,
    Verdict,
    table_of,
    to_html,
)
from ...report.size_histogram import Bar, size_chart, size_histogram
from ..preparation.summary import ObjectsSummary
from ..table.size_unit import SizeUnit, element_name, extent_name, image_name
from ..table.table_summary import ListedObject, TableSummary
from .definition_text import advice, definition_rows
from .middle_plane import middle_plane
from .size_text import common_sizes_text, largest_text

SIDE: Final = 512
HISTOGRAM_PX: Final = 760
MOST_BARS: Final = 60
_STAGES: Final = {
    "label": "finding fragments in the blocks",
    "merge": "merging across blocks",
    "write": "writing labels and counting",
    "table": "writing the table",
    "pyramid": "coarser levels",
}


def objects_report(
    run: ObjectsSummary,
    found: TableSummary,
    *,
    side: int = SIDE,
    commands: Sequence[Command] = (),
) -> Report:
    """Return the report of a complete run.

    side: width and height of the picture, at most. commands: what repeats the run.
    """
    warnings, planes = [], []
    voxels = math.prod(run.job.plan.shape)
    covered, extent = found.voxels / voxels, extent_name(run.prepared.table_spec)
    note = advice(run.prepared.method, found, voxels=voxels) if found.objects else None
    if note is not None:
        warnings.append(note)
    try:
        planes.append(middle_plane(run, side=side))
    except Exception as unreadable:  # the figures are worth having without it
        why = " ".join(str(unreadable).split())
        warnings.append(f"no picture: the middle of the volume cannot be read ({why})")
    return Report(
        title=f"overtile objects: {run.job.output}",
        verdict=_verdict(run, found, has_advice=note is not None),
        summary=f"{counted(found.objects, 'object')}, {100 * covered:.1f} % of the {extent}",
        warnings=(*warnings, *run.prepared.notes),
        scores=read_scores(run.job.output),
        tables=(
            objects_table(run, found),
            Table(title="What objects are", rows=tuple(definition_rows(run.prepared))),
            *_listed_tables(run, found),
        ),
        folded=(_run_table(run), table_of("Versions", run.provenance["versions"])),
        planes=tuple(planes),
        pictures=(_histogram(run, found),) if found.objects else (),
        commands=(*_next(run, found), *commands),
        links=_links(run),
    )  # fmt: skip


def _next(run: ObjectsSummary, found: TableSummary) -> Iterator[Command]:
    """Yield the commands that open the objects, and that write them for other programs."""
    image = run.prepared.request.scores if run.prepared.request.is_inside else run.job.output
    for one in view_commands(image):
        yield Command(text=f"Look at the objects ({one.viewer}):", command=one.command)
    if not found.objects:
        return
    place, name = run.job.output, run.job.output.name.removesuffix(".zarr")
    if run.prepared.table_spec.is_flat:
        words = ["outlines", place.uri, positional(f"{name}.geojson")]
        text = "Write their outlines for QuPath, into the current folder:"
    else:
        words = ["meshes", place.uri, positional(f"{name}-meshes")]
        text = "Write their surfaces as meshes, into a folder in the current one:"
    yield Command(text=text, command=command_text(["overtile", *words]))


def _links(run: ObjectsSummary) -> tuple[Link, ...]:
    """Return a link to the report of the segmentation whose labels the objects are."""
    page, request = f"{RUN_GROUP}/{REPORT_FILE}", run.prepared.request
    if not request.is_inside:
        return ()
    if not wait_for(open_store(request.scores).exists(page), timeout_s=None):
        return ()
    text = "Report of the segmentation: its scores and classes, the time, what was skipped"
    return (Link(text=text, address=f"../../../{page}"),)


def _verdict(run: ObjectsSummary, found: TableSummary, *, has_advice: bool) -> Verdict:
    """Return the result in words."""
    if not found.objects:
        text = "Complete, and no object was found: compare the definition below with the scores."
        return Verdict(text=text, state="attention")
    unit = SizeUnit.of(run.prepared.table_spec).near(found.sizes.quantile(0.95))
    text = f"Complete. {counted(found.objects, 'object')} found"
    text += f", of a median size of {unit.text(found.sizes.quantile(0.5))}."
    return Verdict(text=text, state="attention" if has_advice else "good")


def objects_shown(run: ObjectsSummary, found: TableSummary) -> ObjectsShown:
    """Return what the report of the segmentation shows of its objects."""
    return ObjectsShown(
        count=found.objects,
        table=objects_table(run, found),
        pictures=(_histogram(run, found),) if found.objects else (),
    )


def write_objects_report(run: ObjectsSummary, report: Report) -> None:
    """Write the report as HTML beside the ledger of the output. Raises OutputError, RunError."""
    page = to_html(report).encode()
    check_owner(run.job.output, run.job.run_token)
    name = objects_report_path(run).removeprefix(f"{RUN_GROUP}/")
    write_beside_ledger(run.job.output, name, page)


def objects_report_path(run: ObjectsSummary) -> str:
    """Return the report's path in the output."""
    return f"{owned_path(run.job.run_token)}/{REPORT_FILE}"


def objects_table(run: ObjectsSummary, found: TableSummary) -> Table:
    """Return count, sizes and place of the objects."""
    spec, sizes = run.prepared.table_spec, found.sizes
    everything = f"{math.prod(run.job.plan.shape):,} {element_name(spec)}s"
    rows = [
        ("objects", f"{found.objects:,}"),
        ("in objects", f"{found.voxels:,} of {everything}"),
    ]
    if found.objects:
        unit = SizeUnit.of(spec).near(sizes.quantile(0.95))
        median, touching = sizes.quantile(0.5), found.at_edge
        rows += [
            (
                f"touch the edge of the {image_name(spec)}",
                f"{touching:,} ({touching / found.objects:.0%})",
            ),
            ("median size", unit.text(median)),
            ("diameter of the median size", unit.diameter(median)),
            ("90 % of the objects", common_sizes_text(found, unit)),
            ("mean size", unit.text(found.voxels / found.objects)),
            ("largest", largest_text(found, spec)),
        ]
    return Table(title="Objects", rows=(*rows, ("table", str(run.table))))


def _listed_tables(run: ObjectsSummary, found: TableSummary) -> tuple[Table, ...]:
    def listed(title: str, objects: Sequence[ListedObject]) -> Table:
        largest = max(one.voxels for one in objects)
        unit, rows = SizeUnit.of(run.prepared.table_spec).near(largest), []
        for one in objects:
            z, y, x = one.centroid
            rows.append((f"id {one.id}", f"{unit.text(one.voxels)} at z {z:.0f}, y {y:.0f}, "
                         f"x {x:.0f}"))  # fmt: skip
        return Table(title=title, rows=tuple(rows))

    if not found.objects:
        return ()
    return listed("The largest", found.largest), listed("The smallest", found.smallest)


def _run_table(run: ObjectsSummary) -> Table:
    plan, before = run.job.plan, run.blocks_done_before
    stages = [
        (_STAGES[stage], duration_text(seconds))
        for stage, seconds in run.stage_seconds.items()
        if stage in _STAGES
    ]
    return Table(
        title="Run",
        rows=(
            ("scores", str(run.prepared.scores.source.location)),
            ("volume", f"{shape_text(plan.shape)} voxels"),
            ("blocks", f"{len(plan):,} of {shape_text(plan.core)}"),
            ("of these by an earlier run", f"{before:,}"),
            ("time", duration_text(run.seconds)),
            *stages,
            ("workers", str(run.provenance["workers"])),
            ("started", str(run.provenance["created"])),
            ("this report", str(run.job.output / objects_report_path(run))),
        ),
    )


def _histogram(run: ObjectsSummary, found: TableSummary) -> Picture:
    sizes = found.sizes
    unit = SizeUnit.of(run.prepared.table_spec).near(sizes.quantile(0.95))
    marks = [
        Mark(sizes.quantile(share) * unit.per_voxel, name)
        for share, name in ((0.05, "5 %"), (0.5, "median"), (0.95, "95 %"))
    ]
    bars = [
        Bar(low * unit.per_voxel, high * unit.per_voxel, count)
        for low, high, count in sizes.bars(most=MOST_BARS)
    ]
    title, caption = (
        "Objects by size",
        "The scale is logarithmic; the area of a bar is the number of objects. 5 % of the objects "
        "are smaller than the first line, and 5 % larger than the last.",
    )
    sheet = size_histogram(bars, title=title, unit=unit.name, marks=marks, width=HISTOGRAM_PX)
    drawn = size_chart(bars, title=title, unit=unit.name, marks=marks, caption=caption)
    return Picture(title="Sizes of the objects", png=png_bytes(sheet), caption=caption, chart=drawn)
