"""The plan of a run that finds objects, as rows and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pipeline.base.text import aligned_rows, shape_text, size_text

from .objects import definition_text

if TYPE_CHECKING:
    from pipeline.objects.preparation.prepared import PreparedObjects


def objects_plan_rows(prepared: PreparedObjects, *, threads: int) -> list[tuple[str, str]]:
    """Return the plan as (name, value) rows. threads: of a worker."""
    budget = prepared.budget
    block = size_text(budget.block_memory_bytes)
    needed, kept = size_text(budget.intermediate_bytes), size_text(budget.label_bytes)
    return [
        ("objects", definition_text(prepared)),
        ("", f"into {prepared.request.output}"),
        ("blocks", f"{budget.blocks:,} of {shape_text(prepared.plan.core)} voxels"),
        ("", f"{budget.stages} stages, {budget.tasks:,} tasks"),
        ("memory per worker", size_text(threads * budget.block_memory_bytes)),
        ("", f"{threads} × {block} for a block on each thread"),
        ("memory of the driver", f"{size_text(budget.driver_memory_bytes)} for the list of blocks"),
        ("disk", f"up to {size_text(budget.disk_bytes)} during the run"),
        ("", f"{needed} of intermediate results, deleted at the end; {kept} of labels and table"),
    ]


def objects_plan_text(prepared: PreparedObjects, *, threads: int) -> str:
    """Return the plan of objects in existing scores, as aligned lines."""
    from pipeline.volume.size_text import size_with_origin

    source = prepared.scores.source
    head = [
        ("scores", f"{source.location}, {shape_text(source.shape_zyx)} {source.dtype}"),
        ("voxel size", size_with_origin(source)),
    ]
    rows = aligned_rows([*head, *objects_plan_rows(prepared, threads=threads)])
    return "\n".join([rows, *(f"note: {note}" for note in prepared.notes)])


def objects_plan_json(prepared: PreparedObjects) -> dict[str, Any]:
    """Return the plan as JSON values."""
    budget = prepared.budget
    return {
        "scores": str(prepared.scores.source.location),
        "output": str(prepared.request.output),
        "output_action": prepared.output_action,
        "class": prepared.scores.class_name,
        "role": prepared.scores.role,
        "block": list(prepared.plan.core),
        "grid": list(prepared.plan.grid),
        **asdict(budget),
        "disk_bytes": budget.disk_bytes,
        "notes": list(prepared.notes),
    }
