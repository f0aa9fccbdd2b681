"""Sizes of objects as text: µm³ (µm² of flat objects) where the size of a voxel is known."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .table_spec import TableSpec


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
            return cls("voxels", 1.0, spec.is_flat)
        name = "µm²" if spec.is_flat else "µm³"
        return cls(name, math.prod(spacing.tolist()), spec.is_flat)

    def text(self, voxels: float) -> str:
        """Return a size.

        >>> SizeUnit("µm³", 0.002, False).text(1234.5), SizeUnit("voxels", 1.0, True).text(12345)
        ('2.47 µm³', '12,345 voxels')
        """
        size = voxels * self.per_voxel
        digits = max(0, 2 - math.floor(math.log10(size))) if 0 < size < 1000 else 0
        return f"{size:,.{0 if self.name == 'voxels' else digits}f} {self.name}"

    def diameter(self, voxels: float) -> str:
        """Return the diameter of the ball, or disc, of a size.

        >>> SizeUnit("µm³", 1.0, False).diameter(100)
        '5.76 µm'
        """
        size = voxels * self.per_voxel
        diameter = 2 * math.sqrt(size / math.pi) if self.is_flat else math.cbrt(6 * size / math.pi)
        return f"{diameter:.3g} {'voxels' if self.name == 'voxels' else 'µm'}"
