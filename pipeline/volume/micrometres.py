"""Voxel sizes in micrometres, from the units of length that OME-Zarr and other formats name."""

from __future__ import annotations

from typing import Final, TypeAlias

from .volume import VolumeSource

UM_PER_UNIT: Final = {
    "meter": 1e6, "decimeter": 1e5, "centimeter": 1e4, "millimeter": 1e3, "micrometer": 1.0,
    "nanometer": 1e-3, "angstrom": 1e-4, "picometer": 1e-6, "inch": 25400.0,
    "m": 1e6, "cm": 1e4, "mm": 1e3, "um": 1.0, "µm": 1.0, "μm": 1.0, "micron": 1.0, "nm": 1e-3,
}  # fmt: skip

SizesUm: TypeAlias = tuple[float | None, float | None, float | None]


def voxel_size_um(source: VolumeSource) -> SizesUm:
    """Return the voxel size in µm (z, y, x); None where the volume states no unit of length."""
    z, y, x = (
        size * UM_PER_UNIT[unit.lower()] if unit and unit.lower() in UM_PER_UNIT else None
        for size, unit in zip(source.voxel_size, source.unit, strict=True)
    )
    return z, y, x
