"""What ``overtile corrections`` prints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from pipeline.base.redaction import command_text
from pipeline.base.text import counted, shape_text

if TYPE_CHECKING:
    from pipeline.base.location import Location
    from pipeline.corrections.apply import Applied
    from pipeline.corrections.painted import Painted
    from pipeline.corrections.segmented import Segmented

MOST_BLOCKS: Final = 10


def created_lines(place: Location, segmented: Segmented) -> Iterator[str]:
    """Yield where corrections can be painted now, and by which values."""
    yield f"corrections: {place}, {shape_text(segmented.classes.shape_zyx)} voxels, nothing painted"
    yield from _values(segmented)
    yield "paint these values in napari or any tool that writes Zarr, then run this command again"


def painted_lines(place: Location, segmented: Segmented, painted: Painted) -> Iterator[str]:
    """Yield what is painted, in which blocks, and the commands that use it."""
    yield (
        f"corrections: {place}, {counted(painted.total, 'voxel')} painted in "
        f"{len(painted.blocks):,} of {counted(_blocks(segmented), 'block')}"
    )
    if not painted.total:
        yield from _values(segmented)
        return
    rows = zip(segmented.class_names, painted.voxels, painted.changed, strict=True)
    for value, (name, voxels, changed) in enumerate(rows, start=1):
        yield f"{value} ({name}): {counted(voxels, 'voxel')}, {changed:,} of another class before"
    ordered = sorted(painted.blocks.items(), key=lambda item: (-item[1], item[0]))
    for index, voxels in ordered[:MOST_BLOCKS]:
        core = segmented.core(index)
        box = ",".join(f"{a}:{b}" for a, b in zip(core.start, core.stop, strict=True))
        yield f"block {','.join(map(str, index))}, voxels {box}: {counted(voxels, 'voxel')}"
    if (more := len(ordered) - MOST_BLOCKS) > 0:
        yield f"and {counted(more, 'more block')}"
    yield from next_lines(place, segmented)


def next_lines(place: Location, segmented: Segmented) -> Iterator[str]:
    """Yield the commands that learn from corrections, and that segment again."""
    volume, output = segmented.input or "RAW", segmented.output.uri
    train = [
        "overtile", "train", "--from", "WEIGHTS", "--volume", "OLD-VOLUME", "--labels",
        "OLD-LABELS", "--volume", volume, "--labels", place.uri, "--out", "NEW.safetensors",
    ]  # fmt: skip
    again = ["overtile", "segment", volume, "NEW.zarr", "--weights", "NEW.safetensors", "--since",
             output]  # fmt: skip
    yield f"learn from them, with the options of the first training: {command_text(train)}"
    yield f"then segment again: {command_text(again)}"
    copy = ["overtile", "corrections", output, "--apply", "CORRECTED.zarr"]
    yield f"or correct these voxels alone: {command_text(copy)}"


def applied_lines(applied: Applied, segmented: Segmented) -> Iterator[str]:
    """Yield what was written, and what comes next."""
    yield (
        f"{applied.output}: {applied.blocks_written:,} of {counted(applied.blocks, 'block')} "
        f"written with corrections, the others copied; {applied.shards_copied:,} of "
        f"{counted(applied.shards, 'shard')} of coarser levels copied"
    )
    if "scores" in segmented.job["outputs"]:
        from pipeline.objects.preparation.reuse import can_be_taken_over

        words = ["overtile", "objects", applied.output.uri, f"{applied.output.uri}/labels/objects"]
        if can_be_taken_over(segmented.output / "labels/objects"):
            words += ["--since", f"{segmented.output.uri}/labels/objects"]
        yield f"find its objects, with the options of the earlier ones: {command_text(words)}"


def corrections_json(
    place: Location, segmented: Segmented, painted: Painted | None, applied: Applied | None
) -> dict[str, Any]:
    """Return the same as JSON values. painted: None where the corrections were just created."""
    names = segmented.class_names
    return {
        "corrections": str(place),
        "created": painted is None,
        "values": {"0": "unknown", **{str(n): name for n, name in enumerate(names, start=1)}},
        "voxels": dict(zip(names, painted.voxels, strict=True)) if painted else {},
        "changed": dict(zip(names, painted.changed, strict=True)) if painted else {},
        "blocks": [{"block": list(index), "voxels": voxels}
                   for index, voxels in sorted(painted.blocks.items())] if painted else [],
        "applied": None if applied is None else {
            "output": str(applied.output),
            "blocks": applied.blocks, "blocks_written": applied.blocks_written,
            "shards": applied.shards, "shards_copied": applied.shards_copied,
        },
    }  # fmt: skip


def _values(segmented: Segmented) -> Iterator[str]:
    named = [f"{value} {name}" for value, name in enumerate(segmented.class_names, start=1)]
    yield f"values: 0 unknown, {', '.join(named)}"


def _blocks(segmented: Segmented) -> int:
    z, y, x = segmented.grid
    return z * y * x
