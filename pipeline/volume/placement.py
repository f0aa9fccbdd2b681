"""Where one image begins in another, by the places and voxel sizes that both state."""

from __future__ import annotations

from typing import Final

from ..base.geometry import Shape
from .micrometres import SizesUm, voxel_size_um
from .volume import VolumeSource

SAME_SIZE: Final = 0.05
"""Largest relative difference of voxel sizes that count as the same."""
ALIGNED: Final = 0.25
"""Largest distance, in voxels, of a stated place from a whole voxel."""


def has_other_voxels(one: VolumeSource, other: VolumeSource) -> bool:
    """Return whether both state voxel sizes, and not the same."""
    sizes = zip(voxel_size_um(one), voxel_size_um(other), strict=True)
    return any(a and b and abs(a / b - 1) > SAME_SIZE for a, b in sizes)


def sizes_text(sizes: SizesUm) -> str:
    """Return voxel sizes in µm as text.

    >>> sizes_text((None, 0.5, 0.5))
    '?×0.5×0.5'
    """
    return "×".join("?" if size is None else f"{size:.3g}" for size in sizes)


def stated_start(
    part: VolumeSource, whole: VolumeSource, *, aligned: float = ALIGNED
) -> Shape | None:
    """Return the voxel (z, y, x) of ``whole`` at which ``part`` begins; it may lie outside.

    None where they state no lengths in y and x that can be compared, where an axis is stored
    backwards in one of them only, and where the part begins more than ``aligned`` voxels off a
    whole voxel (0.5: never).
    """
    has_lengths = None not in (*voxel_size_um(part)[1:], *voxel_size_um(whole)[1:])
    is_alike = (part.unit, part.voxel_size) == (whole.unit, whole.voxel_size)
    if not (has_lengths or is_alike) or part.direction != whole.direction:
        return None
    start = []
    for axis in range(3):
        first, origin = (one.translation[axis] / one.step[axis] for one in (part, whole))
        start.append(round(first - origin))
        if abs(first - origin - start[-1]) > aligned:
            return None
    return tuple(start)
