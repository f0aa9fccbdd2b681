"""As what an image is written to TIFF: kind of file, dtype, voxel size; pure.

ImageJ's own kind of TIFF opens in Fiji by drag and drop, with its voxel size. It holds uint8,
uint16 and float32, up to 4 GiB. All else is an OME-TIFF, which Fiji opens through Bio-Formats.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import numpy as np

from ..base.errors import VolumeError
from ..base.geometry import Shape
from ..volume.micrometres import voxel_size_um
from ..volume.volume import VolumeSource

Kind: TypeAlias = Literal["ImageJ", "OME"]
Range: TypeAlias = tuple[int, int]

IMAGEJ_BYTES: Final = 2**32 - 2**26
"""Of pixels, so that all addresses in the file have 32 bits."""
EXACT_IN_FIJI: Final = 2**24
"""Fiji shows integers of 32 bits as float32, which holds those up to here exactly."""
_SMALL: Final = ("uint8", "uint16")
_SHORT_UNITS: Final = {
    "nanometer": "nm", "nm": "nm", "micrometer": "um", "um": "um", "µm": "um", "μm": "um",
    "micron": "um", "millimeter": "mm", "mm": "mm", "centimeter": "cm", "cm": "cm",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TiffLayout:
    """What is written. Pages lie in the order of z, and of each z in that of the channels."""

    kind: Kind
    dtype: str
    shape: Shape
    """z, c, y, x."""
    size: tuple[float, float, float] | None
    """Of a voxel in z, y, x, in ``unit``; None where it is not known in a unit of length."""
    has_z_size: bool
    unit: str
    """Short: nm, um, mm or cm."""
    channel_names: tuple[str, ...]
    shown: tuple[float, float] | None = None
    """Grey values that are black and white at first."""
    notes: tuple[str, ...] = ()

    @property
    def pixel_bytes(self) -> int:
        """Size of all pixels."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def arguments(self) -> dict[str, Any]:
        """Return what tifffile takes, beside the pixels."""
        given: dict[str, Any] = {
            "shape": self.shape, "dtype": self.dtype, "photometric": "minisblack",
        }  # fmt: skip
        if self.kind == "OME":
            return {**given, "ome": True, "bigtiff": self.pixel_bytes > IMAGEJ_BYTES,
                    "metadata": self._ome_metadata()}  # fmt: skip
        stated: dict[str, Any] = {"imagej": True, "metadata": self._imagej_metadata()}
        if self.size is not None:
            _, y, x = self.size
            stated["resolution"] = (1 / x, 1 / y)
        return {**given, **stated}

    def _imagej_metadata(self) -> dict[str, Any]:
        metadata: dict[str, Any] = {"axes": "ZCYX"}
        if self.size is not None:
            metadata["unit"] = self.unit
            if self.has_z_size:
                metadata["spacing"] = self.size[0]
        if self.shape[1] > 1:
            metadata["mode"] = "composite"
            metadata["Labels"] = [*self.channel_names] * self.shape[0]
        elif self.shown is not None:
            metadata["min"], metadata["max"] = self.shown
        return metadata

    def _ome_metadata(self) -> dict[str, Any]:
        metadata: dict[str, Any] = {"axes": "ZCYX"}
        if self.size is not None:
            unit = {"um": "µm"}.get(self.unit, self.unit)
            for axis, size in zip("ZYX", self.size, strict=True):
                if axis != "Z" or self.has_z_size:
                    metadata[f"PhysicalSize{axis}"] = size
                    metadata[f"PhysicalSize{axis}Unit"] = unit
        if self.channel_names:
            metadata["Channel"] = {"Name": [*self.channel_names]}
        return metadata


def needs_range(source: VolumeSource) -> bool:
    """Return whether the dtype depends on the values: that of wide integers."""
    dtype = np.dtype(source.dtype)
    return dtype.kind in "iu" and dtype.itemsize > 2


