"""Turns the errors of stores into one line: the location, the problem, the remedy.

Errors are recognised by their types and codes. Classes of botocore and aiohttp are compared by
name, so that neither needs to be imported.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from typing import Final

from .errors import OutputError, OvertileError, StorageFullError
from .location import Location
from .redaction import cleaned
from .redaction import redacted as redacted

ANSWER_WITHIN_S: Final = 30.0
"""A store that does not answer for this long counts as unreachable."""

FULL: Final = (errno.ENOSPC, errno.EDQUOT)
"""What the system answers where the disk, its inodes or a quota are used up."""
FREE: Final = "free some, then start the same command again"

_NO_CREDENTIALS: Final = frozenset(
    ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound")
)
_TIMEOUT: Final = frozenset(("TimeoutError", "ConnectTimeoutError", "ReadTimeoutError"))
_UNREACHABLE: Final = frozenset(("ConnectionError", "ClientConnectorError"))
_GENERAL: Final = frozenset((OSError, RuntimeError, ValueError))
"""Kinds whose name says nothing beside their text."""


@contextlib.contextmanager
def explained(kind: type[OvertileError], location: Location, *, part: str = "") -> Iterator[None]:
    """Turn any error of a store into a ``kind`` whose message is one line without credentials.

    part: which part of the location was read, as the message states it.

    Its cause, the error, and the causes of that lose theirs too: tracebacks print them. A full disk
    is a StorageFullError.
    """
    try:
        yield
    except OvertileError:
        raise
    except Exception as error:
        cause = cleaned(error, hide=lambda text: redacted(location.hidden_in(text)))
        raised = StorageFullError if is_full(error) else kind
        where = f"{location}, {part}" if part else location
        raise raised(f"{where}: {_reason(error, location)}") from cause


def is_full(error: BaseException) -> bool:
    """Return whether nothing can be written because the disk, its inodes or a quota are used up."""
    return isinstance(error, OSError) and error.errno in FULL


def not_written(what: object, error: OSError, *, remedy: str) -> OutputError:
    """Return the error for a file or folder. remedy: of any other reason than a full disk."""
    reason = f"{what} cannot be written ({error.strerror or error})"
    if is_full(error):
        return StorageFullError(f"{reason}: no space left; {FREE}")
    return OutputError(f"{reason}: {remedy}")


def is_missing_bucket(error: BaseException) -> bool:
    """Return whether S3 answered that the bucket does not exist; s3fs keeps its answer as cause."""
    return "NoSuchBucket" in _codes(error)


def is_denied(error: BaseException) -> bool:
    """Return whether a store denies access to a key, which may then be absent.

    S3 answers so for an absent key where the bucket may not be listed. Rejected credentials and
    archived objects are other codes.
    """
    codes = set(_codes(error)) - {"None"}
    if codes:
        return bool(codes & {"AccessDenied", "403", "Forbidden"})
    name = "status" if hasattr(error, "status") else "code"  # aiohttp, gcsfs
    return isinstance(error, PermissionError) or getattr(error, name, None) == 403


def is_unreachable(error: BaseException | None) -> bool:
    """Return whether a server did not answer, as opposed to any answer, even a refusal."""
    return bool({cls.__name__ for cls in type(error).__mro__} & (_TIMEOUT | _UNREACHABLE))


def _codes(error: BaseException | None) -> Iterator[str]:
    """Yield S3's error codes of an error and its causes."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            yield str(response.get("Error", {}).get("Code"))
        error = error.__cause__


def _reason(error: Exception, location: Location) -> str:
    """Return the problem and the remedy as one line."""
    text = one_line(location.hidden_in(str(error)))
    checked = "AWS_ENDPOINT_URL" if location.scheme.startswith("s3") else "the address"
    names = {cls.__name__ for cls in type(error).__mro__}
    if is_missing_bucket(error):
        return "no such bucket; check its name and AWS_ENDPOINT_URL"
    if names & _NO_CREDENTIALS:
        return (
            "no S3 credentials; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or FSSPEC_S3_ANON=1 for a public bucket"
        )
    if isinstance(error, PermissionError) or getattr(error, "status", None) in (401, 403):
        return f"access is denied ({text}); check permissions and credentials"
    if names & _TIMEOUT:
        return f"no answer within {ANSWER_WITHIN_S:g} s; check {checked} and the network"
    if is_full(error):
        of = "on the device" if getattr(error, "errno", None) == errno.ENOSPC else "in your quota"
        return f"no space left {of}; {FREE}: finished work is kept"
    if isinstance(error, OSError) and error.errno == errno.ELOOP:
        return "symbolic links lead in a circle; pass the file or folder itself"
    if "UnknownCodecError" in names:
        return (
            f"its codec is not installed ({text}); install it, or write the array with another one"
        )
    if names & _UNREACHABLE:
        return f"cannot be reached ({text}); check {checked} and the network"
    if isinstance(error, ImportError) or not _is_known(location.scheme):
        return f"this kind of URI needs a package that is not installed ({text})"
    if text and type(error) in _GENERAL:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _is_known(scheme: str) -> bool:
    """Return whether fsspec has a file system for URIs of this scheme."""
    from fsspec import available_protocols

    return scheme in available_protocols()


def one_line(text: str, *, limit: int = 300) -> str:
    """Return ``text`` on one line without credentials, cut at ``limit`` characters.

    >>> one_line("first\\n   second")
    'first second'
    """
    line = redacted(" ".join(text.split()))
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
