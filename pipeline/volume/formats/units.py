"""Names of units of length, as OME-Zarr spells them."""

from __future__ import annotations

from typing import Final

_UNITS: Final = {
    "nm": "nanometer", "nanometer": "nanometer", "nanometers": "nanometer",
    "nanometre": "nanometer", "um": "micrometer", "µm": "micrometer", "μm": "micrometer",
    "micron": "micrometer", "microns": "micrometer", "micrometer": "micrometer",
    "micrometers": "micrometer", "micrometre": "micrometer", "\\u00b5m": "micrometer",
    "mm": "millimeter", "millimeter": "millimeter", "millimeters": "millimeter",
    "cm": "centimeter", "centimeter": "centimeter", "m": "meter", "meter": "meter",
    "å": "angstrom", "angstrom": "angstrom",
}  # fmt: skip


def unit_named(text: object) -> str | None:
    """Return OME-Zarr's name of a unit, None if it is not known.

    >>> unit_named("µm"), unit_named("pixel")
    ('micrometer', None)
    """
    return _UNITS.get(text.strip().lower()) if isinstance(text, str) else None