def plan_layout(
    source: VolumeSource, *, is_ome: bool, found: Range | None, shown: tuple[float, float] | None
) -> TiffLayout:
    """Return the layout of an image.

    is_ome: whether OME-TIFF is asked for. found: least and largest value, where
    :func:`needs_range`. Raises VolumeError for values that no TIFF viewer shows.
    """
    dtype = _dtype(source, found)
    shape = (source.shape_zyx[0], source.channel_count, *source.shape_zyx[1:])
    size, has_z, unit = _size(source)
    pixels = math.prod(shape) * np.dtype(dtype).itemsize
    fits = dtype in (*_SMALL, "float32") and pixels <= IMAGEJ_BYTES
    names = source.channel_names if len(source.channel_names) == source.channel_count else ()
    return TiffLayout(
        kind="ImageJ" if fits and not is_ome else "OME",
        dtype=dtype, shape=shape, size=size, has_z_size=has_z, unit=unit,
        channel_names=names or tuple(f"channel {n}" for n in range(source.channel_count)),
        shown=shown,
        notes=(*_notes(source, size), *_fiji_notes(source, dtype, found, is_large=not fits)),
    )  # fmt: skip


def _dtype(source: VolumeSource, found: Range | None) -> str:
    """Return the dtype that is written: the same values, in fewer bits where that is all."""
    stored = source.dtype
    if stored in ("bool", "float16"):
        return {"bool": "uint8", "float16": "float32"}[stored]
    if found is None:
        return stored
    low, high = found
    fitting = ("uint16", "int32") if low < 0 else ("uint16", "uint32")
    for name in fitting:
        limits = np.iinfo(name)
        if limits.min <= low and high <= limits.max:
            return name
    raise VolumeError(
        f"{source.location} holds values from {low:,} to {high:,}: TIFF viewers show integers of "
        "32 bits at most; number the objects anew, as overtile objects does"
    )


def _size(source: VolumeSource) -> tuple[tuple[float, float, float] | None, bool, str]:
    """Return voxel size, whether that of z is known, and its unit: the image's own if it can be."""
    units = [unit for axis, unit in zip("zyx", source.unit, strict=True) if axis in source.axes]
    short = {_SHORT_UNITS.get(unit.lower()) for unit in units if unit}
    in_um = voxel_size_um(source)
    if in_um[1] is None or in_um[2] is None:
        return None, False, ""
    has_z = in_um[0] is not None
    if len(short) == 1 and (unit := next(iter(short))) is not None:
        return source.voxel_size, has_z, unit
    z, y, x = (1.0 if size is None else size for size in in_um)
    return (z, y, x), has_z, "um"


def _notes(source: VolumeSource, size: Sequence[float] | None) -> Iterator[str]:
    """Yield what the file does not state of the image."""
    if size is None:
        yield "the image states no voxel size in a unit of length: the file has none"
    if any(source.translation):
        yield "TIFF states no origin: the place of the first voxel is not in the file"
    backward = [axis for axis, way in zip("zyx", source.direction, strict=True) if way < 0]
    if backward:
        yield f"{' and '.join(backward)} is stored backwards, which TIFF does not state"


def _fiji_notes(
    source: VolumeSource, dtype: str, found: Range | None, *, is_large: bool
) -> Iterator[str]:
    if dtype in ("uint32", "int32"):
        highest = max(map(abs, found or (0,)))
        text = f"values up to {highest:,} need 32 bits: written as OME-TIFF, for Bio-Formats"
        if highest > EXACT_IN_FIJI:
            text += f"; Fiji shows those above {EXACT_IN_FIJI:,} rounded"
        yield text
    elif is_large:
        yield (
            f"{dtype if dtype not in (*_SMALL, 'float32') else 'an image of this size'} does not "
            "fit ImageJ's own TIFF: written as OME-TIFF, for Bio-Formats"
        )
