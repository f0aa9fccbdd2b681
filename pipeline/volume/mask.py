"""A mask of a volume: an image of the same field of view, non-zero where the volume is wanted.

A mask may be coarser or finer than the volume by a whole number per axis. Along an axis, with two
voxels of the volume per voxel of the mask::

    volume  |0|1|2|3|4|5|6|
    mask    | 0 | 1 | 2 | 3       a last voxel may reach past the volume, or be missing

A voxel of the volume is inside where the voxel of the mask at its centre is not zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..base.errors import VolumeError
from ..base.geometry import Box
from ..base.location import Location
from ..base.text import shape_text
from .companion import find_companion
from .given_size import as_stored
from .micrometres import voxel_size_um
from .volume import VolumeSource, open_volume

NEARLY_WHOLE: Final = 0.05
"""Largest relative difference of a ratio of voxel sizes from a whole number."""
ALIGNED: Final = 0.5
"""Largest distance, in voxels of the volume, of origins that count as the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskAxis:
    """Which voxel of the mask stands for a voxel of the volume, along one axis."""

    coarser: int = 1
    """Voxels of the volume per voxel of the mask."""
    finer: int = 1
    """Voxels of the mask per voxel of the volume; one of the two is 1."""
    start: int = 0
    """The volume's voxel at which the mask starts; below 0 for a crop of a larger field of view."""
    length: int
    """Of the mask."""

    def index(self, start: int, stop: int) -> NDArray[np.intp]:
        """Return the voxel of the mask for each voxel of the volume from ``start`` to ``stop``."""
        position = np.arange(start - self.start, stop - self.start, dtype=np.intp)
        index = position * self.finer + self.finer // 2 if self.finer > 1 else position
        return np.clip(index // self.coarser, 0, self.length - 1)

    def span(self, start: int, stop: int) -> tuple[int, int]:
        """Return the range of the mask's voxels for a range of the volume's."""
        first, last = self.index(start, start + 1), self.index(stop - 1, stop)
        return int(first[0]), int(last[0]) + 1


MaskAxes: TypeAlias = tuple[MaskAxis, MaskAxis, MaskAxis]


@dataclass(frozen=True, slots=True)
class MaskSource:
    """Where a mask is, and how it lies over a volume. Small, hashable, picklable."""

    source: VolumeSource
    axes: MaskAxes

    def touched(self, box: Box) -> Box:
        """Return the box of the mask that stands for a box of the volume."""
        spans = [axis.span(a, b) for axis, a, b in zip(self.axes, box.start, box.stop, strict=True)]
        return Box(tuple(a for a, _ in spans), tuple(b for _, b in spans))

    def read(self, box: Box) -> NDArray[np.bool_]:
        """Return whether the voxels (z, y, x) of a box of the mask itself are not zero."""
        values = open_volume(self.source).read(box)[0]
        return np.asarray((values != 0) & (values == values))  # NaN marks what was not imaged

    def inside(self, box: Box) -> NDArray[np.bool_]:
        """Return which voxels (z, y, x) of a box of the volume are inside."""
        touched = self.touched(box)
        index = [
            axis.index(a, b) - first
            for axis, a, b, first in zip(self.axes, box.start, box.stop, touched.start, strict=True)
        ]
        return self.read(touched)[np.ix_(*index)]


def find_mask(location: Location, volume: VolumeSource) -> MaskSource:
    """Return the mask at a location, laid over a volume; reads metadata only.

    Where both state a voxel size in a unit of length, their voxel sizes and origins say how the
    mask lies; else the ratio of their shapes. A mask without z is the same for every z. If a person
    states the volume's voxel size, the mask may have that one or the file's, whichever fits. Raises
    VolumeError if it is not an image of one channel, of the volume's field of view and of a
    whole-number scale.
    """
    source = find_companion(location, axes=volume.spatial_axes, holds="anything")
    if source.channel_count != 1:
        raise VolumeError(
            f"--mask {location} has {source.channel_count} channels: expected one; pass an image "
            "of one channel"
        )
    axes = _placed(source, volume)
    if axes is None:
        raise VolumeError(
            f"--mask {location} ({_described(source)}) does not fit the volume "
            f"({_described(volume)}): expected the same field of view, in voxels that are larger "
            "or smaller by a whole number"
        )
    return MaskSource(source, axes)


def _placed(mask: VolumeSource, volume: VolumeSource) -> MaskAxes | None:
    """Return the axes of a mask; None if it does not fit the volume.

    Of two voxel sizes of the volume, a person's and the file's, the one counts with which the mask
    has the whole field of view: it was made with that one.
    """
    fitting: list[MaskAxes] = []
    for sized in dict.fromkeys((volume, as_stored(volume))):
        axes = [axis for axis in _axes(mask, sized) if axis is not None]
        if len(axes) == 3:
            fitting.append((axes[0], axes[1], axes[2]))
    whole = (axes for axes in fitting if not any(axis.start for axis in axes))
    return next(whole, fitting[0] if fitting else None)


def _axes(mask: VolumeSource, volume: VolumeSource) -> Iterator[MaskAxis | None]:
    """Yield each axis of a mask, or None where it does not cover the volume's."""
    sizes = zip(voxel_size_um(mask), voxel_size_um(volume), strict=True)
    for axis, (mask_um, volume_um) in enumerate(sizes):
        length, whole = mask.shape_zyx[axis], volume.shape_zyx[axis]
        if mask_um is None or volume_um is None:
            yield _by_shapes(length, whole)
            continue
        ratio = mask_um / volume_um
        mask_origin, volume_origin = (  # translations have the unit of their steps
            source.translation[axis] / source.step[axis] * um / volume_um
            for source, um in ((mask, mask_um), (volume, volume_um))
        )
        if mask.direction[axis] != volume.direction[axis]:  # one of them is stored backwards
            yield None
            continue
        coarser, finer = max(1, round(ratio)), max(1, round(1 / ratio))
        is_whole = abs(ratio * finer / coarser - 1) <= NEARLY_WHOLE or length == 1
        start = _start(mask_origin, volume_origin, ratio)
        yield _fitted(length, whole, coarser, finer, start) if is_whole else None


def _by_shapes(length: int, whole: int) -> MaskAxis | None:
    """Return the axis of a mask that states no voxel size: the whole ratio that fits best."""
    ratio, inverse = whole / length, length / whole
    for coarser, finer in (
        (round(ratio), round(inverse)),
        (math.floor(ratio), math.floor(inverse)),
        (math.ceil(ratio), math.ceil(inverse)),
    ):
        coarser, finer = (max(1, coarser), 1) if ratio >= 1 else (1, max(1, finer))
        if axis := _fitted(length, whole, coarser, finer, start=0):
            return axis
    return None


def _start(mask_origin: float, volume_origin: float, ratio: float) -> int:
    """Return the volume's voxel at which a mask starts.

    Origins are the centres of first voxels, in voxels of the volume: that of a coarser level of the
    same image lies half the difference of the voxels further. Many writers state 0 for all levels.
    Both are measured in the direction in which the axis is stored.
    """
    apart, shifted = mask_origin - volume_origin, (ratio - 1) / 2
    if min(abs(apart), abs(apart - shifted)) <= ALIGNED:
        return 0
    return round(apart if mask_origin == 0 else apart - shifted)


def _fitted(length: int, whole: int, coarser: int, finer: int, start: int) -> MaskAxis | None:
    """Return the axis of a mask of this length; None if it does not cover the volume's axis."""
    if start == 0 and finer > 1:
        fits = whole in _lengths(length, finer)
    elif start == 0:
        fits = length in _lengths(whole, coarser)
    else:
        fits = start < 0 and (whole - start) * finer <= (length + 1) * coarser - 1
    axis = MaskAxis(coarser=coarser, finer=finer, start=start, length=length)
    return axis if fits else None


def _lengths(whole: int, factor: int) -> tuple[int, int]:
    """Return the lengths of an axis that is coarser by a factor: rounded down and up."""
    return max(1, whole // factor), math.ceil(whole / factor)


def _described(source: VolumeSource) -> str:
    size = " × ".join(f"{v:g}" for v in source.voxel_size)
    unit = next((unit for unit in reversed(source.unit) if unit), None)
    return f"{shape_text(source.shape_zyx)} voxels" + (f" of {size} {unit}" if unit else "")
