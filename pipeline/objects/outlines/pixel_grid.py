"""The pixels that the coordinates of outlines count: those of the labels, or of another image."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...base.errors import VolumeError
from ...base.location import Location
from ...ledger.stated_size import as_run_read
from ...volume.micrometres import voxel_size_um
from ...volume.volume import VolumeSource, find_volume

_DIGITS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelGrid:
    """Coordinates are ``scale * corner + shift``, along x and y; slices, ``scale * z + shift``.

    has_slices: whether the image has more than one, so that every outline states its own.
    """

    scale: tuple[float, float] = (1.0, 1.0)
    shift: tuple[float, float] = (0.0, 0.0)
    slice_scale: float = 1.0
    slice_shift: float = 0.0
    has_slices: bool = False

    def slice_of(self, z: int) -> int:
        """Return the slice of the image that is nearest to a slice of the labels."""
        return round(self.slice_scale * z + self.slice_shift)

    def coordinates(self, ring: NDArray[np.int64]) -> list[list[float]]:
        """Return the positions of a ring (n, 2), the first one again at the end."""
        closed = np.concatenate((ring, ring[:1]))
        if (self.scale, self.shift) == ((1.0, 1.0), (0.0, 0.0)):
            whole: list[list[float]] = closed.tolist()
            return whole
        moved: list[list[float]] = np.round(closed * self.scale + self.shift, _DIGITS).tolist()
        return moved


def grid_of_image(labels: VolumeSource, image: Location, *, output: Location) -> PixelGrid:
    """Return the pixels of an image's finest level, found by voxel sizes and translations.

    output: that the labels are of. If it was made from the image, the image has the voxel size that
    was stated to its runs, else that of its file.

    Translations state where the centre of the first voxel lies, so its outer corner is half a voxel
    before. Raises VolumeError where one of the two states no voxel size in a unit of length.
    """
    found = as_run_read(_at_any_time(image), image, output)
    size, corner = _size_and_corner(labels)
    image_size, image_corner = _size_and_corner(found)
    scale, shift = size / image_size, (corner - image_corner) / image_size
    step, first = _step_and_first(labels)
    image_step, image_first = _step_and_first(found)
    return PixelGrid(
        scale=(float(scale[0]), float(scale[1])), shift=(float(shift[0]), float(shift[1])),
        slice_scale=step / image_step, slice_shift=(first - image_first) / image_step,
        has_slices=found.shape_zyx[0] > 1,
    )  # fmt: skip


def _at_any_time(image: Location) -> VolumeSource:
    """Return an image, of a time series its first point: all have one place."""
    try:
        return find_volume(image)
    except VolumeError as error:
        with suppress(VolumeError):
            return find_volume(image, time=0)
        raise error from None


def _step_and_first(source: VolumeSource) -> tuple[float, float]:
    """Return the way from a slice to the next one, and where the first one lies.

    In µm, or in the unit of the source, which is the same in labels and image if it is unknown.
    """
    um = voxel_size_um(source)[0]
    per_unit = 1.0 if um is None else um / source.voxel_size[0]
    return source.step[0] * per_unit, source.translation[0] * per_unit


def _size_and_corner(source: VolumeSource) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return pixel size and outer corner along x and y, in µm."""
    sizes = voxel_size_um(source)[:0:-1]
    if None in sizes or min(source.direction[1:]) < 0:
        raise VolumeError(
            f"{source.location} states no voxel size in a unit of length, or has an axis that is "
            "stored backwards: its pixels cannot be compared; leave --image out"
        )
    size = np.array(sizes, np.float64)
    per_unit = size / np.array(source.voxel_size[:0:-1])
    return size, np.array(source.translation[:0:-1]) * per_unit - size / 2
