"""Image files, local or remote: listed, opened and recognised by their first bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, BinaryIO, Final, cast

from ...base.errors import VolumeError
from ...base.location import Location
from ...base.store_errors import explained
from ...base.stores import file_system

HEAD_BYTES: Final = 32
_PATTERN: Final = frozenset("*?[")


def open_file(location: Location) -> str | BinaryIO:
    """Return what tifffile and numpy open: a local path, or a seekable remote file."""
    if location.is_local:
        return str(location.path)
    with explained(VolumeError, location):
        return cast(BinaryIO, _file_system(location).open(location.uri, "rb"))


def read_bytes(location: Location) -> bytes:
    """Return a whole file. Raises VolumeError."""
    with explained(VolumeError, location):
        return cast(bytes, _file_system(location).cat_file(location.uri))


def read_head(location: Location, count: int = HEAD_BYTES) -> bytes:
    """Return the first bytes of a file. Raises VolumeError."""
    with explained(VolumeError, location):
        return cast(bytes, _file_system(location).cat_file(location.uri, 0, count))


def file_bytes(location: Location) -> int:
    """Return the size of a file. Raises VolumeError."""
    with explained(VolumeError, location):
        return int(_file_system(location).size(location.uri))


def names_in(folder: Location) -> list[str]:
    """Return the names of the files in a folder, unsorted. Raises VolumeError."""
    with explained(VolumeError, folder):
        entries = _file_system(folder).ls(folder.uri, detail=True)
    return [one["name"].rpartition("/")[2] for one in entries if one["type"] != "directory"]


def is_pattern(location: Location) -> bool:
    """Return whether a location is a pattern of file names, not a file that is so named."""
    if not _PATTERN & set(location.uri):
        return False
    return not (location.is_local and location.path.exists())


def matching(pattern: Location) -> list[Location]:
    """Return the files that match a pattern (``*``, ``?``, ``[…]``), unsorted."""
    with explained(VolumeError, pattern):
        system = _file_system(pattern)
        return [Location.parse(system.unstrip_protocol(path)) for path in system.glob(pattern.uri)]


def read_existing(folder: Location, names: Sequence[str]) -> dict[str, bytes]:
    """Return those of some files in a folder that can be read, requested at once; never raises."""
    try:
        system = _file_system(folder)
        asked = [name for name in names if _may_be_read(folder / name)]
        paths = {system._strip_protocol((folder / name).uri): name for name in asked}
        found = system.cat(list(paths), on_error="omit") if paths else {}
    except Exception:  # a missing package, a server that cannot be reached
        return {}
    content = found if isinstance(found, dict) else {next(iter(paths)): found}
    return {paths[path]: text for path, text in content.items()}


def _may_be_read(file: Location) -> bool:
    """Return whether a file is not a pipe or a device, whose end may never come."""
    return not file.is_local or file.path.is_file()


def _file_system(location: Location) -> Any:
    return file_system(location)[0]
