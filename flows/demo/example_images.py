"""TIFF stacks to try overtile with: an image, and some slices with their labels to train on."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import OutputError
from pipeline.base.geometry import Box
from pipeline.volume.formats.write_tiff import write_tiff
from pipeline.volume.volume import find_volume, read_box

from .folder import made_folder
from .scene import VOXEL_SIZE_UM, Scene, Shape3, render

SHAPE: Shape3 = (64, 256, 256)
SEED = 0
TRAINING_SHAPE: Shape3 = (24, 256, 256)
TRAINING_SEED = 1


@dataclass(frozen=True, slots=True)
class ExampleImages:
    """Three TIFF stacks of uint8, axes z, y, x, voxels of 0.2 × 0.1 × 0.1 µm."""

    image: Path
    """64 slices of 256² voxels."""
    training: Path
    """24 slices of another place of the same tissue."""
    training_labels: Path
    """Of these slices: 0 = inside a cell, 1 = membrane."""


def make_example_images(directory: str | os.PathLike[str]) -> ExampleImages:
    """Write the stacks into a folder, which is created if it does not exist.

    A stack that is there already is left unchanged. Raises OutputError if another file has its
    name.
    """
    folder = made_folder(directory)
    names = (folder / name for name in ("cells.tif", "training.tif", "training-labels.tif"))
    images = ExampleImages(*names)
    raw, _ = _rendered(SHAPE, SEED)
    training, labels = _rendered(TRAINING_SHAPE, TRAINING_SEED)
    found = {images.image: raw, images.training: training, images.training_labels: labels}
    missing = {path: image for path, image in found.items() if not _is_there(path, image)}
    for path, image in missing.items():
        write_tiff(path, image, voxel_size_um=VOXEL_SIZE_UM)
    return images


def _rendered(shape: Shape3, seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return grey values and membranes of one place."""
    raw, membranes, _ = render(Box.of_shape(shape), scene=Scene(shape, seed))
    return raw, membranes


def _is_there(path: Path, image: NDArray[Any]) -> bool:
    """Return whether a file holds this image already. Raises OutputError if it holds another."""
    if not path.exists():
        return False
    stored = find_volume(str(path))
    whole = Box.of_shape(image.shape)
    if stored.shape_zyx != image.shape or not np.array_equal(read_box(stored, whole)[0], image):
        raise OutputError(f"{path} is another image: remove it, or choose another --directory")
    return True
