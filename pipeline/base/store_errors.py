"""Turns the errors of stores into one line: the location, the problem, the remedy.

Errors are recognised by class name, so that botocore and aiohttp need not be imported.
"""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Iterator
from typing import Final

from .errors import OvertileError
from .location import Location

ANSWER_WITHIN_S: Final = 30.0
"""A store that does not answer for this long counts as unreachable."""

_USER_INFO = re.compile(r"(?<=://)[^/\s]*@")
_QUERY = re.compile(r"(://[^\s?]*)\?\S*")


def redacted(text: str) -> str:
    """Return a foreign error's text without the user info and queries of the URIs in it.

    >>> redacted("https://me:secret@host/in.zarr?X-Signature=ab")
    'https://***@host/in.zarr?***'
    """
    return _QUERY.sub(r"\1?***", _USER_INFO.sub("***@", text))


@contextlib.contextmanager
def explained(kind: type[OvertileError], location: Location) -> Iterator[None]:
    """Turn any error of a store into a ``kind`` whose message is one line without credentials."""
    try:
        yield
    except OvertileError:
        raise
    except Exception as error:
        raise kind(f"{location}: {_reason(error, location)}") from error


def _reason(error: Exception, location: Location) -> str:
    """Return the problem and the remedy as one line."""
    name, text = type(error).__name__, one_line(str(error))
    checked = "AWS_ENDPOINT_URL" if location.scheme.startswith("s3") else "the address"
    status = getattr(error, "status", None)
    if "bucket does not exist" in text:
        return "no such bucket; check its name and AWS_ENDPOINT_URL"
    if name in ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound"):
        return (
            "no S3 credentials; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or FSSPEC_S3_ANON=1 for a public bucket"
        )
    if isinstance(error, PermissionError) or status in (401, 403):
        return f"access is denied ({text}); check permissions and credentials"
    if isinstance(error, TimeoutError) or "Timeout" in name:
        return f"no answer within {ANSWER_WITHIN_S:g} s; check {checked} and the network"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "no space left on the device"
    if name in ("EndpointConnectionError", "ConnectionError") or "Connector" in name:
        return f"cannot be reached ({text}); check {checked} and the network"
    if isinstance(error, ImportError) or "Protocol not known" in text:
        return f"this kind of URI needs a package that is not installed ({text})"
    return f"{name}: {text}" if text else name


def one_line(text: str, *, limit: int = 300) -> str:
    """Return ``text`` on one line without credentials, cut at ``limit`` characters.

    >>> one_line("first\\n   second")
    'first second'
    """
    line = redacted(" ".join(text.split()))
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
