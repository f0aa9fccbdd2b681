"""A volume's voxel size as text, and where it is from: the file, a person, or nowhere."""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

from ..base.voxel_sizes import sizes_text
from .given_size import as_stored
from .micrometres import voxel_size_um
from .volume import VolumeSource

SizeOrigin: TypeAlias = Literal["file", "option", "unknown"]
_SYMBOLS: Final = {
    "meter": "m", "centimeter": "cm", "millimeter": "mm", "micrometer": "µm", "um": "µm",
    "nanometer": "nm", "angstrom": "Å",
}  # fmt: skip
"""Of the units of length that OME-Zarr names."""


def size_origin(source: VolumeSource) -> SizeOrigin:
    """Return where the voxel size is from; unknown where no axis has one in a unit of length."""
    if source.given_size_um is not None:
        return "option"
    return "file" if any(voxel_size_um(source)) else "unknown"


def size_line(source: VolumeSource) -> str:
    """Return which voxel size a run uses, and where it is from, as a line of its log."""
    return f"voxel size: {size_with_origin(source)}"


def size_with_origin(source: VolumeSource) -> str:
    """Return the voxel size in use, and where it is from."""
    if (origin := size_origin(source)) == "unknown":
        return (
            f"unknown (the file states {voxel_size_text(source)}); --voxel-size "
            f"{','.join(source.spatial_axes.upper())} states it in µm"
        )
    level = source.path.rpartition("/")[2]
    at = f" at level {level}" if len(source.level_names) > 1 else ""
    size = f"{voxel_size_text(source)} ({', '.join(source.spatial_axes)}){at}"
    if origin == "option":
        return f"{size}, by --voxel-size; the file states {voxel_size_text(as_stored(source))}"
    lacking = [axis for axis, size in _known(source) if size is None]
    missing = f"; it states none of {', '.join(lacking)}: add --voxel-size" if lacking else ""
    return f"{size}, as the file states{missing}"


def voxel_size_text(source: VolumeSource) -> str:
    """Return the voxel size with its unit; in µm, with ? for what is not known, if units differ."""
    first = 3 - len(source.spatial_axes)
    units, known = set(source.unit[first:]), [size for _, size in _known(source)]
    if len(units) > 1 and any(known):
        return " × ".join("?" if size is None else f"{size:g}" for size in known) + " µm"
    size = " × ".join(f"{one:g}" for one in source.voxel_size[first:])
    unit = next((one for one in units if one), None)
    return f"{size} {unit_text(unit)}" if unit else f"{size} without a unit"


def unit_text(unit: str) -> str:
    """Return the symbol of a unit of length; unknown units unchanged.

    >>> unit_text("micrometer"), unit_text("um"), unit_text("parsec")
    ('µm', 'µm', 'parsec')
    """
    return _SYMBOLS.get(unit, unit)


def size_in_words(name: str, value: Any) -> str | None:
    """Return how a message shows the voxel size in a job; None for its other parts.

    >>> size_in_words("voxel_size_um", [0.5, 0.2, 0.2]), size_in_words("voxel_size_um", None)
    ('0.5,0.2,0.2', 'as in the file')
    """
    if name != "voxel_size_um":
        return None
    return sizes_text(value) if value else "as in the file"


def _known(source: VolumeSource) -> list[tuple[str, float | None]]:
    """Return each spatial axis with its size in µm, where it is known."""
    sizes = dict(zip("zyx", voxel_size_um(source), strict=True))
    return [(axis, sizes[axis]) for axis in source.spatial_axes]
