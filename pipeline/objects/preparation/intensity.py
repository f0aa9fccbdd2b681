"""Where the image whose grey values are measured lies under the scores."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ...base.errors import VolumeError
from ...base.geometry import Box, Shape
from ...base.location import Location
from ...base.text import shape_text
from ...volume.companion import find_companion
from ...volume.micrometres import SizesUm, voxel_size_um
from ...volume.volume import VolumeSource
from ..definition.request import ObjectsRequest
from ..tasks.tasks import Intensity

SAME_SIZE: Final = 0.05
"""Largest relative difference of voxel sizes that count as the same."""
ALIGNED: Final = 0.25
"""Largest distance, in voxels, of a stated place from a whole voxel."""


def find_intensity(request: ObjectsRequest, scores: VolumeSource) -> Intensity | None:
    """Return the image whose grey values are measured, and where the scores begin in it.

    An image of another shape is placed by the translations and voxel sizes that both state. Raises
    VolumeError if it does not have the voxels of the scores.
    """
    image, start = request.intensity, request.intensity_start
    if image is None:
        return None
    if not isinstance(image, VolumeSource):
        image = find_companion(
            Location.parse(image), time=request.time, axes=request.axes, holds="grey values"
        )
        _check_sizes(image, scores)
        if image.shape_zyx != scores.shape_zyx:
            start = _stated_start(image, scores)
    box = Box.of_shape(scores.shape_zyx).shifted(start)
    if not Box.of_shape(image.shape_zyx).contains(box):
        raise _other_voxels(image, scores)
    return Intensity(source=image, start=start)


def intensity_notes(intensity: Intensity | None, scores: VolumeSource) -> Iterator[str]:
    """Yield where grey values are measured, if the image is larger than the scores."""
    if intensity and intensity.source.shape_zyx != scores.shape_zyx:
        z, y, x = intensity.start
        yield (
            f"grey values are those of {intensity.source.location} from voxel z {z}, y {y}, x {x}, "
            "where the scores begin"
        )


def _check_sizes(image: VolumeSource, scores: VolumeSource) -> None:
    """Raise VolumeError where both state a voxel size, and not the same."""
    of_image, of_scores = voxel_size_um(image), voxel_size_um(scores)
    if any(
        a and b and abs(a / b - 1) > SAME_SIZE for a, b in zip(of_image, of_scores, strict=True)
    ):
        raise VolumeError(
            f"{image.location} has voxels of {_text(of_image)} µm, the scores of "
            f"{_text(of_scores)} µm: expected an image of the same voxels"
        )


def _stated_start(image: VolumeSource, scores: VolumeSource) -> Shape:
    """Return the voxel of the image at which the scores begin, by what both state."""
    if None in voxel_size_um(image)[1:] or None in voxel_size_um(scores)[1:]:
        raise _other_voxels(image, scores)
    start = []
    for axis in range(3):
        if image.direction[axis] != scores.direction[axis]:
            raise _other_voxels(image, scores)
        first, origin = (one.translation[axis] / one.step[axis] for one in (scores, image))
        start.append(round(first - origin))
        if abs(first - origin - start[-1]) > ALIGNED:
            raise _other_voxels(image, scores)
    return tuple(start)


def _other_voxels(image: VolumeSource, scores: VolumeSource) -> VolumeError:
    return VolumeError(
        f"{image.location} is {shape_text(image.shape_zyx)} voxels, the scores are "
        f"{shape_text(scores.shape_zyx)}: expected an image of the same voxels, or a larger one "
        "that states where it lies"
    )


def _text(sizes: SizesUm) -> str:
    return "×".join("?" if size is None else f"{size:.3g}" for size in sizes)
