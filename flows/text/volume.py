"""A volume as text: its channels and its voxel size."""

from __future__ import annotations

from pipeline.volume.volume import VolumeSource

UNITS = {
    "meter": "m", "centimeter": "cm", "millimeter": "mm", "micrometer": "µm", "um": "µm",
    "nanometer": "nm", "angstrom": "Å",
}  # fmt: skip
"""Symbols of the units of length that OME-Zarr names."""


def channels_text(source: VolumeSource) -> str:
    """Return which channels are read, in the order in which the network gets them."""
    if source.channels is None:
        return f"all, {source.channel_count}"
    return ", ".join(map(str, source.channels))


def voxel_size_text(source: VolumeSource) -> str:
    """Return the voxel size with its unit."""
    size = " × ".join(f"{v:g}" for v in source.voxel_size[3 - len(source.spatial_axes) :])
    unit = next((u for u in reversed(source.unit) if u), None)
    return f"{size} {unit_text(unit)}" if unit else f"{size}, no unit stated"


def unit_text(unit: str) -> str:
    """Return the symbol of a unit of length; unknown units unchanged.

    >>> unit_text("micrometer"), unit_text("um"), unit_text("parsec")
    ('µm', 'µm', 'parsec')
    """
    return UNITS.get(unit, unit)
