"""What a run that finds objects prints before and after it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline.base.text import counted, duration_text, shape_text, size_text

if TYPE_CHECKING:
    from pipeline.objects.preparation.prepare import PreparedObjects
    from pipeline.objects.preparation.summary import ObjectsSummary
    from pipeline.objects.table.table_summary import TableSummary


def start_lines(prepared: PreparedObjects) -> Iterator[str]:
    """Yield what the run is about to do."""
    from pipeline.base.compiled import is_compiled

    scores, method, plan = prepared.scores, prepared.method, prepared.plan
    lies = "of" if scores.role == "foreground" else "between boundaries of"
    kind = "watershed" if method.is_watershed else "connected components"
    yield (
        f"objects {lies} class {scores.class_name}, {kind}: {shape_text(plan.shape)} voxels in "
        f"{counted(len(plan), 'block')} of {shape_text(plan.core)}, "
        f"{size_text(prepared.block_bytes)} of memory each"
    )
    for note in prepared.notes:
        yield f"note: {note}"
    if not is_compiled():
        yield "compiling first: 10 to 20 s, once on each machine"


def result_lines(run: ObjectsSummary, found: TableSummary) -> Iterator[str]:
    """Yield how many objects there are, their sizes, how much they cover, and where they are."""
    from pipeline.objects.report.definition_text import advice
    from pipeline.objects.report.run_report import objects_report_path
    from pipeline.objects.table.size_unit import SizeUnit

    covered = found.voxels / math.prod(run.job.plan.shape)
    share, took = f"{100 * covered:.1f} % of the volume", duration_text(run.seconds)
    yield f"done: {counted(found.objects, 'object')}, {share}, in {took}"
    if found.objects:
        unit = SizeUnit.of(run.prepared.table_spec)
        low, median, high = (unit.text(found.sizes.quantile(q)) for q in (0.05, 0.5, 0.95))
        yield f"sizes: median {median}, 5 % at most {low}, 5 % at least {high}"
        if note := advice(run.prepared.method.role, covered):
            yield f"note: {note}"
    else:
        yield "note: no object was found: compare --class, --role and --threshold with the scores"
    yield f"objects: {run.job.output}"
    yield f"table: {run.table}"
    yield f"report: {run.job.output / objects_report_path(run)}"
