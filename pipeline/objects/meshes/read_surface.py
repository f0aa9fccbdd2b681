"""The surface of one object, in physical units, from the labels of a level that is small enough."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...base.geometry import Box
from ...volume.micrometres import UM_PER_UNIT, voxel_size_um
from ...volume.volume import VolumeSource, find_volume, read_box
from .mesh_files import MeshFormat
from .surface import Surface, surface_of

MOST_VOXELS: Final = 2**25
"""Of the box of an object: a ball that fills it takes 0.4 GiB. Larger ones use a coarser level."""
_NM_PER_UM: Final = 1000.0


@dataclass(frozen=True)
class LabelLevels:
    """The levels of labels, the finest first."""

    sources: tuple[VolumeSource, ...]

    @classmethod
    def of(cls, labels: VolumeSource) -> LabelLevels:
        """Return all levels of labels, whose finest one is given."""
        if labels.image is None or not labels.level_names:
            return cls((labels,))
        coarser = (find_volume(labels.image, level=name) for name in labels.level_names[1:])
        return cls((labels, *coarser))

    @cached_property
    def factors(self) -> NDArray[np.float64]:
        """Voxels of the finest level in one of each level (n, 3), z, y, x."""
        sizes = np.array([source.voxel_size for source in self.sources])
        return sizes / sizes[0]

    def level_for(self, box: Box, most_voxels: int) -> int:
        """Return the finest level in which a box is small enough; else the coarsest."""
        for level in range(len(self.sources)):
            if math.prod(self.box(box, level).shape) <= most_voxels:
                return level
        return len(self.sources) - 1

    def box(self, box: Box, level: int) -> Box:
        """Return the box of a level that holds a box of the finest level."""
        factor = self.factors[level]
        start, stop = np.array(box.start) / factor, np.array(box.stop) / factor
        whole = Box.of_shape(self.sources[level].shape_zyx)
        return Box(
            tuple(np.floor(start + 1e-6).astype(int).tolist()),
            tuple(np.ceil(stop - 1e-6).astype(int).tolist()),
        ).clipped_to(whole)

    def surface(self, identifier: int, box: Box, level: int) -> Surface | None:
        """Return the surface of an object in voxels of a level; None if it has none there."""
        chosen = self.box(box, level)
        mask = read_box(self.sources[level], chosen)[0] == identifier
        return surface_of(mask, start=chosen.start) if mask.any() else None

    def placed(self, surface: Surface, level: int, kind: MeshFormat) -> Surface:
        """Return a surface where its format has it.

        Files: in the unit of :func:`unit_of`, where the image's metadata puts the centres of
        voxels. Neuroglancer: in nm from the corner of voxel 0, with the whole voxels by which
        ``overtile convert --to precomputed`` moves the labels.
        """
        finest, source = self.sources[0], self.sources[level]
        if kind != "precomputed":
            unit = _um_per_unit(source)
            return surface.placed(
                scale=_xyz(source.step) * unit, shift=_xyz(source.translation) * unit
            )
        um = voxel_size_um(finest)
        size = np.array([1.0 if one is None else one * _NM_PER_UM for one in um])
        if None in um:
            size = np.array(finest.voxel_size)
        offset = np.rint(np.array(finest.translation) / np.array(finest.voxel_size))
        factor = self.factors[level]
        return surface.placed(scale=_xyz(factor * size), shift=_xyz((factor * 0.5 + offset) * size))


def unit_of(labels: VolumeSource) -> str:
    """Return the unit of the coordinates of PLY and OBJ files."""
    return "µm" if _has_unit(labels) else "as the labels state voxel sizes"


def _has_unit(source: VolumeSource) -> bool:
    return None not in voxel_size_um(source)


def _um_per_unit(source: VolumeSource) -> NDArray[np.float64]:
    """Return µm per unit along x, y, z; 1 where the unit is not one of length."""
    if not _has_unit(source):
        return np.ones(3)
    return np.array([UM_PER_UNIT[str(unit).lower()] for unit in source.unit[::-1]])


def _xyz(values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array(values, np.float64)[::-1]
