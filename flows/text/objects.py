"""What a run that finds objects prints before and after it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pipeline.base.text import counted, duration_text, shape_text, size_text

MOST_NAMED = 4

if TYPE_CHECKING:
    from pipeline.objects.preparation.prepared import PreparedObjects
    from pipeline.objects.preparation.summary import ObjectsSummary
    from pipeline.objects.run import ObjectsRun
    from pipeline.objects.table.table_summary import TableSummary


def start_lines(prepared: PreparedObjects) -> Iterator[str]:
    """Yield what the run is about to do."""
    from pipeline.base.compiled import is_compiled

    plan = prepared.plan
    yield (
        f"objects {definition_text(prepared)}: {shape_text(plan.shape)} voxels in "
        f"{counted(len(plan), 'block')} of {shape_text(plan.core)}, "
        f"{size_text(prepared.budget.block_memory_bytes)} of memory each"
    )
    if share := prepared.request.share:
        yield f"shard {share}: {sum(map(len, prepared.regions)):,} of these blocks"
    for note in prepared.notes:
        yield f"note: {note}"
    if not is_compiled():
        yield "compiling first: 10 to 20 s, once on each machine"


def definition_text(prepared: PreparedObjects) -> str:
    """Return what the objects are, in a few words."""
    scores = prepared.scores
    kind = "watershed" if prepared.method.is_watershed else "connected components"
    if scores.edge_axes:
        return f"by affinities along {_axes_text(scores.edge_axes)}, {kind}"
    lies = "of" if scores.role == "foreground" else "between boundaries of"
    return f"{lies} class {scores.class_name}, {kind}"


def _axes_text(axes: Sequence[int]) -> str:
    names = ["zyx"[axis] for axis in axes]
    return f"{', '.join(names[:-1])} and {names[-1]}"


def partial_lines(run: ObjectsRun) -> Iterator[str]:
    """Yield what a run has done that leaves the output incomplete, and what comes next."""
    share, progress = run.prepared.request.share, run.progress()
    of_all = counted(progress.computed, "block")
    if share is None:
        yield f"done: {counted(run.objects, 'object')} in {counted(run.blocks, 'block')}, merged"
        yield f"next: {_next_text(run)}"
    elif run.has_ended:
        yield f"nothing to do for shard {share}: a run without --shard has its blocks"
    elif progress.done < progress.computed:
        yield f"done: {of_all} of shard {share} labelled"
        yield (
            "next, once all shards are labelled: the same command without --shard, or with "
            "--merge-only for the shards to write the labels too"
        )
    else:
        yield f"done: {of_all} of shard {share} written"
        yield "next, once all shards are written: the same command without --shard"


def _next_text(run: ObjectsRun) -> str:
    """Return what comes after the merge: shares write labels, or have written all of them."""
    if run.is_complete:
        return f"nothing is left to do: {run.prepared.request.output} is complete"
    left = [number for number, blocks in enumerate(run.unwritten, start=1) if blocks]
    of = len(run.unwritten)
    if not left:
        return "the same command without --merge-only: all labels are written, the table is left"
    named = " and ".join(f"--shard {number}/{of}" for number in left[:MOST_NAMED])
    more = f" and {len(left) - MOST_NAMED} more" if len(left) > MOST_NAMED else ""
    return (
        f"the same command with {named}{more} instead of --merge-only writes the labels; then, "
        "without both, the table"
    )


def result_lines(run: ObjectsSummary, found: TableSummary) -> Iterator[str]:
    """Yield how many objects there are, their sizes, how much they cover, and where they are."""
    from pipeline.objects.report.definition_text import advice
    from pipeline.objects.report.run_report import objects_report_path
    from pipeline.objects.report.size_text import common_sizes_text, largest_text
    from pipeline.objects.table.size_unit import SizeUnit, extent_name
    from pipeline.objects.table.table import CSV, TABLES
    from pipeline.output.viewing import view_commands

    voxels, spec = math.prod(run.job.plan.shape), run.prepared.table_spec
    request = run.prepared.request
    covered, took = 100 * found.voxels / voxels, duration_text(run.seconds)
    share = f"{covered:.1f} % of the {extent_name(spec)}"
    yield f"done: {counted(found.objects, 'object')}, {share}, in {took}"
    if run.taken_over is not None:
        yield since_text(run)
    if found.objects:
        unit = SizeUnit.of(spec).near(found.sizes.quantile(0.95))
        median = unit.text(found.sizes.quantile(0.5))
        yield f"sizes: median {median}; 90 % of the objects have {common_sizes_text(found, unit)}"
        yield f"largest object: {largest_text(found, spec)}"
        if note := advice(run.prepared.method, found, voxels=voxels):
            yield f"note: {note}"
    else:
        yield f"note: no object was found: compare {_deciding(run.prepared)} with the scores"
    yield f"objects: {run.job.output}"
    yield f"table: {run.table}"
    if request.csv:
        yield f"table for spreadsheets: {run.job.output / TABLES / CSV}"
    report = "report of the objects" if request.is_inside else "report"
    yield f"{report}: {run.job.output / objects_report_path(run)}"
    image = request.scores if request.is_inside else run.job.output
    yield f"look at them: {view_commands(image)[0].command}"


def since_text(run: ObjectsSummary) -> str:
    """Return how much of an earlier output was used again."""
    blocks = counted(len(run.job.plan), "block")
    copied, shards = run.copied_shards or (0, 0)
    levels = (
        f"; {copied:,} of {counted(shards, 'shard')} of coarser levels copied" if shards else ""
    )
    return (
        f"since {run.job.since}: {run.taken_over:,} of {blocks} have the same scores, and were not "
        f"labelled again{levels}"
    )


def _deciding(prepared: PreparedObjects) -> str:
    """Return the options that may have left no object, with the values that were passed."""
    request = prepared.request
    options = [] if prepared.scores.edge_axes else ["--class", "--role"]
    options.append(
        "--threshold" if request.threshold is None else f"--threshold {request.threshold:g}"
    )
    passed = (
        ("--seed-threshold", request.seed_threshold), ("--seed-distance", request.seed_distance),
        ("--min-voxels", request.min_voxels if request.min_voxels > 1 else None),
        ("--max-voxels", request.max_voxels),
    )  # fmt: skip
    options += [f"{name} {value:g}" for name, value in passed if value is not None]
    if request.border == "drop":
        options.append("--border drop")
    return " and ".join(filter(None, (", ".join(options[:-1]), options[-1])))
