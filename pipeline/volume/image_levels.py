"""The other resolution levels of a volume's image."""

from __future__ import annotations

from collections.abc import Iterator

from ..base.errors import VolumeError
from .given_size import with_voxel_size
from .volume import VolumeSource, find_volume


def levels_of(source: VolumeSource) -> Iterator[tuple[int, VolumeSource]]:
    """Yield number and volume of each readable level, the finest first; reads metadata only.

    Channels and time point are those of ``source``, and the voxel size that a person states for it
    holds for all levels. An image without levels yields nothing.
    """
    if source.image is None:
        return
    for number, name in enumerate(source.level_names):
        try:
            found = find_volume(
                source.image, level=name, channel=source.channels, time=source.time,
                axes=source.axes, holds="anything",
            )  # fmt: skip
            sized = with_voxel_size(found, source.given_size_um)
        except VolumeError:  # a damaged level must not prevent the use of the others
            continue
        yield number, sized
