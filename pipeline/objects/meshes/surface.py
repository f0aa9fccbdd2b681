"""The surface of an object: closed, its triangles counterclockwise as seen from outside.

It is that of marching cubes (Lewiner et al. 2003, scikit-image) half-way between the centres of
voxels inside and outside. Voxels beyond the volume count as outside, so a cut object is closed too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import marching_cubes

from ...base.geometry import Shape


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Surface:
    """Vertices (n, 3) as x, y, z, and triangles (m, 3) of their numbers."""

    vertices: NDArray[np.float64]
    triangles: NDArray[np.uint32]

    def placed(self, *, scale: NDArray[Any], shift: NDArray[Any]) -> Surface:
        """Return the surface at ``scale * vertex + shift``, along x, y, z.

        A mirrored surface is turned inside out, so that it still looks outwards.
        """
        is_mirrored = np.prod(np.sign(scale)) < 0
        triangles = self.triangles[:, ::-1] if is_mirrored else self.triangles
        return Surface(vertices=self.vertices * scale + shift, triangles=triangles)

    def volume(self) -> float:
        """Return the enclosed volume: the sum of the tetrahedra to the origin."""
        a, b, c = (self.vertices[self.triangles[:, corner]] for corner in range(3))
        return float((a * np.cross(b, c)).sum() / 6)


def surface_of(mask_zyx: NDArray[np.bool_], *, start: Shape) -> Surface:
    """Return the surface of a mask with a voxel inside; the centre of a voxel is its index.

    start: index z, y, x of the first voxel of the mask.
    """
    padded = np.pad(mask_zyx, 1).astype(np.float32)
    corners, triangles, _, _ = marching_cubes(padded, 0.5, gradient_direction="descent")
    vertices = corners.astype(np.float64)[:, ::-1] + np.array(start[::-1]) - 1
    return Surface(vertices=vertices, triangles=triangles.astype(np.uint32))
