"""The location of weights: a local file, any fsspec URI, or a name bundled with the package."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from pipeline.base.errors import WeightsError
from pipeline.base.location import Location, check_password, check_text
from pipeline.base.redaction import cleaned, redacted, remember
from pipeline.base.store_errors import one_line
from pipeline.base.text import did_you_mean

from .foreign_file import OTHER_MODEL, describe_parts
from .safetensors_header import check_format

BUNDLED = Path(__file__).parents[1] / "bundled"
SUFFIX = ".safetensors"


def bundled_names() -> list[str]:
    """Return the names of the weights that are bundled with the package."""
    return sorted(path.stem for path in BUNDLED.glob(f"*{SUFFIX}"))


def settle_uri(uri: str | os.PathLike[str]) -> str:
    """Return a URI that is valid from any working folder.

    Local paths become absolute. A bundled name stays a name: every machine has its own copy.
    """
    text = os.fspath(uri)
    check_password(text, kind=WeightsError)
    if not text:
        raise WeightsError(f"no weights are given (an empty path): {_advice()}")
    check_text(text, kind=WeightsError)
    if "://" in text:
        remember(text)
        return text
    if is_bundled(text):
        return text
    return os.path.abspath(os.path.expanduser(text))


def read_bytes(uri: str) -> bytes:
    """Return the content of the file. Raises WeightsError if it cannot be read.

    A local file of another format is refused without reading all of it: it may be a volume.
    """
    try:
        if "://" in uri:
            import fsspec

            content: bytes = fsspec.filesystem(uri.split("://")[0]).cat_file(uri)
            return content
        path = BUNDLED / (uri + SUFFIX) if is_bundled(uri) else Path(uri)
        return _read_file(uri, path)
    except WeightsError:
        raise
    except IsADirectoryError:
        kind = describe_parts(os.listdir(uri)) if os.access(uri, os.R_OK) else None
        what = f"a folder, {kind}" if kind else "a folder"
        raise WeightsError(
            f"weights {redacted(uri)!r} are {what}: pass one weights file; {OTHER_MODEL}"
        ) from None
    except FileNotFoundError:
        raise WeightsError(
            f"no weights found at {redacted(uri)!r}{_meant(uri)}: {_advice()}"
        ) from None
    except Exception as error:  # each file system has its own error types
        cause = cleaned(error, hide=lambda text: redacted(_hidden(uri, text)))
        reason = one_line(_hidden(uri, str(error))) or "no reason given"
        raise WeightsError(
            f"cannot read weights {redacted(uri)!r} ({type(error).__name__}: {reason}): check the "
            "address and your permissions"
        ) from cause


def _hidden(uri: str, text: str) -> str:
    return Location(uri).hidden_in(text) if "://" in uri else text


def _read_file(uri: str, path: Path) -> bytes:
    """Return a local file; its format is checked before much of it is read."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise WeightsError(f"weights {uri!r} are not a file (a pipe or a device): pass a file")
    with path.open("rb") as file:
        check_format(uri, file)
        file.seek(0)
        return file.read()


def is_bundled(uri: str) -> bool:
    """Return whether ``uri`` is a bundled name and not a local file."""
    plain = "/" not in uri and "." not in uri and os.sep not in uri
    return plain and uri in bundled_names() and not Path(uri).is_file()


def _meant(uri: str) -> str:
    """Return a question that proposes the bundled name which resembles a local one, or nothing."""
    name = "" if "://" in uri else os.path.basename(uri).removesuffix(SUFFIX)
    return did_you_mean(name, bundled_names())


def _advice() -> str:
    bundled = ", ".join(bundled_names()) or "none"
    return f"pass a file, a URI or a bundled name (bundled: {bundled})"
