"""Opens TIFF files, and refuses those that are truncated or that no codec can decode."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Final

import tifffile

from ...base.errors import VolumeError
from ...base.location import Location
from ...base.store_errors import explained, one_line
from ...base.text import size_text

_CHECKED_PAGES: Final = 1000
_lock = threading.Lock()


class _Reports(logging.Handler):
    """Keeps what tifffile reports of a damaged file, which it reads on nevertheless."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line."""
        self.lines.append(one_line(record.getMessage(), limit=120))


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


def opened(file: str | BinaryIO, location: Location) -> tifffile.TiffFile:
    """Open a TIFF file and list its images. Raises VolumeError for damaged files."""
    with explained(VolumeError, location), _reports() as reports:
        try:
            tiff = tifffile.TiffFile(file)
        except tifffile.TiffFileError as error:
            raise VolumeError(f"{location} is not a TIFF file ({one_line(str(error))})") from error
        try:
            tiff.filehandle.set_lock(True)
            if tiff.series:
                len(tiff.pages)  # walks the chain of pages, which ends early in a truncated file
        except BaseException:
            tiff.close()
            raise
        damage = [line for line in reports if "offset" in line or "corrupted" in line]
        if damage:
            tiff.close()
            raise VolumeError(f"{location} is truncated or damaged ({damage[0]}): copy it again")
    return tiff


def check_readable(series: tifffile.TiffPageSeries, where: str) -> None:
    """Raise VolumeError if the pixels of a series cannot be decoded here."""
    keyframe = series.keyframe
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


def _check_end(end: int, file_bytes: int, where: str) -> None:
    if end > file_bytes:
        raise VolumeError(
            f"{where} is truncated: its pixels need {size_text(end)}, the file has "
            f"{size_text(file_bytes)}; copy it again"
        )
