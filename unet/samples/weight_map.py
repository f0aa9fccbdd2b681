"""The weight of each voxel in the loss: classes balanced, gaps between close objects raised.

``w(x) = w_c(x) + w0 * exp(-(d1(x) + d2(x))**2 / (2 * sigma**2))`` (Ronneberger et al. 2015, eq. 2),
d1 and d2 the distances to the nearest and the second nearest object.

Both are exact, computed axis by axis. If two objects are nearer to a voxel than a third one along a
line, that part of the third one decides neither d1 nor d2. So it is enough to keep, per voxel, the
two nearest objects along x; these give the two nearest in the plane, and so on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import LabelError

from .rules.rule import IGNORED

Floats: TypeAlias = NDArray[np.float32]

REACH = 6.0
"""Multiple of sigma at which a border weight ends: there it is exp(-18), 1.5e-8 of w0."""


def class_weights(counts: Sequence[int]) -> tuple[float, ...]:
    """Return a weight per class from the number of its voxels in the training labels.

    Inverse frequency, ``w_c = N / (C * n_c)`` with N voxels in all and C classes that occur: every
    class has the same total weight, and the mean over all voxels is 1. A class without voxels
    gets 1 (it weighs nothing).
    """
    present = sum(count > 0 for count in counts)
    return tuple(sum(counts) / (present * count) if count else 1.0 for count in counts)


def border_weights(
    objects: NDArray[Any],
    *,
    w0: float = 10.0,
    sigma: float = 5.0,
    spacing: Sequence[float] | None = None,
) -> Floats:
    """Weight of each background voxel by its distance to the two nearest objects.

    ``w0 * exp(-(d1 + d2)**2 / (2 * sigma**2))``, distances between voxel centres (Ronneberger et
    al. 2015, eq. 2); exact up to d1 + d2 = 6 sigma, 0 beyond (there it is below 1.6e-8 * w0).

    objects: (y, x) or (z, y, x) integer ids, 0 is background. sigma: in voxels of the finest axis;
    spacing: size of a voxel per axis, in any unit (None: a cube). Returns float32 of the same
    shape; 0 inside objects, and where fewer than two objects are near.
    Raises LabelError for negative ids.
    """
    if objects.size and objects.min() < 0:
        raise LabelError(f"objects have the negative id {objects.min()}: expected ids from 0 on")
    finest = min(spacing) if spacing is not None else 1.0
    steps = [size / finest for size in spacing or (1.0,) * objects.ndim]
    reach = REACH * sigma
    near = _along_last_axis(_narrow(objects), step=steps[-1])
    for axis in reversed(range(objects.ndim - 1)):
        # d1 is at most half of d1 + d2; but the next axis needs both as far as they go.
        near = _along(
            axis, near, step=steps[axis], reach=reach, first_reach=reach / (1 if axis else 2)
        )
    total = np.sqrt(near.first) + np.sqrt(near.second)
    weights = np.exp(np.square(total) * np.float32(-0.5 / sigma**2)) * np.float32(w0)
    weights[(total > reach) | (objects != 0)] = 0
    return weights


def weight_map(
    classes: NDArray[Any],
    objects: NDArray[Any] | None,
    *,
    class_weights: Sequence[float],
    w0: float = 10.0,
    sigma: float = 5.0,
    spacing: Sequence[float] | None = None,
    dims: int,
) -> Floats:
    """Return ``w_c + border weight`` per voxel, float32; 0 where the class is IGNORED.

    classes: (y, x) or (z, y, x); objects: ids of the same shape, or None for no border weights.
    dims: 2 treats each slice of (z, y, x) separately. Others as in ``border_weights``; spacing has
    ``dims`` entries. Raises LabelError for a class without a weight.
    """
    known = classes != IGNORED
    if classes.size and classes.max() >= len(class_weights):
        raise LabelError(
            f"labels have class {classes.max()}, the network has {len(class_weights)} classes: "
            "set more classes, or a rule"
        )
    weights = np.asarray(class_weights, dtype=np.float32)[np.where(known, classes, 0)]
    if objects is not None and w0 > 0:
        stack = objects.reshape(-1, *objects.shape[-dims:])
        borders = [border_weights(one, w0=w0, sigma=sigma, spacing=spacing) for one in stack]
        weights += np.stack(borders).reshape(objects.shape)
    weights[~known] = 0
    return weights


@dataclass(frozen=True, slots=True)
class _Nearest:
    """Squared distances to the nearest object and to the nearest other one; infinite: none."""

    first: Floats
    first_id: NDArray[np.int32]
    second: Floats


def _narrow(objects: NDArray[Any]) -> NDArray[np.int32]:
    """Return the ids as int32, renumbered if they are too large (0, the least one, stays 0)."""
    if objects.size and objects.max() >= 2**31:
        _, numbers = np.unique(objects, return_inverse=True)
        return numbers.reshape(objects.shape).astype(np.int32)
    return objects.astype(np.int32)


def _along_last_axis(ids: NDArray[np.int32], *, step: float) -> _Nearest:
    """Return, per voxel, the two nearest objects on its line."""
    left, left_id, left_other = _to_the_left(ids, step=step)
    right, right_id, right_other = (
        array[..., ::-1] for array in _to_the_left(ids[..., ::-1], step=step)
    )
    nearer = left <= right
    second = np.where(nearer, np.minimum(left_other, right), np.minimum(right_other, left))
    same = left_id == right_id
    second[same] = np.minimum(left_other, right_other)[same]
    return _Nearest(
        first=np.square(np.minimum(left, right)),
        first_id=np.where(nearer, left_id, right_id),
        second=np.square(second),
    )


def _to_the_left(
    ids: NDArray[np.int32], *, step: float
) -> tuple[Floats, NDArray[np.int32], Floats]:
    """Return distance and id of the nearest object at or left of each voxel; distance to another.

    ::

        ids     . 2 2 . 3 . .
        nearest     2 2 3 3 3
        other           2 2 2       the last voxel of another object than the nearest
    """
    place = np.arange(ids.shape[-1], dtype=np.int32)
    nearest = np.maximum.accumulate(np.where(ids != 0, place, np.int32(-1)), axis=-1)
    nearest_id = np.take_along_axis(ids, np.maximum(nearest, 0), axis=-1)
    before, before_id = nearest[..., :-1], nearest_id[..., :-1]
    other = np.full_like(ids, -1)
    changes = (ids[..., 1:] != 0) & (ids[..., 1:] != before_id)
    other[..., 1:] = np.where(changes, before, np.int32(-1))
    np.maximum.accumulate(other, axis=-1, out=other)
    return _distance(place, nearest, step=step), nearest_id, _distance(place, other, step=step)


def _distance(place: NDArray[np.int32], to: NDArray[np.int32], *, step: float) -> Floats:
    distance = (place - to).astype(np.float32) * np.float32(step)
    distance[to < 0] = np.inf
    return distance


def _along(axis: int, near: _Nearest, *, step: float, reach: float, first_reach: float) -> _Nearest:
    """Return the two nearest objects with one more axis, up to ``reach`` along it."""
    first = np.full_like(near.first, np.inf)
    first_id = np.zeros_like(near.first_id)
    for here, there, square in _shifts(first.shape, axis, step=step, reach=first_reach):
        distance = near.first[there] + square
        nearer = distance < first[here]
        np.copyto(first[here], distance, where=nearer)
        np.copyto(first_id[here], near.first_id[there], where=nearer)
    second = np.full_like(near.second, np.inf)
    for here, there, square in _shifts(first.shape, axis, step=step, reach=reach):
        is_other = near.first_id[there] != first_id[here]
        distance = np.where(is_other, near.first[there], near.second[there])
        distance += square
        np.minimum(second[here], distance, out=second[here])
    return _Nearest(first=first, first_id=first_id, second=second)


def _shifts(
    shape: tuple[int, ...], axis: int, *, step: float, reach: float
) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...], np.float32]]:
    """Yield all voxels, those a few steps further along ``axis``, and the squared distance."""
    size = shape[axis]
    furthest = min(int(reach / step), size - 1)
    for shift in range(-furthest, furthest + 1):
        low, high = max(0, -shift), min(size, size - shift)
        before = (slice(None),) * axis
        yield (
            (*before, slice(low, high)),
            (*before, slice(low + shift, high + shift)),
            np.float32((shift * step) ** 2),
        )
