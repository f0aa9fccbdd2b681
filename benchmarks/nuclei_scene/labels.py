"""The voxels of each nucleus, and the classes that a network learns from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .appearance import Appearance
from .bodies import Body
from .noise import Floats, smooth_noise

Ids: TypeAlias = NDArray[np.int32]


def drawn_labels(
    shape: Sequence[int], steps: NDArray[Any], bodies: Sequence[Body], appearance: Appearance,
    rng: np.random.Generator,
) -> tuple[Ids, Floats]:  # fmt: skip
    """Return ids and depth (1 at a centre, 0 at the outline) of each voxel.

    The id of a body is its place in ``bodies``, from 1. Each id is one piece, connected by faces.
    Of bodies that overlap, a voxel belongs to the one in which it is deeper.
    """
    ids, depth = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
    outline = smooth_noise(shape, 0.6 * appearance.radius / steps, rng) * np.float32(
        appearance.lobes
    )
    for number, body in enumerate(bodies, start=1):
        low = np.maximum(np.floor(body.centre - body.reach / steps), 0).astype(int)
        high = np.minimum(np.ceil(body.centre + body.reach / steps) + 1, shape).astype(int)
        if (high <= low).any():
            continue
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        axes = (np.arange(a, b) for a, b in zip(low, high, strict=True))
        positions = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
        distance = body.distances((positions - body.centre) * steps)
        inner = (1 - distance - outline[box]).astype(np.float32)
        nearer = inner > depth[box]
        ids[box][nearer], depth[box][nearer] = number, inner[nearer]
    _keep_largest_pieces(ids)
    depth[ids == 0] = 0
    return ids, depth


def _keep_largest_pieces(ids: Ids) -> None:
    """Set to 0, in place, all but the largest face-connected piece of each id."""
    for number, box in enumerate(ndimage.find_objects(ids), start=1):
        if box is None:
            continue
        pieces, count = ndimage.label(ids[box] == number)
        if count > 1:
            largest = 1 + np.bincount(pieces.ravel())[1:].argmax()
            ids[box][(pieces > 0) & (pieces != largest)] = 0


def with_gaps(ids: Ids) -> NDArray[np.uint8]:
    """Return 1 in nuclei and 0 elsewhere; also 0 where a face neighbour is of another nucleus."""
    inside = (ids > 0).astype(np.uint8)
    for axis in range(ids.ndim):
        ahead = [slice(None)] * ids.ndim
        behind = list(ahead)
        ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
        one, other = ids[tuple(ahead)], ids[tuple(behind)]
        touch = (one != other) & (one > 0) & (other > 0)
        inside[tuple(ahead)][touch] = 0
        inside[tuple(behind)][touch] = 0
    return inside
