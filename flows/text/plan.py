"""A plan as text: what would be read, computed and written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.base.text import aligned_rows, counted, flops_text, shape_text, size_text
from pipeline.ledger.progress import blocks_done
from pipeline.models.protocol import outputs_of
from pipeline.planning.tile_memory import spared_text
from pipeline.segmentation.prepare import Prepared, depends_on_room
from pipeline.volume.size_text import size_origin, size_with_origin

from .volume import channels_text


def plan_rows(prepared: Prepared) -> list[tuple[str, str]]:
    """Return the plan as (name, value) rows."""
    budget, plan, source = prepared.budget, prepared.plan, prepared.source
    per_voxel = budget.flops / max(1, budget.voxels)
    images = ", ".join(
        f"{image.name} {shape_text(image.shapes[0])} {image.dtype}, "
        + counted(len(image.shapes), "level")
        for image in prepared.images
    )
    tile, block = size_text(budget.tile_memory_bytes), size_text(budget.block_memory_bytes)
    return [
        ("volume", f"{shape_text(source.shape)} {source.dtype}, axes {' '.join(source.axes)}"),
        ("array", source.path or "the root of the store"),
        ("channels", channels_text(source)),
        ("voxel size", size_with_origin(source)),
        _channels_row(prepared),
        ("weights", prepared.predictor.digest[:12]),
        *prepared.predictor.settings().items(),
        ("normalisation", normalisation_text(prepared.record)),
        ("output", f"OME-Zarr {prepared.request.format}: {images}"),
        ("", output_action_text(prepared)),
        ("engine", prepared.request.engine),
        *part_rows(prepared),
        ("blocks", f"{budget.blocks:,} of {shape_text(plan.core)} voxels"),
        *(
            [("skipped", f"{len(plan) - budget.blocks:,} blocks outside the part")]
            if budget.blocks < len(plan)
            else []
        ),
        ("grid", shape_text(plan.grid)),
        ("regions", f"{budget.regions:,}"),
        (
            "tiles" if plan.traversal == "tiles" else "sweeps along z",
            f"{budget.tiles:,} of {shape_text(plan.tile)} voxels",
        ),
        ("", prepared.plan_reason),
        ("halo, divisor", f"{shape_text(plan.halo.low)}, {shape_text(plan.divisor)}"),
        ("read", size_text(budget.bytes_read)),
        ("read in whole chunks", size_text(budget.bytes_read_in_whole_chunks)),
        ("read amplification", f"{budget.read_amplification:.2f} from the store"),
        ("", f"{budget.tile_amplification:.2f} into the network"),
        ("written", f"{size_text(budget.bytes_written)} before compression"),
        ("files", f"{budget.files:,} at full resolution"),
        ("tile memory", tile_memory_text(prepared)),
        ("memory per worker", size_text(budget.worker_memory_bytes)),
        (
            "",
            f"{2 if plan.traversal == 'tiles' else 1} × {tile} for a tile, 4 × {block} for blocks, "
            "and what is kept of them",
        ),
        ("arithmetic", f"{flops_text(budget.flops)}, {flops_text(per_voxel)} per voxel"),
    ]


def _channels_row(prepared: Prepared) -> tuple[str, str]:
    """Return what the channels of the scores are."""
    outputs = outputs_of(prepared.predictor)
    names = ", ".join(prepared.predictor.class_names)
    return ("classes", names) if outputs.has_classes else ("scores", f"{outputs.kind}: {names}")


def tile_memory_text(prepared: Prepared) -> str:
    """Return how much memory a tile may take, and why."""
    if prepared.request.tile is not None:
        return "as --tile needs"
    if prepared.request.tile_memory_bytes is not None:
        return f"{size_text(prepared.tile_memory_bytes)}, as given"
    if not depends_on_room(prepared):
        return "as in the earlier run"
    return spared_text(prepared.tile_memory_bytes, prepared.room)


def output_action_text(prepared: Prepared) -> str:
    """Return what a run would do with the output."""
    where = prepared.request.output
    if prepared.output_action == "created":
        return f"to be created at {where}"
    if prepared.output_action == "replaced":
        return f"existing data at {where} would be deleted first"
    done = blocks_done(prepared.request.output)
    return f"to be resumed at {where}: {done:,} of {len(prepared.selection):,} blocks are done"


def part_rows(prepared: Prepared) -> list[tuple[str, str]]:
    """Return which part of the volume is segmented, if it is not the whole."""
    part, rows = prepared.part, []
    if part.box is not None:
        ends = zip(part.box.start, part.box.stop, strict=True)
        box = ",".join(f"{start}:{stop}" for start, stop in ends)
        rows.append(("box", f"{box} voxels; the output has the shape of the {part.frame}"))
    if part.mask is not None:
        rows.append(("mask", f"{part.mask.source.location}, contents {part.mask_contents[:12]}"))
    if part.skip is not None:
        rows.append(("skip", f"blocks whose input is {part.skip:g} alone; not known before a run"))
    return rows


def normalisation_text(record: Mapping[str, Any]) -> str:
    """Return a normalisation in words.

    >>> normalisation_text({"kind": "range", "low": 0, "high": 255})
    'range 0 to 255'
    """
    text = str(record["kind"])
    if "low" in record:
        text += f" {record['low']:g} to {record['high']:g}"
    return text + (f", measured on level {record['level']}" if "level" in record else "")


def plan_text(prepared: Prepared, *more: tuple[str, str]) -> str:
    """Return the plan as aligned lines. more: further rows."""
    notes = (f"note: {note}" for note in prepared.notes)
    return "\n".join([aligned_rows([*plan_rows(prepared), *more]), *notes])


def plan_json(prepared: Prepared) -> dict[str, Any]:
    """Return the plan as JSON values."""
    from dataclasses import asdict

    return {
        "input": str(prepared.source.store),
        "shape": list(prepared.source.shape),
        "axes": prepared.source.axes,
        "dtype": prepared.source.dtype,
        "voxel_size": list(prepared.source.voxel_size),
        "voxel_size_unit": list(prepared.source.unit),
        "voxel_size_from": size_origin(prepared.source),
        "weights": {"digest": prepared.predictor.digest, **prepared.predictor.settings()},
        "normalisation": dict(prepared.record),
        "output": str(prepared.request.output),
        "output_action": prepared.output_action,
        "format": prepared.request.format,
        "engine": prepared.request.engine,
        "images": [
            {"name": image.name, "dtype": image.dtype, "shapes": [list(s) for s in image.shapes]}
            for image in prepared.images
        ],
        "block": list(prepared.plan.core),
        "tile": list(prepared.plan.tile),
        "traversal": prepared.plan.traversal,
        "traversal_reason": prepared.plan_reason,
        "tile_memory": tile_memory_text(prepared),
        "halo": list(prepared.plan.halo.low),
        "divisor": list(prepared.plan.divisor),
        "grid": list(prepared.plan.grid),
        **asdict(prepared.budget),
        "skipped": len(prepared.plan) - len(prepared.selection),
        "part": dict(prepared.part.job_parts()),
        "notes": list(prepared.notes),
    }
