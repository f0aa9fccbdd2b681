"""What a run that finds objects prints before and after it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from pipeline.base.text import counted, duration_text, shape_text, size_text

if TYPE_CHECKING:
    from pipeline.objects.prepare import PreparedObjects
    from pipeline.objects.run import ObjectsRun

COVERED_BY_BOUNDARY_OBJECTS: Final = 0.2
COVERED_BY_FOREGROUND: Final = 0.9


def start_lines(prepared: PreparedObjects) -> Iterator[str]:
    """Yield what the run is about to do."""
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


def result_lines(run: ObjectsRun) -> Iterator[str]:
    """Yield how many objects there are, how much they cover, and where they are."""
    scores = run.prepared.scores
    covered = run.covered
    share = "" if covered is None else f", {100 * covered:.1f} % of the volume"
    took = duration_text(run.seconds)
    yield f"done: {counted(run.objects, 'object')}{share}, in {took}"
    if covered is not None and run.objects and (advice := _reversed(scores.role, covered)):
        yield f"note: {advice}"
    if not run.objects:
        yield "note: no object was found: compare --class, --role and --threshold with the scores"
    yield f"objects: {run.job.output}"
    yield f"table: {run.table}"


def _reversed(role: str, covered: float) -> str | None:
    """Return a note where the class is probably of the other role."""
    if role == "boundary" and covered < COVERED_BY_BOUNDARY_OBJECTS:
        return (
            "objects between boundaries usually cover nearly everything: if the class is that of "
            "the objects themselves, pass --role foreground"
        )
    if role == "foreground" and covered > COVERED_BY_FOREGROUND:
        return (
            "the objects cover nearly everything: if the class is a boundary between objects, "
            "pass --role boundary"
        )
    return None
