"""Sizes of objects as text: µm³ (µm² of flat objects) where the size of a voxel is known.

Sizes that are all below 0.01 are stated in nm³ or nm², which are readable then.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from ...base.text import counted
from .table_spec import TableSpec

SMALL: Final = 0.01
_NM_PER_UM: Final = 1000.0


@dataclass(frozen=True, slots=True)
class SizeUnit:
    """The unit of sizes, and its number in a voxel."""

    name: str
    per_voxel: float
    is_flat: bool

    @classmethod
    def of(cls, spec: TableSpec) -> SizeUnit:
        """Return the unit in which a table states sizes."""
        spacing = spec.spacing_um
        if spacing is None:
            return cls(element_name(spec) + "s", 1.0, spec.is_flat)
        name = "µm²" if spec.is_flat else "µm³"
        return cls(name, math.prod(spacing.tolist()), spec.is_flat)

    def near(self, voxels: float) -> SizeUnit:
        """Return the unit in which a size, the largest of those shown, has a readable number.

        >>> SizeUnit("µm³", 0.000001, False).near(3).name
        'nm³'
        """
        if not self.is_physical or voxels * self.per_voxel >= SMALL:
            return self
        factor = _NM_PER_UM ** (2 if self.is_flat else 3)
        return SizeUnit(self.name.replace("µ", "n"), self.per_voxel * factor, self.is_flat)

    @property
    def is_physical(self) -> bool:
        """Whether sizes are not counts of voxels or pixels."""
        return self.name not in ("voxels", "pixels")

    def text(self, voxels: float) -> str:
        """Return a size.

        >>> SizeUnit("µm³", 0.002, False).text(1234.5), SizeUnit("voxels", 1.0, False).text(12345)
        ('2.47 µm³', '12,345 voxels')
        >>> SizeUnit("nm³", 1000.0, False).text(3), SizeUnit("pixels", 1.0, True).text(1)
        ('3,000 nm³', '1 pixel')
        """
        size = voxels * self.per_voxel
        if not self.is_physical:
            return counted(round(size), self.name[:-1])
        digits = max(0, 2 - math.floor(math.log10(size))) if 0 < size < 1000 else 0
        return f"{size:,.{digits}f} {self.name}"

    def diameter(self, voxels: float) -> str:
        """Return the diameter of the ball, or disc, of a size.

        >>> SizeUnit("µm³", 1.0, False).diameter(100), SizeUnit("µm³", 1e-6, False).diameter(100)
        ('5.76 µm', '57.6 nm')
        >>> SizeUnit("nm³", 1000.0, False).diameter(6)
        '22.5 nm'
        """
        size = voxels * self.per_voxel
        diameter = 2 * math.sqrt(size / math.pi) if self.is_flat else math.cbrt(6 * size / math.pi)
        if not self.is_physical:
            return f"{diameter:.3g} {self.name}"
        if self.name.startswith("n"):
            return f"{diameter:.3g} nm"
        is_small = diameter < 10 * SMALL
        return f"{diameter * _NM_PER_UM:.3g} nm" if is_small else f"{diameter:.3g} µm"


def element_name(spec: TableSpec) -> str:
    """Return what a table of objects counts: pixels of flat ones, else voxels."""
    return "pixel" if spec.is_flat else "voxel"


def extent_name(spec: TableSpec) -> str:
    """Return what objects cover a part of: the area of flat ones, else the volume."""
    return "area" if spec.is_flat else "volume"


def image_name(spec: TableSpec) -> str:
    """Return what has the edge that objects touch: the image of flat ones, else the volume."""
    return "image" if spec.is_flat else "volume"
