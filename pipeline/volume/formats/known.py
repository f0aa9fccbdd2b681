"""The image formats that overtile reads, in the order in which a location is tried."""

from __future__ import annotations

from typing import Final

from ...base.location import Location
from .image import ImageFormat
from .n5 import N5Format
from .precomputed import PrecomputedFormat
from .slices import SlicesFormat
from .tiff import TiffFormat
from .zarr_image import ZarrFormat

FORMATS: Final[tuple[ImageFormat, ...]] = (
    TiffFormat(), SlicesFormat(), N5Format(), PrecomputedFormat(), ZarrFormat(),
)  # fmt: skip


def format_of(location: Location) -> ImageFormat:
    """Return the first format that recognises the location; Zarr comes last and takes all."""
    return next(one for one in FORMATS if one.recognises(location))


def format_named(name: str) -> ImageFormat:
    """Return a format by its name."""
    return next(one for one in FORMATS if one.name == name)
