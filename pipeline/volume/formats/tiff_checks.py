"""Opens TIFF files, and refuses those that are truncated or that no codec can decode."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import BinaryIO, Final

import tifffile

from ...base.errors import OvertileError, VolumeError
from ...base.location import Location
from ...base.store_errors import explained, one_line
from ...base.text import shape_text, size_text

_CHECKED_PAGES: Final = 1000
_PAGES_AT_FIRST: Final = 200
_DTYPE_KINDS: Final = "biuf"
_LOSSLESS: Final = frozenset((5, 8, 32773, 32946, 34925, 50000))
"""LZW, Deflate, PackBits, Deflate, LZMA, Zstandard."""
_MOST_RATIO: Final = 100_000
"""Zstandard, the best of these, stores 128 KiB of one value in 4 bytes, others far less."""
_lock = threading.Lock()
logging.getLogger("tifffile").addHandler(logging.NullHandler())  # else Python prints what it logs


class _Reports(logging.Handler):
    """Keeps what tifffile reports of a damaged file, which it reads on nevertheless."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line."""
        self.lines.append(one_line(record.getMessage(), limit=200))


@contextmanager
def _reports() -> Iterator[list[str]]:
    """Collect the warnings of tifffile instead of printing them; one file at a time."""
    log = logging.getLogger("tifffile")
    handler = _Reports()
    with _lock:
        spread, log.propagate = log.propagate, False
        log.addHandler(handler)
        try:
            yield handler.lines
        finally:
            log.removeHandler(handler)
            log.propagate = spread


@contextmanager
def damage_explained(location: Location) -> Iterator[None]:
    """Turn the errors of any kind with which tifffile meets wrong tags into a VolumeError."""
    try:
        yield
    except (OvertileError, OSError):  # `explained` states what a store answered
        raise
    except Exception as error:
        if not location.is_local:
            raise
        text = one_line(f"{type(error).__name__}: {error}", limit=200)
        raise VolumeError(f"{location}: the file is damaged ({text}); copy it again") from error


def opened(file: str | BinaryIO, location: Location) -> tifffile.TiffFile:
    """Open a TIFF file and list its images. Raises VolumeError for damaged files."""
    with explained(VolumeError, location), damage_explained(location), _reports() as reports:
        try:
            tiff = tifffile.TiffFile(file)
        except tifffile.TiffFileError as error:
            raise VolumeError(f"{location} is not a TIFF file ({one_line(str(error))})") from error
        try:
            tiff.filehandle.set_lock(True)
            _walk(tiff.pages, location)  # finds the end of a truncated file, too
            len(tiff.series)  # lists the images, which reports damage
        except BaseException:
            tiff.close()
            raise
        if missing := [line for line in reports if "OME series failed to read" in line]:
            tiff.close()
            raise VolumeError(
                f"{location} is incomplete ({missing[0]}): its OME-XML states planes that "
                "neither it nor the files beside it hold; copy all files of the image"
            )
        damage = [line for line in reports if "offset" in line or "corrupted" in line]
        if damage:
            tiff.close()
            raise VolumeError(f"{location} is truncated or damaged ({damage[0]}): copy it again")
    return tiff


def _walk(pages: tifffile.TiffPages, location: Location) -> None:
    """Follow the chain of pages to its end. Raises VolumeError for a chain that returns to itself.

    tifffile looks for that at the hundredth page only, and follows some chains without an end.
    """
    with suppress(IndexError):  # the chain has ended
        while True:
            pages._seek(2 * len(pages._offsets) + _PAGES_AT_FIRST)
            if len(set(pages._offsets)) < len(pages._offsets):
                raise VolumeError(
                    f"{location} is damaged (its chain of pages returns to an earlier page): "
                    "copy it again"
                )


def check_readable(series: tifffile.TiffPageSeries, where: str) -> None:
    """Raise VolumeError if the pixels of a series cannot be decoded here."""
    keyframe = series.keyframe
    if 0 in series.shape:
        raise VolumeError(f"{where} is empty: its shape is {shape_text(series.shape)}")
    if series.dtype is not None and series.dtype.kind not in _DTYPE_KINDS:
        raise VolumeError(
            f"{where} holds {series.dtype.name}, not grey values: expected integers or floats"
        )
    if series.dtype is None or keyframe.dtype is None:
        raise VolumeError(
            f"{where} holds samples of {keyframe.bitspersample} bits in a format that cannot be "
            "read: convert it first"
        )
    try:
        tifffile.TIFF.DECOMPRESSORS[keyframe.compression]
    except (KeyError, ImportError) as error:
        name = getattr(keyframe.compression, "name", keyframe.compression)
        raise VolumeError(
            f"{where} is compressed as {name}, and its codec is not installed: install imagecodecs "
            "with this codec, or convert the file"
        ) from error


def check_complete(series: tifffile.TiffPageSeries, file_bytes: int, where: str) -> None:
    """Raise VolumeError if pixels of a series lie beyond the end of its file.

    Of more than 1000 pages, a thousand spread over the file are checked, the last one included.
    """
    if series.dataoffset is not None:
        _check_end(series.dataoffset + series.nbytes, file_bytes, where)
        return
    count = len(series.pages)
    step = max(1, count // _CHECKED_PAGES)
    for number in {*range(0, count, step), count - 1}:
        page = series[number]
        if page is not None and page.parent is series.keyframe.parent and page.dataoffsets:
            ends = map(sum, zip(page.dataoffsets, page.databytecounts, strict=False))
            _check_end(max(ends), file_bytes, where)
            _check_pieces(series.keyframe, page.databytecounts, where)


def _check_pieces(keyframe: tifffile.TiffPage, byte_counts: Sequence[int], where: str) -> None:
    """Raise VolumeError for strips or tiles that are missing, or too short for their pixels."""
    pieces = math.prod(keyframe.chunked)
    if len(byte_counts) < pieces:
        raise VolumeError(
            f"{where} is damaged: it has {len(byte_counts):,} of {pieces:,} strips or tiles; copy "
            "it again"
        )
    shortest = min(filter(None, byte_counts), default=0)  # 0: a tile that the file leaves out
    bits = math.prod(keyframe.chunks) * keyframe.bitspersample
    if shortest and keyframe.compression in _LOSSLESS and bits > 8 * shortest * _MOST_RATIO:
        raise VolumeError(
            f"{where} is damaged: it states {size_text(bits // 8)} for a strip or tile of "
            f"{shortest} compressed bytes; copy it again"
        )


def _check_end(end: int, file_bytes: int, where: str) -> None:
    if end > file_bytes:
        raise VolumeError(
            f"{where} is truncated: its pixels need {size_text(end)}, the file has "
            f"{size_text(file_bytes)}; copy it again"
        )
