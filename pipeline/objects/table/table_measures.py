"""What is computed of rows for the columns of a table, in voxels or in physical units."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .exact import as_float, as_int64
from .rows import FLOAT_UNIT_EXPONENT, ObjectRows
from .shape import Floats, centroids, covariances, elongations
from .table_spec import TableSpec


@dataclass(frozen=True)
class Measures:
    """Rows and a table's spec; each method returns one value per object."""

    rows: ObjectRows
    spec: TableSpec

    @cached_property
    def _centroids(self) -> Floats:
        return centroids(self.rows)

    def box_start(self, axis: int) -> NDArray[np.int64]:
        """Return the lowest coordinate, in the level."""
        return self.rows.first[:, axis]

    def box_stop(self, axis: int) -> NDArray[np.int64]:
        """Return the coordinate behind the highest, in the level."""
        return self.rows.last[:, axis] + 1

    def centroid(self, axis: int) -> Floats:
        """Return the mean of the voxels' indices, in the level."""
        return self._centroids[:, axis]

    def centroid_um(self, axis: int) -> Floats:
        """Return the mean position of the voxels' centres."""
        size = self.spec.voxel_size_um[axis]
        assert size is not None
        return self._centroids[:, axis] * size + self.spec.origin_um[axis]

    def size(self) -> Floats:
        """Return the volume, or the area of flat objects: physical where it is known."""
        return self.rows.voxels.astype(np.float64) * self._voxel_size()

    def equivalent_diameter(self) -> Floats:
        """Return the diameter of the ball, or of the disc, of equal size."""
        if self.spec.is_flat:
            return 2 * np.sqrt(self.size() / math.pi)
        return np.cbrt(6 * self.size() / math.pi)

    def elongation(self) -> Floats:
        """Return longest by shortest axis, in physical units where these are known."""
        axes, spacing = self.spec.axes, self.spec.spacing_um
        covariance = covariances(self.rows)[:, axes][:, :, axes]
        return elongations(covariance, np.ones(len(axes)) if spacing is None else spacing)

    def faces(self, *, at_edge: bool) -> NDArray[np.int64]:
        """Return the number of voxel faces inside the volume, or at its edge."""
        axes = list(self.spec.axes)
        return np.asarray(self._faces(at_edge)[:, axes].sum(axis=1))

    def surface_um(self, *, at_edge: bool) -> Floats:
        """Return the area of these faces in µm²; of flat objects, their length in µm."""
        spacing = self.spec.spacing_um
        assert spacing is not None
        surface = np.zeros(len(self.rows))
        for axis, size in zip(self.spec.axes, spacing.tolist(), strict=True):
            surface += self._faces(at_edge)[:, axis] * (self._voxel_size() / size)
        return surface

    def touches_edge(self) -> NDArray[np.bool_]:
        """Return whether a voxel lies at the volume's edge, along the axes of the objects."""
        return self.faces(at_edge=True) > 0

    def mean_score(self) -> Floats:
        """Return the mean score, 0 to 1."""
        assert self.spec.score_scale is not None
        return as_float(self.rows.score_sums) / self.rows.voxels / self.spec.score_scale

    def intensity_mean(self, channel: int) -> pa.Array:
        """Return the mean of the finite intensities."""
        voxels = np.maximum(self.rows.intensity_voxels[:, channel], 1)
        return self._present(self._intensity_sum(channel) / voxels, channel)

    def intensity_sum(self, channel: int) -> pa.Array:
        """Return the sum: a float of floats; of integers an int64, null where it does not fit."""
        if self._is_float():
            return pa.array(self._intensity_sum(channel))
        values, fits = as_int64(self.rows.intensity_sums[:, channel])
        return pa.array(values, mask=~fits)

    def intensity_min(self, channel: int) -> pa.Array:
        """Return the lowest finite intensity."""
        return self._present(self.rows.intensity_min[:, channel], channel)

    def intensity_max(self, channel: int) -> pa.Array:
        """Return the highest finite intensity."""
        return self._present(self.rows.intensity_max[:, channel], channel)

    def _faces(self, at_edge: bool) -> NDArray[np.int64]:
        return self.rows.outer_faces if at_edge else self.rows.inner_faces

    def _voxel_size(self) -> float:
        spacing = self.spec.spacing_um
        return 1.0 if spacing is None else math.prod(spacing.tolist())

    def _is_float(self) -> bool:
        return self.rows.intensity_min.dtype.kind == "f"

    def _intensity_sum(self, channel: int) -> Floats:
        sums = as_float(self.rows.intensity_sums[:, channel])
        return np.ldexp(sums, FLOAT_UNIT_EXPONENT) if self._is_float() else sums

    def _present(self, values: NDArray[Any], channel: int) -> pa.Array:
        """Return the values, null where no intensity of the object is finite."""
        return pa.array(values, mask=self.rows.intensity_voxels[:, channel] == 0)
