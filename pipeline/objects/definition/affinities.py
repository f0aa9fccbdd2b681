"""Affinities: scores of the edges between voxels, as an image of them states which they are.

Channel k is the affinity of each voxel v with v + offsets[k]. The graph of nearest neighbours needs
the channels whose offset is one voxel back along an axis::

    offsets     channel   edges of the graph
    [-1, 0, 0]     0      v ── v - (1, 0, 0)
    [0, -1, 0]     1      v ── v - (0, 1, 0)
    [0, 0, -1]     2      v ── v - (0, 0, 1)
    [-3, 0, 0]     3      none: not read
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...base.errors import ConfigError, VolumeError
from ...base.geometry import Shape
from ...base.network_outputs import ATTRIBUTE, NetworkOutputs
from ...base.text import shortened


def stated_offsets(attributes: Mapping[str, Any], *, where: str) -> tuple[Shape, ...] | None:
    """Return the offset of each channel, in voxels of z, y, x; None: they are not affinities.

    attributes: of the image's group. where: for messages. Raises VolumeError for what is malformed.
    """
    try:
        outputs = NetworkOutputs.from_json(attributes.get(ATTRIBUTE, {}))
    except ConfigError as error:
        raise VolumeError(
            f"{where} states outputs that are not valid ({error}); correct its attribute "
            f"{ATTRIBUTE}, or choose a class with --class"
        ) from error
    return outputs.in_zyx().offsets if outputs.kind == "affinities" else None


def nearest_channels(
    offsets: Sequence[Shape], *, shape: Shape, per_slice: bool, where: str
) -> dict[int, int]:
    """Return, by axis (0 is z), the channel of the edges to the voxel before; z, y, x in order.

    shape: of the volume, z, y, x. Along z there are none in a volume of one slice, and where every
    slice is a separate image. Raises VolumeError where a channel is missing.
    """
    axes = (0, 1, 2) if shape[0] > 1 and not per_slice else (1, 2)
    found = {}
    for axis in axes:
        wanted = tuple(-int(a == axis) for a in range(3))
        if wanted not in offsets:
            listed = shortened("; ".join(map(_text, offsets)), most=80)
            remedy = "pass --per-slice" if axis == 0 else "train with offsets that include it"
            raise VolumeError(
                f"{where} has no affinities of the offset {_text(wanted)} (only {listed}): "
                f"expected those of the nearest voxel along every axis; {remedy}"
            )
        found[axis] = list(offsets).index(wanted)
    return found


def _text(offset: Sequence[int]) -> str:
    return ",".join(map(str, offset))
