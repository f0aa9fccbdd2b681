"""Where the image whose grey values are measured lies under the scores."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ...base.errors import VolumeError
from ...base.geometry import Box, Shape
from ...base.location import Location
from ...base.text import shape_text
from ...volume.companion import find_companion
from ...volume.given_size import with_size_of_level
from ...volume.micrometres import voxel_size_um
from ...volume.placement import has_other_voxels, sizes_text, stated_start
from ...volume.volume import VolumeSource
from ..definition.request import ObjectsRequest
from ..tasks.tasks import Intensity

_PART: Final = "pass the level or the part that the scores are of"


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
        if request.time is not None and "t" not in scores.axes + image.axes:
            raise VolumeError(
                f"--time {request.time}: neither {scores.location} nor {image.location} has a time "
                "axis; leave --time out, or pass --axes"
            )
        if request.voxel_size_um is not None and image.shape_zyx != scores.shape_zyx:
            raise VolumeError(
                f"{image.location} is {shape_text(image.shape_zyx)} voxels, the scores are "
                f"{shape_text(scores.shape_zyx)}: with --voxel-size, expected an image of the same "
                f"shape, as nothing else then states where it lies; {_PART}"
            )
        image = _sized(image, scores, request)
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


def _sized(image: VolumeSource, scores: VolumeSource, request: ObjectsRequest) -> VolumeSource:
    """Return the image with the voxel size that the request states: that of the scores."""
    if request.voxel_size_um is None or image.spatial_axes != scores.spatial_axes:
        return image
    sizes = voxel_size_um(scores)[3 - len(scores.spatial_axes) :]
    return with_size_of_level(image, [size for size in sizes if size is not None])


def _check_sizes(image: VolumeSource, scores: VolumeSource) -> None:
    """Raise VolumeError where both state a voxel size, and not the same."""
    if has_other_voxels(image, scores):
        is_alike = image.shape_zyx == scores.shape_zyx
        remedy = "if one of the two is wrong, pass --voxel-size" if is_alike else _PART
        raise VolumeError(
            f"{image.location} has voxels of {sizes_text(voxel_size_um(image))} µm, the scores of "
            f"{sizes_text(voxel_size_um(scores))} µm: expected an image of the same voxels; "
            f"{remedy}"
        )


def _stated_start(image: VolumeSource, scores: VolumeSource) -> Shape:
    """Return the voxel of the image at which the scores begin, by what both state."""
    start = stated_start(scores, image)
    if start is None:
        raise _other_voxels(image, scores)
    return start


def _other_voxels(image: VolumeSource, scores: VolumeSource) -> VolumeError:
    return VolumeError(
        f"{image.location} is {shape_text(image.shape_zyx)} voxels, the scores are "
        f"{shape_text(scores.shape_zyx)}: expected an image of the same voxels, or a larger one "
        "that states where it lies"
    )
