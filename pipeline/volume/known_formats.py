"""The image formats that overtile reads, in the order in which a location is tried."""

from __future__ import annotations

from typing import Final

from ..base.errors import VolumeError
from ..base.location import Location
from ..base.store_errors import is_unreachable
from ..base.stores import read_node
from .formats.image import ImageFormat
from .formats.n5 import N5Format
from .formats.ome_zarr.zarr_image import ZarrFormat
from .formats.precomputed import PrecomputedFormat
from .formats.slices import SlicesFormat
from .formats.tiff import TiffFormat

_TIFF, _ZARR = TiffFormat(), ZarrFormat()
FORMATS: Final[tuple[ImageFormat, ...]] = (
    _TIFF, SlicesFormat(), N5Format(), PrecomputedFormat(), _ZARR,
)  # fmt: skip


def format_of(location: Location) -> ImageFormat:
    """Return the first format that recognises the location; Zarr comes last and takes all.

    Remote Zarr is looked for first: it is the most frequent, and costs one request. A server that
    does not answer is asked no further questions.
    """
    if not location.is_local and not _TIFF.recognises(location) and _is_zarr_or_silent(location):
        return _ZARR
    return next(one for one in FORMATS if one.recognises(location))


def _is_zarr_or_silent(location: Location) -> bool:
    try:
        return read_node(location) is not None
    except VolumeError as error:
        return is_unreachable(error.__cause__)


def format_named(name: str) -> ImageFormat:
    """Return a format by its name."""
    return next(one for one in FORMATS if one.name == name)
