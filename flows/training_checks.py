"""What must hold before a training begins; each raises one line for a person."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import LabelError, TrainingError
from pipeline.geometry import Box
from pipeline.labelled import LabelledBox
from unet import UNetConfig
from unet.checkpoint import newest_checkpoint
from unet.sampling import Survey


def places(out: str) -> tuple[Path, Path]:
    """Return the weights file to be made, and the directory of what is kept beside it."""
    if "://" in out or not out.strip():
        raise TrainingError(f"--out {out!r}: give a path here; every worker must see it")
    path = Path(out).resolve()
    above = next(place for place in path.parents if place.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise TrainingError(f"--out {out!r}: {str(above)!r} is no folder that can be written to")
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


def check_channels(boxes: Sequence[LabelledBox], network: UNetConfig) -> None:
    """Refuse volumes that do not have the channels that the network takes."""
    for box in boxes:
        if box.raw.channel_count != network.in_channels:
            raise TrainingError(
                f"{box.name} has {box.raw.channel_count} channels, the network takes "
                f"{network.in_channels}: name a channel, or change in_channels"
            )


def check_several_classes(boxes: Sequence[LabelledBox], surveys: Sequence[Survey]) -> None:
    """Refuse labels that were all looked at, and are all of one class."""
    voxels = sum(box.box.voxels for box in boxes)
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
