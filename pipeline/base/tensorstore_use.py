"""tensorstore, an optional package: loaded only where it is safe, and where locations lie for it.

A process forked from one that has used tensorstore ends as soon as it uses it too.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from typing import Any, Final

from .errors import OvertileError
from .location import Location
from .store_errors import one_line
from .stores import fsspec_options

_RETRIES: Final = {"max_retries": 4, "initial_delay": "500ms", "max_delay": "4s"}
_loaded_in: dict[str, int] = {}
"""Id of the process that loaded tensorstore first."""


def is_installed() -> bool:
    """Return whether tensorstore is installed, without loading it."""
    return importlib.util.find_spec("tensorstore") is not None


def is_forked() -> bool:
    """Return whether this process was forked from one that had loaded tensorstore."""
    return _loaded_in.get("pid", os.getpid()) != os.getpid()


def load() -> Any:
    """Return the package; call it only if it is installed and this process is not forked."""
    import tensorstore

    _loaded_in.setdefault("pid", os.getpid())
    return tensorstore


def required(kind: type[OvertileError], location: Location) -> Any:
    """Return the package. Raises ``kind``, one line, where it cannot be used."""
    check_installed(kind, location)
    check_not_forked(kind, location)
    return load()


def check_installed(kind: type[OvertileError], location: Location) -> None:
    """Raise ``kind`` where tensorstore is not installed; does not load it."""
    if not is_installed():
        raise kind(
            f"{location} needs tensorstore, which is not installed: pip install "
            "'overtile[tensorstore]'"
        )


def check_not_forked(kind: type[OvertileError], location: Location) -> None:
    """Raise ``kind`` in a forked process, which tensorstore would end."""
    if is_forked():
        raise kind(
            f"{location} cannot be read in a process forked from one that read with tensorstore: "
            "start processes with the method spawn"
        )


def context_settings() -> dict[str, Any]:
    """Return settings of a context: few retries, so that errors come soon."""
    names = ("http_request_retries", "s3_request_retries", "gcs_request_retries")
    return dict.fromkeys(names, _RETRIES)


@functools.lru_cache(maxsize=1)
def context() -> Any:
    """Return what all stores that this process reads share."""
    return load().Context(context_settings())


def kvstore(location: Location, kind: type[OvertileError]) -> dict[str, Any]:
    """Return the specification of a folder. It may hold a password.

    Credentials come from the environment, as in ``stores``. Raises ``kind`` for unknown schemes.
    """
    if location.is_local:
        return {"driver": "file", "path": f"{location.uri}/"}
    if location.scheme in ("http", "https"):
        return {"driver": "http", "base_url": location.uri, "path": "/"}
    bucket, _, path = location.uri.partition("://")[2].partition("/")
    inside = {"bucket": bucket, "path": f"{path}/" if path else ""}
    if location.scheme in ("gs", "gcs"):
        return {"driver": "gcs", **inside}
    if location.scheme in ("s3", "s3a"):
        return {"driver": "s3", **inside, **_s3_settings(location)}
    raise kind(f"{location}: tensorstore opens paths, http(s)://, s3:// and gs:// only")


def _s3_settings(location: Location) -> dict[str, Any]:
    import fsspec.config

    settings: dict[str, Any] = {}
    configured = fsspec.config.conf.get("s3", {})
    endpoint = fsspec_options(location).get("endpoint_url") or configured.get("endpoint_url")
    if endpoint:
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        settings |= {"endpoint": endpoint, "aws_region": region or "us-east-1"}
    if str(configured.get("anon", "")).lower() in ("1", "true"):
        settings["aws_credentials"] = {"type": "anonymous"}
    return settings


def reason(error: Exception, location: Location) -> str:
    """Return an error of tensorstore as one line without its specification and credentials.

    It becomes the text of the error too: a traceback would show the answer of the server.
    """
    text = one_line(location.hidden_in(str(error).partition(" [")[0]))
    error.args = (text,)
    return text
