"""Checks before a training begins; each raises an error of one line."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from pipeline.base.errors import ConfigError, LabelError, TrainingError, VolumeError, WeightsError
from pipeline.base.location import check_text
from pipeline.base.store_errors import is_full, not_written

from ..network.config import UNetConfig
from ..recipe.schedule import StepSchedule
from ..recipe.training_config import Recipe
from ..samples.sampling import Shape, Survey, survey
from ..weights.file import WeightsInfo, read_weights_info
from .checkpoint import newest_checkpoint
from .same_training import check_same_schedule, check_same_training
from .start.weights import StartWeights, check_same_start
from .volumes import TrainingVolume

MAX_NAME_BYTES = 180
"""Of the 255 that file systems allow: temporary files get a longer name."""
MAX_SHOWN = 200


def output_paths(out: str) -> tuple[Path, Path]:
    """Return the weights file to create, and the directory for checkpoints, log and pictures."""
    shown = out if len(out) < MAX_SHOWN else f"{out[:MAX_SHOWN]}…"
    if "://" in out or not out.strip():
        raise TrainingError(f"--out {shown!r}: expected a path that every worker can write to")
    check_text(out, kind=TrainingError)
    path = Path(os.path.realpath(out))
    if not 0 < len(os.fsencode(path.name)) <= MAX_NAME_BYTES:
        raise TrainingError(
            f"--out {shown!r}: expected the path of a file, with a name of at most "
            f"{MAX_NAME_BYTES} bytes"
        )
    try:
        above = next(folder for folder in path.parents if folder.exists())
        with TemporaryFile(
            dir=above
        ):  # some file systems, like /proc, refuse files only when one is created
            pass
    except OSError as error:
        if is_full(error):
            raise not_written(f"--out {shown!r}: the folder", error, remedy="") from error
        raise TrainingError(
            f"--out {shown!r}: the folder cannot be written to ({error.strerror}); choose another"
        ) from error
    return path, path.with_name(f"{path.stem}.training")


def check_nothing_is_lost(path: Path, directory: Path, *, resume: bool) -> None:
    """Refuse a path where weights or checkpoints exist, unless the training is resumed."""
    found = newest_checkpoint(directory)
    if found is not None and not resume:
        raise TrainingError(
            f"{str(directory)!r} already holds a training ({found.name}): add --resume to "
            "continue it, or choose another --out"
        )
    if path.is_dir() or (found is None and path.exists()):
        raise TrainingError(f"{str(path)!r} exists already: choose another --out")


def weights_of_this_training(
    path: Path,
    recipe: Recipe,
    data: Mapping[str, Any],
    schedule: StepSchedule,
    start: StartWeights | None = None,
) -> WeightsInfo:
    """Return what a file states that this training wrote, perhaps after fewer steps.

    Raises TrainingError for any other file, which would be lost.
    """
    try:
        info = read_weights_info(path)
        stated = info.provenance
        made = {**stated, "recipe": stated["recipe"], "data_sets": stated["data"]}
        check_same_start(made, start)
        check_same_training(made, recipe, data)
        check_same_schedule(made, schedule)
    except (WeightsError, KeyError, TrainingError) as error:
        raise TrainingError(
            f"{str(path)!r} exists already and was not made by this training: move it, or choose "
            "another --out"
        ) from error
    return info


def survey_boxes(boxes: Sequence[TrainingVolume], recipe: Recipe) -> tuple[Survey, ...]:
    """Return the classes in the labels of each box; one of them at least has known labels.

    Held-out slices may leave a box in which nothing of sparse labels lies. Raises LabelError.
    """
    surveys = tuple(survey_labels(box, recipe, may_be_unknown=len(boxes) > 1) for box in boxes)
    if boxes and not any(one.known_voxels for one in surveys):
        raise LabelError(
            f"labels of {boxes[0].name} and all others are {recipe.labels.ignore}, the ignored "
            "label: no voxel has a known class"
        )
    return surveys


def survey_labels(box: TrainingVolume, recipe: Recipe, *, may_be_unknown: bool = False) -> Survey:
    """Return the classes in the labels of a box. Raises LabelError that names the volume."""
    classes, dims = recipe.network.classes, recipe.network.dims
    try:
        return survey(box, recipe.labels, classes=classes, dims=dims, may_be_unknown=may_be_unknown)
    except LabelError as error:
        if box.name in str(error):
            raise
        raise LabelError(f"labels of {box.name}: {error}") from error


def bad_value_notes(surveyed: Sequence[tuple[TrainingVolume, Survey]]) -> list[str]:
    """Return a line for each volume with values that are NaN or infinite; training reads 0 there.

    surveyed: boxes with the surveys of their labels; grey values are checked in the same cells.
    Raises VolumeError for a volume that has no other values.
    """
    counts: dict[str, list[int]] = {}
    for box, labels in surveyed:
        cells = [(cell.start, cell.stop) for cell in labels.cells if cell.known_voxels]
        bad, values = box.count_bad_values(cells)
        of_volume = counts.setdefault(box.volume_name, [0, 0])
        of_volume[0] += bad
        of_volume[1] += values
    for name, (bad, values) in counts.items():
        if bad and bad == values:
            raise VolumeError(
                f"{name}: all {values:,} values checked are NaN or infinite: there is nothing to "
                "learn from"
            )
    return [
        f"{name}: {bad:,} of {values:,} values checked are NaN or infinite: they are read as 0"
        for name, (bad, values) in counts.items()
        if bad
    ]


def check_channels(boxes: Sequence[TrainingVolume], network: UNetConfig) -> None:
    """Refuse volumes with another number of channels than the network takes."""
    for box in boxes:
        if box.channel_count != network.in_channels:
            raise TrainingError(
                f"{box.name} has {box.channel_count} channels, the network takes "
                f"{network.in_channels}: choose a channel, correct --axes, or change in_channels"
            )


def check_offsets_are_seen(recipe: Recipe, core: Shape) -> None:
    """Refuse offsets of affinities that reach further than a patch and the context around it."""
    network = recipe.network
    furthest = tuple(
        halo + size - 1 for halo, size in zip(network.halo, core[3 - network.dims :], strict=True)
    )
    for offset in recipe.labels.offsets or ():
        if any(abs(step) > most for step, most in zip(offset, furthest, strict=True)):
            raise ConfigError(
                f"labels.offsets ({list(offset)}): a patch and its halo reach {list(furthest)} "
                "voxels; use a shorter offset, or a larger patch"
            )


def check_ranks(ranks: int | None, *, batch: int | None) -> None:
    """Refuse more ranks than a step has patches."""
    if ranks and batch and ranks > batch:
        raise TrainingError(
            f"{ranks} ranks for a batch of {batch}, but each needs a patch in every step: use at "
            f"most --ranks {batch}, or start a training with a larger --batch"
        )
