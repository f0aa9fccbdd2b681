"""Writes a picture for the user, and never over a file that overtile did not make."""

from __future__ import annotations

import os
from fnmatch import fnmatch
from pathlib import Path
from uuid import uuid4

from pipeline.base.errors import OutputError
from pipeline.base.location import Location
from pipeline.output.guard import is_inside
from pipeline.report.pictures import Rgb, png_bytes, software_of


def check_picture_place(out: str, *, source: str, maker: str) -> Path:
    """Return the path of a picture that may be written. Raises OutputError.

    source: the input; a PNG inside it would become one of its slices. maker: the program whose
    earlier pictures may be replaced.
    """
    if "://" in out or not out.strip():
        raise OutputError(f"picture {out!r}: expected the path of a PNG file, like preview.png")
    path = Location.parse(out, kind=OutputError).path
    if path.suffix.lower() != ".png":
        raise OutputError(f"picture {out}: expected a name that ends in .png")
    if not path.parent.is_dir():
        raise OutputError(f"picture {out}: the folder {path.parent} does not exist; create it")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise OutputError(f"picture {out}: {path.parent} cannot be written by you; choose another")
    _check_outside(path, Location.parse(source))
    try:
        if os.path.lexists(path) and (path.is_dir() or software_of(path) != maker):
            raise OutputError(f"{path} exists and was not made by {maker}: choose another path")
    except OSError as error:
        raise OutputError(f"{path} cannot be read ({error.strerror or error})") from error
    return path


def write_picture(path: Path, picture: Rgb, *, maker: str) -> None:
    """Write a picture, completely or not at all. Raises OutputError."""
    aside = path.with_name(f".{uuid4().hex}.part")
    try:
        aside.write_bytes(png_bytes(picture, software=maker))
        os.replace(aside, path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise OutputError(f"{path} cannot be written ({error.strerror or error})") from error


def _check_outside(path: Path, source: Location) -> None:
    if not source.is_local:
        return
    lies_inside = source.path.is_dir() and is_inside(Location.parse(path), source)
    if lies_inside or fnmatch(str(path), source.uri):  # a pattern of slices
        raise OutputError(f"picture {path} lies inside the input: choose another path")
