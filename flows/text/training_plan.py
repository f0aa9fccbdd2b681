"""A training's plan as text, as JSON values and as a picture of its first patches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from pipeline.base.text import aligned_rows, counted, duration_text, shape_text, size_text
from pipeline.report.pictures import (
    Legend,
    Rgb,
    channels_picture,
    channels_text,
    classes_picture,
    grey_picture,
    legend_strip,
    nearest,
    panel,
)
from unet.samples.rules.registry import outputs_of
from unet.samples.rules.rule import IGNORED
from unet.training.plan.patches import Patch
from unet.training.plan.plan import TrainingPlan
from unet.training.prepare import PreparedTraining

UNKNOWN = (128, 128, 128)
"""The colour of voxels whose class is unknown; no class has it."""


def training_plan_text(prepared: PreparedTraining, plan: TrainingPlan) -> str:
    """Return the plan as aligned lines."""
    rows = [*_network_rows(prepared, plan), *_data_rows(prepared, plan), *_cost_rows(plan)]
    if prepared.recipe.training.patience:
        rows.append(("", "at most: patience may end the training earlier"))
    return aligned_rows(rows)


def _network_rows(prepared: PreparedTraining, plan: TrainingPlan) -> Iterator[tuple[str, str]]:
    network, training = prepared.recipe.network, prepared.recipe.training
    yield (
        "network",
        f"{network.dims}-D U-Net of {counted(network.levels, 'level')}, "
        f"{counted(network.base_channels, 'base channel')}, "
        f"{counted(network.parameters, 'parameter')}",
    )
    steps = prepared.progress.schedule.steps
    yield "training", f"preset {training.preset}, {counted(steps, 'step')}"
    inputs = network.input_shape(prepared.core[3 - network.dims :])
    yield (
        "patch",
        f"{shape_text(prepared.core)} voxels, from {shape_text(inputs)} with its context",
    )
    yield "batch", f"{plan.batch:,} patch{'' if plan.batch == 1 else 'es'} per step"
    if prepared.done_steps:
        yield (
            "resuming",
            f"{prepared.done_steps:,} of {steps:,} steps are done ({prepared.directory})",
        )


def _data_rows(prepared: PreparedTraining, plan: TrainingPlan) -> Iterator[tuple[str, str]]:
    found = plan.statistics
    for name, boxes in (
        ("train on", prepared.volumes.training), ("validate on", prepared.volumes.validation),
    ):  # fmt: skip
        for box in boxes:
            yield name, f"{box.name}, {shape_text(box.shape_zyx)} voxels"
    for size in prepared.volumes.voxel_size_lines:
        yield "voxel size", size
    shares = zip(counted_names(prepared), found.shares, strict=True)
    yield "classes", ", ".join(f"{name} {percent(share)}" for name, share in shares)
    if found.is_exact:
        yield "", f"of all {found.voxels:,} voxels"
    else:
        yield "", f"of {found.surveyed:,} of {found.voxels:,} voxels, in boxes spread evenly"
    yield "known", f"{percent(found.known_share)} of the voxels"
    yield (
        "patches",
        f"{found.patches:,}, and {found.patches_per_epoch:,.1f} have as many voxels as the volumes",
    )
    if found.is_sparse:
        yield "", "they are drawn where labels are known"
    else:
        yield "", f"so each voxel is learnt {found.epochs:,.1f} times on average"
    if plan.empty_patches:
        measured = len(plan.measured[0].seconds) * plan.batch
        yield "", f"{plan.empty_patches} of {measured} measured ones have no known voxel"


def _cost_rows(plan: TrainingPlan) -> Iterator[tuple[str, str]]:
    first = plan.measured[0]
    yield "ranks", f"{plan.ranks} on {first.device}"
    what = "GPU memory" if first.device.startswith("cuda") else "its whole process"
    yield "memory of a rank", f"{size_text(plan.memory_bytes)} at its peak ({what})"
    seconds = [one for rank in plan.measured for one in rank.seconds]
    yield (
        "step",
        f"{duration_text(plan.step_s)}, median of {len(first.seconds)} "
        f"({duration_text(min(seconds))} to {duration_text(max(seconds))}); "
        f"{percent(first.wait_share)} of it waiting for samples",
    )
    steps, validations = plan.steps_left * plan.step_s, plan.validations * plan.validation_s
    yield (
        "time",
        f"{duration_text(plan.seconds_left)}: {duration_text(steps)} for "
        f"{counted(plan.steps_left, 'step')}, {duration_text(validations)} for "
        f"{counted(plan.validations, 'validation')}",
    )


def training_plan_json(prepared: PreparedTraining, plan: TrainingPlan) -> dict[str, Any]:
    """Return the plan as JSON values."""
    found, network = plan.statistics, prepared.recipe.network
    return {
        "out": str(prepared.out),
        "recipe": prepared.recipe.to_dict(),
        "parameters": network.parameters,
        "patch": list(prepared.core),
        "batch": plan.batch,
        "done_steps": prepared.done_steps,
        "voxel_size_um": _sizes_json(prepared),
        "voxel_size": list(prepared.volumes.voxel_size_lines),
        "classes": dict(zip(counted_names(prepared), found.shares, strict=True)),
        "class_counts": list(found.class_counts),
        "surveyed_voxels": found.surveyed,
        "voxels": found.voxels,
        "known_share": found.known_share,
        "patches": found.patches,
        "patches_per_epoch": found.patches_per_epoch,
        "empty_patches": plan.empty_patches,
        "ranks": plan.ranks,
        "device": plan.measured[0].device,
        "memory_bytes": plan.memory_bytes,
        "step_s": plan.step_s,
        "steps_s": [list(rank.seconds) for rank in plan.measured],
        "wait_share": plan.measured[0].wait_share,
        "validations": plan.validations,
        "validation_s": plan.validation_s,
        "seconds_left": plan.seconds_left,
        "notes": list(prepared.notes),
    }


def _sizes_json(prepared: PreparedTraining) -> list[float | None] | None:
    """Return the voxel size in µm (z, y, x); None where volumes have several scales."""
    sizes = prepared.volumes.voxel_size_um
    return None if sizes is None else list(sizes)


def channel_names(prepared: PreparedTraining) -> tuple[str, ...]:
    """Return a name per class or channel, by its number where the recipe has no names."""
    named = prepared.recipe.class_names
    return tuple(named or map(str, range(prepared.recipe.network.classes)))


def counted_names(prepared: PreparedTraining) -> tuple[str, ...]:
    """Return the names of the classes by which labels are counted, whatever is learnt of them."""
    recipe = prepared.recipe
    has_classes = outputs_of(recipe.labels, dims=recipe.network.dims).has_classes
    return channel_names(prepared) if has_classes else ("inside", "boundary")


def percent(share: float) -> str:
    """Return a share in percent; neither 0 nor 100 unless it is exactly that.

    >>> percent(0.234), percent(1.0), percent(0.99999), percent(0.00001)
    ('23.4 %', '100.0 %', '>99.9 %', '<0.1 %')
    """
    if 0 < share < 0.0005:
        return "<0.1 %"
    return ">99.9 %" if 0.9995 <= share < 1 else f"{100 * share:.1f} %"


def patches_picture(patches: tuple[Patch, ...], names: tuple[str, ...]) -> Rgb:
    """Return a row per patch: grey values, what is learnt, weights.

    Voxels of an unknown class are grey. Of targets that are not classes, the first three channels
    are red, green and blue, and their weights a mean. names: of the classes or channels.
    """
    titled = []
    for patch in patches:
        weights = patch.weights_yx
        if patch.is_of_classes:
            learnt = "labels", _classes(patch.targets_yx)
        else:
            learnt = channels_text(names), channels_picture(patch.targets_yx)
        titled += [
            (f"step {patch.step}, patch {patch.number}", grey_picture(patch.raw_cyx)),
            learnt,
            (_weights_title(weights.min(), weights.max()), grey_picture(weights)),
        ]
    sheet = panel(titled, columns=3)
    if not patches[0].is_of_classes:
        return sheet
    legend = legend_strip(Legend(class_names=names), width=sheet.shape[1])
    return np.concatenate([sheet, legend])


def _weights_title(low: float, high: float) -> str:
    """Return the title of a map of weights.

    >>> _weights_title(1.0, 1.0), _weights_title(0.0, 2.96)
    ('weight 1 everywhere', 'weights 0 (black) to 3 (white)')
    """
    if low == high:
        return f"weight {low:.2g} everywhere"
    return f"weights {low:.2g} (black) to {high:.2g} (white)"


def _classes(classes_yx: np.ndarray[Any, np.dtype[np.int64]]) -> Rgb:
    coloured = classes_picture(np.maximum(classes_yx, 0)).copy()
    coloured[nearest(classes_yx == IGNORED, coloured.shape[:2])] = UNKNOWN
    return coloured
