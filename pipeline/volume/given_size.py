"""The voxel size that a person states, in place of the one that an image states or lacks.

It is that of the image's finest level. A coarser level has larger voxels by the same factors as in
the file, so that a size stays right when another level is chosen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from ..base.errors import PlanError
from ..base.voxel_sizes import size_problem, sizes_text
from .formats.image import ZYX
from .micrometres import voxel_size_um
from .volume import VolumeSource, find_volume

SAME: Final = 1e-5
"""Relative difference of sizes that count as the same: files round them."""


def checked_sizes(sizes_um: Sequence[float] | None) -> tuple[float, ...] | None:
    """Return what ``--voxel-size`` states as floats. Raises PlanError for what is not a size."""
    if sizes_um is None:
        return None
    if problem := size_problem(sizes_um):
        raise PlanError(f"--voxel-size {sizes_text(sizes_um)}: {problem}")
    return tuple(map(float, sizes_um))


def given_sizes(job: Mapping[str, Any]) -> tuple[float, ...] | None:
    """Return the voxel size that a person stated to the run of a job; None for any other value."""
    stated = job.get("voxel_size_um")
    if not isinstance(stated, list) or not all(isinstance(size, int | float) for size in stated):
        return None
    return None if size_problem(stated) else tuple(map(float, stated))


def with_voxel_size(source: VolumeSource, sizes_um: Sequence[float] | None) -> VolumeSource:
    """Return a volume whose finest level has voxels of this size (z, y, x; without z also y, x).

    The volume lies as many of its voxels from the origin as before. None, and the size that the
    file states itself: unchanged. Raises PlanError for a size per other axes than the volume's.
    """
    if sizes_um is None:
        return source
    source, axes = as_stored(source), source.spatial_axes
    sizes_um = _along(sizes_um, axes)
    if len(sizes_um) != len(axes):
        raise PlanError(
            f"--voxel-size {sizes_text(sizes_um)}: expected {len(axes)} sizes, along "
            f"{', '.join(axes)}"
        )
    first = 3 - len(axes)
    wanted = [a * b for a, b in zip(sizes_um, _factors(source)[first:], strict=True)]
    if _is_same(wanted, voxel_size_um(source)[first:]):
        return source
    sizes = (*source.voxel_size[:first], *wanted)
    units = (*source.unit[:first], *("micrometer",) * len(axes))
    places = (
        place * new / old
        for place, new, old in zip(source.translation, sizes, source.voxel_size, strict=True)
    )
    z, y, x = places
    return replace(
        source, voxel_size=(sizes[0], sizes[1], sizes[2]), unit=(units[0], units[1], units[2]),
        translation=(z, y, x), given_size_um=tuple(sizes_um), in_file=source,
    )  # fmt: skip


def with_size_of_level(source: VolumeSource, sizes_um: Sequence[float]) -> VolumeSource:
    """Return a volume whose voxels have this size at the level that it has.

    Raises PlanError for a size per other axes than the volume's.
    """
    factors = _factors(as_stored(source))[3 - len(source.spatial_axes) :]
    sizes_um = _along(sizes_um, source.spatial_axes)
    if len(sizes_um) != len(factors):
        return with_voxel_size(source, sizes_um)  # raises
    return with_voxel_size(source, [a / b for a, b in zip(sizes_um, factors, strict=True)])


def _along(sizes_um: Sequence[float], axes: str) -> Sequence[float]:
    """Return sizes without that of z, where a volume has no z."""
    return sizes_um[1:] if len(sizes_um) == 3 and axes == "yx" else sizes_um


def as_stored(source: VolumeSource) -> VolumeSource:
    """Return a volume with the voxel size that its file states."""
    return source.in_file or source


def check_voxels_of_file(source: VolumeSource) -> None:
    """Raise PlanError for labels that go into an image, with voxels of another size than its."""
    if source.given_size_um is not None:
        raise PlanError(
            f"--voxel-size {sizes_text(source.given_size_um)}: labels inside {source.store} have "
            "the voxel size that it states; choose another output"
        )


def _is_same(wanted: Sequence[float], stated: Sequence[float | None]) -> bool:
    return all(
        own is not None and math.isclose(own, size, rel_tol=SAME)
        for own, size in zip(stated, wanted, strict=True)
    )


def _factors(source: VolumeSource) -> ZYX:
    """Return how much larger the voxels are than those of the finest level, along z, y, x."""
    if source.image is None or len(source.level_names) < 2:
        return 1.0, 1.0, 1.0
    finest = find_volume(
        source.image, level=source.level_names[0], channel=source.channels, time=source.time,
        axes=source.axes, holds="anything",
    )  # fmt: skip
    z, y, x = (
        _factor(size / least, most, count)
        for size, least, most, count in zip(
            source.voxel_size, finest.voxel_size, finest.shape_zyx, source.shape_zyx, strict=True
        )
    )
    return z, y, x


def _factor(stated: float, most: int, count: int) -> float:
    """Return the ratio of two levels along an axis of ``most`` and of ``count`` voxels.

    stated: by the levels' voxel sizes, which count if they fit the numbers of voxels: some files
    state none.

    >>> _factor(2.0, 1001, 501), _factor(1.0, 1001, 501), _factor(1.0, 1000, 300)
    (2.0, 2.0, 3.3333333333333335)
    """
    ratio = most / count
    for factor in (stated, float(round(ratio))):
        if factor and count in (max(1, math.floor(most / factor)), math.ceil(most / factor)):
            return factor
    return ratio
