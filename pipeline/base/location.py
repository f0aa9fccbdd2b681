"""A path or URI as one frozen value: normalised once, and printed without its secrets."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .errors import OvertileError, VolumeError
from .redaction import HIDDEN, PLACEHOLDER, redacted_uri, remember
from .text import brief

_SCHEME: Final = re.compile(r"^([a-zA-Z][a-zA-Z0-9+.-]*)://")
_NEUROGLANCER: Final = re.compile(r"^(precomputed|n5)://(?=[a-zA-Z0-9]+://)")
"""What Neuroglancer writes before the URI of a folder to name its format."""
_CUT_PASSWORD: Final = re.compile(r"[^:/]+://[^/@\[]*:(?!\d+/)[^@/]*/[^@]*@")
"""User, colon and a slash before the "@"; digits would be a port."""
NAME_BYTES: Final = 255
"""The longest name of a file or folder."""
PATH_BYTES: Final = 4095
"""The longest path that the system takes."""


@dataclass(frozen=True, slots=True, repr=False)
class Location:
    """A folder or file, local or remote. Hashable and picklable; made by :meth:`parse`.

    ``uri`` may hold a password: read it only to open a store. ``str``, ``repr`` and ``format``
    replace user info and queries by ``***``.

    >>> print(Location.parse("S3://me:secret@bucket/in.zarr/") / "labels/cells")
    s3://***@bucket/in.zarr/labels/cells
    """

    uri: str

    def __post_init__(self) -> None:
        if not self.is_local and ("@" in self.uri or "?" in self.uri):
            remember(self.uri)

    def __reduce__(self) -> tuple[type[Location], tuple[str]]:
        return Location, (self.uri,)  # a worker remembers the secrets too

    @classmethod
    def parse(
        cls,
        text: str | os.PathLike[str] | Location,
        *,
        kind: type[OvertileError] = VolumeError,
    ) -> Location:
        """Return the location that ``text`` names: absolute where local, no trailing slash.

        ``~`` is expanded, ``file://`` and Neuroglancer's ``precomputed://`` are dropped, symbolic
        links stay. Blanks around a text are dropped unless a local file has this very name. Raises
        ``kind`` for an empty text, for a name that no file can have, and for a URI with a query: a
        Zarr store is many files, so a signed link to one of them opens nothing.
        """
        if isinstance(text, Location):
            return text
        uri = _NEUROGLANCER.sub("", _without_blanks(os.fspath(text)))
        check_text(uri, kind=kind)
        rest = _SCHEME.sub("", uri)
        if "://" in rest:  # collapsing its slashes would show the inner URI's password
            raise kind(
                f"the {_scheme(uri)} path holds a URI inside another: expected a single path or URI"
            )
        check_password(uri, kind=kind)
        if _is_local(uri):
            path = str(Path(os.path.abspath(os.path.expanduser(rest))))
            check_lengths(path, kind=kind)
            return cls(path)
        scheme = _scheme(uri)
        if "::" in rest.partition("/")[2]:  # not in the host, which may be an IPv6 address
            raise kind(
                f"{redacted_uri(uri)} has '::', by which fsspec joins file systems: rename it"
            )
        if scheme in ("http", "https") and ("?" in uri or "#" in uri):
            raise kind(
                f"{redacted_uri(uri)} has a query, but a Zarr store is many files: "
                "pass the address of its folder"
            )
        return cls(f"{scheme}://{re.sub('/{2,}', '/', rest).rstrip('/')}")

    @property
    def scheme(self) -> str:
        """The URI's scheme in lower case, ``"file"`` for a local path."""
        return _scheme(self.uri)

    @property
    def is_local(self) -> bool:
        """Whether this is a path of this machine's file system."""
        return _is_local(self.uri)

    @property
    def path(self) -> Path:
        """The path of a local location."""
        assert self.is_local, self
        return Path(self.uri)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.uri.rpartition("/")[2]

    @property
    def parent(self) -> Location | None:
        """The folder above, or None at the root of a disk or bucket.

        >>> Location.parse("s3://bucket/in.zarr").parent, Location.parse("s3://bucket").parent
        (Location('s3://bucket'), None)
        """
        above, _, name = self.uri.rpartition("/")
        return Location(above) if name and not above.endswith("/") and above else None

    @property
    def identity(self) -> str:
        """Identity in stored metadata: a local path without links, or a URI without secrets."""
        return os.path.realpath(self.uri) if self.is_local else str(self)

    def hidden_in(self, text: str) -> str:
        """Return a text, such as a foreign error's, without this location's user and password.

        >>> Location("s3://me:secret@bucket").hidden_in("no bucket me:secret@bucket")
        'no bucket ***@bucket'
        """
        authority = _SCHEME.sub("", self.uri).partition("/")[0] if not self.is_local else ""
        user_info = authority.rpartition("@")[0]
        for secret in (user_info, user_info.partition(":")[2]):
            text = text.replace(secret, HIDDEN) if secret else text
        return text

    def __truediv__(self, path: str) -> Location:
        """Return the location of ``path`` inside this one; of an empty path, this one."""
        return Location(f"{self.uri.removesuffix('/')}/{path}") if path else self

    def __str__(self) -> str:
        return redacted_uri(self.uri)

    def __repr__(self) -> str:
        return f"Location({str(self)!r})"

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)


