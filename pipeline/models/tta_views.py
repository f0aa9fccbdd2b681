"""The views of test-time augmentation: how tiles are turned, and which scores of each count.

A score of a class is one of its voxel, whatever the orientation. An affinity belongs to a voxel
and its neighbour in one direction. In a turned tile this direction is another one, and the network
may have a channel for it or not. It has none for the affinity to the neighbour *behind* a voxel::

    the tile         v-1 <- v      the channel -1 of v: the affinity of v and v-1
    mirrored         v -> v-1      v-1 lies behind v: the channel -1 of v-1 has this affinity

So each channel is averaged over those views in which its direction is one of the network's: with
offsets of -1, over half of them. The others have the affinity too, but as a score of another voxel,
which may lie beyond the tile.
"""

from __future__ import annotations

import itertools

from ..base.choices import Tta
from ..base.network_outputs import NetworkOutputs, Offset
from ..base.tile_request import Orientation, View


def views_of(outputs: NetworkOutputs, tta: Tta, *, deep: bool) -> tuple[View, ...]:
    """Return the views that give a score, the unchanged tile first.

    deep: whether tiles have a z that can be mirrored.
    """
    full = tta == "full"
    mirrored_z = (False, True) if full and deep else (False,)
    mirrored_x = (False, True) if full else (False,)
    turns = range(1 if tta == "none" else 4)
    orientations = itertools.starmap(Orientation, itertools.product(mirrored_z, mirrored_x, turns))
    if outputs.kind != "affinities":
        return tuple(map(View, orientations))
    views = (View(one, _sources(outputs, one)) for one in orientations)
    return tuple(view for view in views if any(source is not None for source in view.sources or ()))


def _sources(outputs: NetworkOutputs, orientation: Orientation) -> tuple[int | None, ...]:
    """Return, per channel, the one of the same affinity in a turned tile; None if it has none."""
    numbers = {offset: number for number, offset in enumerate(outputs.in_zyx().offsets)}
    return tuple(numbers.get(turned_offset(offset, orientation)) for offset in numbers)


def turned_offset(offset: Offset, orientation: Orientation) -> Offset:
    """Return the steps (z, y, x) of an offset in a turned tile.

    >>> turned_offset((0, -1, 0), Orientation(turns=1))
    (0, 0, -1)
    """
    z, y, x = offset
    z, x = (-z if orientation.mirrored_z else z), (-x if orientation.mirrored_x else x)
    for _ in range(orientation.turns):
        y, x = -x, y
    return z, y, x
