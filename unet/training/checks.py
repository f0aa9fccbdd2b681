"""What must hold before a training begins; each raises one line for a person."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from pipeline.base.errors import LabelError, TrainingError, VolumeError, WeightsError
from pipeline.base.geometry import Box

from ..network.config import UNetConfig
from ..recipe.training_config import Recipe
from ..samples.sampling import Survey, survey
from ..weights.file import read_weights_info
from .checkpoint import newest_checkpoint
from .same_training import check_same_training
from .volumes import TrainingVolume

MOST_NAME_BYTES = 180
"""Of 255 that file systems take: what is written aside gets a longer name."""
MOST_SHOWN = 200


def output_paths(out: str) -> tuple[Path, Path]:
    """Return the weights file to be made, and the directory of what is kept beside it."""
    shown = out if len(out) < MOST_SHOWN else f"{out[:MOST_SHOWN]}…"
    if "://" in out or not out.strip():
        raise TrainingError(f"--out {shown!r}: give a path here; every worker must see it")
    path = Path(out).resolve()
    if not 0 < len(os.fsencode(path.name)) <= MOST_NAME_BYTES:
        raise TrainingError(
            f"--out {shown!r}: give the path of a file, its name of {MOST_NAME_BYTES} bytes at most"
        )
    try:
        above = next(place for place in path.parents if place.exists())
        with TemporaryFile(dir=above):  # of a file system that takes no files, nobody else tells
            pass
    except OSError as error:
        raise TrainingError(
            f"--out {shown!r}: there is no folder that can be written to ({error.strerror})"
        ) from error
    return path, path.with_name(f"{path.stem}.training")


def check_nothing_is_lost(path: Path, directory: Path, *, resume: bool) -> None:
    """Refuse a place where weights or checkpoints are already, unless they are gone on with."""
    found = newest_checkpoint(directory)
    if found is not None and not resume:
        raise TrainingError(
            f"{str(directory)!r} holds a training already ({found.name}): add --resume "
            "to go on with it, or give another --out"
        )
    if path.is_dir() or (found is None and path.exists()):
        raise TrainingError(f"{str(path)!r} is there already: give another --out")


def are_weights_of(path: Path, recipe: Recipe, data: Mapping[str, Any], *, dtype: str) -> bool:
    """Return whether a file holds the weights that this training ends with.

    False where it holds those of fewer steps, or stored as another dtype: these are made anew.
    Raises TrainingError for any other file, which would be lost.
    """
    try:
        info = read_weights_info(path)
        made = {"recipe": info.provenance["recipe"], "data_sets": info.provenance["data"]}
        check_same_training(made, recipe, data)
    except (WeightsError, KeyError, TrainingError) as error:
        raise TrainingError(
            f"{str(path)!r} is there already and is not what this training made: move it, or give "
            "another --out"
        ) from error
    return info.dtype == dtype and info.provenance.get("steps") == recipe.training.steps


def survey_labels(box: TrainingVolume, recipe: Recipe) -> Survey:
    """Return what the labels of a box hold. Raises LabelError that names the volume."""
    network = recipe.network
    try:
        return survey(box, recipe.labels, classes=network.classes, dims=network.dims)
    except LabelError as error:
        if box.name in str(error):
            raise
        raise LabelError(f"labels of {box.name}: {error}") from error


def bad_value_notes(looked: Sequence[tuple[TrainingVolume, Survey]]) -> list[str]:
    """Return a line for each volume with values that are NaN or infinite, which are learnt as 0.

    looked: boxes, and where their labels were looked through; grey values are, in the same places.
    Raises VolumeError for a volume without any other value.
    """
    counts: dict[str, list[int]] = {}
    for box, labels in looked:
        cells = [(cell.start, cell.stop) for cell in labels.cells]
        bad, values = box.count_bad_values(cells)
        of_volume = counts.setdefault(box.volume_name, [0, 0])
        of_volume[0] += bad
        of_volume[1] += values
    for name, (bad, values) in counts.items():
        if bad and bad == values:
            raise VolumeError(
                f"{name}: all {values:,} values looked at are NaN or infinite: there is nothing to "
                "learn from"
            )
    return [
        f"{name}: {bad:,} of {values:,} values looked at are NaN or infinite: they are learnt as 0"
        for name, (bad, values) in counts.items()
        if bad
    ]


def check_channels(boxes: Sequence[TrainingVolume], network: UNetConfig) -> None:
    """Refuse volumes that do not have the channels that the network takes."""
    for box in boxes:
        if box.channel_count != network.in_channels:
            raise TrainingError(
                f"{box.name} has {box.channel_count} channels, the network takes "
                f"{network.in_channels}: name a channel, or change in_channels"
            )


def check_several_classes(boxes: Sequence[TrainingVolume], surveys: Sequence[Survey]) -> None:
    """Refuse labels that were all looked at, and are all of one class."""
    voxels = sum(math.prod(box.shape_zyx) for box in boxes)
    seen = sum(Box(cell.start, cell.stop).voxels for one in surveys for cell in one.cells)
    counts = [sum(of_class) for of_class in zip(*(one.counts for one in surveys), strict=True)]
    present = [number for number, count in enumerate(counts) if count]
    if seen == voxels and len(present) == 1:
        raise LabelError(
            f"labels are all of class {present[0]}: there is nothing to tell apart; are they the "
            "right ones, and does --rule fit them?"
        )


def check_ranks(ranks: int | None, *, batch: int | None) -> None:
    """Refuse more ranks than there are patches in a step."""
    if ranks and batch and ranks > batch:
        raise TrainingError(
            f"{ranks} ranks for a batch of {batch}, but each needs a patch of every step: give at "
            f"most --ranks {batch}, or begin a training with a larger --batch"
        )