def check_text(path: str, *, kind: type[OvertileError]) -> None:
    """Raise ``kind`` for a path or URI that is empty, or that no file system takes as a name."""
    if not path:
        raise kind("the path is empty: expected a path or URI like in.zarr or s3://bucket/in.zarr")
    shown = "" if "://" in path else f" {brief(path)}"  # a URI may hold a password
    if "\0" in path:
        raise kind(f"the path{shown} has a NUL character, which ends a name: remove it")
    if not _is_utf8(path):
        raise kind(f"the path{shown} is not UTF-8: rename the file, or the folder")


def _is_utf8(path: str) -> bool:
    """Return whether a path's bytes are UTF-8, also where the locale knows ASCII only."""
    try:
        path.encode()
    except UnicodeEncodeError:  # bytes that this locale cannot decode
        try:
            os.fsencode(path).decode()
        except UnicodeError:
            return False
    return True


def check_lengths(path: str, *, kind: type[OvertileError]) -> None:
    """Raise ``kind`` for a local path, or a part of it, that is longer than file systems take."""
    if len(path) * 4 <= NAME_BYTES:
        return
    parts = {len(os.fsencode(part)): part for part in path.split(os.sep)}
    if (longest := max(parts)) > NAME_BYTES:
        raise kind(
            f"the name {brief(parts[longest])} has {longest:,} bytes: expected at most "
            f"{NAME_BYTES}, the limit of file systems"
        )
    if (whole := len(os.fsencode(path))) > PATH_BYTES:
        raise kind(
            f"the path {brief(path)} has {whole:,} bytes: expected at most {PATH_BYTES:,}, the "
            "limit of the system"
        )


def _without_blanks(text: str) -> str:
    """Return a text without blanks around it, unless a file has this very name."""
    short = text.strip()
    return text if short != text and short and "\0" not in text and os.path.lexists(text) else short


def check_password(uri: str, *, kind: type[OvertileError]) -> None:
    """Raise ``kind`` for a password with a slash, which readers would take for the host's end.

    Where the password ends is then not known, so no message could hide it. Also raise it for the
    placeholder in a command that overtile has printed.
    """
    if f"://{PLACEHOLDER}@" in uri or f"?{PLACEHOLDER}" in uri:
        raise kind(
            f"{uri}: {PLACEHOLDER} stands for what was hidden: write the user and password there, "
            "or the query"
        )
    if _CUT_PASSWORD.match(uri) and not _is_local(uri):
        raise kind(
            f"the password in the {_scheme(uri)} URI has a '/': expected %2F in its place; or pass "
            "credentials in the environment"
        )


def _scheme(uri: str) -> str:
    match = _SCHEME.match(uri)
    return match[1].lower() if match else "file"


def _is_local(uri: str) -> bool:
    return _scheme(uri) in ("file", "local")
