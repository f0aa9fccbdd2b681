"""Whether an image that a person names can lie below an output: by shape, or by stated places."""

from __future__ import annotations

from collections.abc import Sequence

from ..base.errors import VolumeError
from ..base.geometry import Box
from ..base.text import shape_text
from ..volume.image_levels import levels_of
from ..volume.micrometres import voxel_size_um
from ..volume.placement import has_other_voxels, sizes_text, stated_start
from ..volume.volume import VolumeSource


def fit_note(
    raw: VolumeSource, own: Sequence[VolumeSource], *, is_part: bool = False
) -> str | None:
    """Return a note where only their metadata says that an image and an output lie together.

    own: the levels of the output. is_part: it is known to be a part of an image. An image fits that
    has a level of the shape of one of them, or the voxels around them. Raises VolumeError for an
    image that has nothing in common with the output.
    """
    levels = [level for _, level in levels_of(raw)] or [raw]
    if {level.shape_zyx for level in levels} & {one.shape_zyx for one in own}:
        return None
    output = own[0]
    if any(_contains(level, output, is_part=is_part) for level in levels):
        return None
    shapes = f"{shape_text(raw.shape_zyx)} voxels", f"the output {shape_text(output.shape_zyx)}"
    if not _overlap(raw, output):
        raise VolumeError(
            f"RAW {raw.location} is {shapes[0]}, {shapes[1]}: expected the image that it was made "
            "from, or one that shows the same place by its metadata (voxel size, unit, translation)"
        )
    of_raw, of_output = (sizes_text(voxel_size_um(one)) for one in (raw, output))
    return (
        f"RAW {raw.location} is {shapes[0]} of {of_raw} µm, {shapes[1]} of {of_output} µm: each is "
        "shown where it lies by its metadata; check that they belong together"
    )


def _contains(image: VolumeSource, part: VolumeSource, *, is_part: bool) -> bool:
    """Return whether an image has the voxels of a part of it that states its place."""
    start = stated_start(part, image)
    if start is None or has_other_voxels(part, image):
        return False
    box = Box.of_shape(part.shape_zyx).shifted(start)
    return (is_part or any(start)) and Box.of_shape(image.shape_zyx).contains(box)


def _overlap(one: VolumeSource, other: VolumeSource) -> bool:
    """Return whether two images have a place in common, by lengths that both state."""
    axes = [axis for axis in range(3) if "zyx"[axis] in one.axes and "zyx"[axis] in other.axes]
    ends = [_ends(source) for source in (one, other)]
    for axis in axes:
        first, second = (end[axis] for end in ends)
        if first is None or second is None:
            return False
        if first[0] >= second[1] or second[0] >= first[1]:
            return False
    return True


def _ends(source: VolumeSource) -> list[tuple[float, float] | None]:
    """Return where an image begins and ends along z, y, x in µm; None where that is unknown."""
    ends: list[tuple[float, float] | None] = []
    for axis, um in enumerate(voxel_size_um(source)):
        if um is None:
            ends.append(None)
            continue
        first = source.translation[axis] * um / source.voxel_size[axis]
        last = first + (source.shape_zyx[axis] - 1) * um * source.direction[axis]
        ends.append((min(first, last) - um / 2, max(first, last) + um / 2))
    return ends
