"""Centroid, covariance and elongation of objects from their exact moments, without cancellation."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .exact import Limbs, as_float, exact, minus, plus, times
from .rows import MOMENTS, ObjectRows

Floats: TypeAlias = NDArray[np.float64]


def centroids(rows: ObjectRows) -> Floats:
    """Return the mean z, y, x (objects, 3) of the voxels' centres, in voxels of the volume."""
    near = _near(rows)
    return near + _offsets(rows, near)


def covariances(rows: ObjectRows) -> Floats:
    """Return the covariance (objects, 3, 3) of the voxels' centres z, y, x, in voxels.

    The moments are first moved to the voxel nearest to the centroid, in integers. What is left to
    subtract in floats is below 1, so nothing cancels, wherever in the volume the object lies.
    """
    near = _near(rows)
    offset = _offsets(rows, near)
    voxels = rows.voxels.astype(np.float64)
    covariance = np.empty((len(rows), 3, 3))
    for a in range(3):
        for b in range(a + 1):
            about = as_float(_about(rows, near, a, b)) / voxels - offset[:, a] * offset[:, b]
            covariance[:, a, b] = covariance[:, b, a] = about
    return covariance


def elongations(covariance: Floats, spacing: Floats) -> Floats:
    """Return the ratio of the longest to the shortest axis of the ellipsoid with equal moments.

    ``sqrt(largest / smallest)`` of the eigenvalues of the covariance (objects, axes, axes) in
    physical units, plus ``spacing**2 / 12`` per axis, which is a voxel's own second moment. So a
    cube of any number of voxels has 1, a line of n voxels has n, and no eigenvalue is 0.
    spacing: (axes,), above 0.
    """
    own = spacing**2 / 12
    physical = covariance * np.outer(spacing, spacing) + np.diag(own)
    eigenvalues = np.linalg.eigvalsh(physical)
    # The smallest is at least a voxel's own; rounding may put it below in a long, thin object.
    return np.sqrt(eigenvalues[:, -1] / np.maximum(eigenvalues[:, 0], own.min()))


def _near(rows: ObjectRows) -> Floats:
    """Return the voxel nearest to each centroid (objects, 3), or one beside it."""
    means = as_float(rows.moments[:, :3]) / rows.voxels[:, None]
    return np.rint(means)


def _offsets(rows: ObjectRows, near: Floats) -> Floats:
    """Return the centroids relative to ``near``."""
    voxels = exact(rows.voxels)
    moved = [minus(rows.moments[:, a], times(voxels, near[:, a])) for a in range(3)]
    return np.stack([as_float(sums) for sums in moved], axis=1) / rows.voxels[:, None]


def _about(rows: ObjectRows, near: Floats, a: int, b: int) -> Limbs:
    """Return the sum of (p_a - near_a) (p_b - near_b) over the voxels p, exactly.

    It is sum p_a p_b - near_a sum p_b - near_b sum p_a + n near_a near_b.
    """
    product = rows.moments[:, MOMENTS.index("zyx"[min(a, b)] + "zyx"[max(a, b)])]
    crossed = plus(times(rows.moments[:, b], near[:, a]), times(rows.moments[:, a], near[:, b]))
    corner = times(times(exact(rows.voxels), near[:, a]), near[:, b])
    return plus(minus(product, crossed), corner)
