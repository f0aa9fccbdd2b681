"""Where Prefect's server is, and whether it is one that this Prefect can work with."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

from prefect import __version__
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import get_current_settings

from pipeline.base.errors import ClusterError

DEFAULT_URL = "http://127.0.0.1:4200/api"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
CONNECT_S = 3.0


def server_url() -> str:
    """Return the API's URL by Prefect's settings: prefect.toml, PREFECT_API_URL, a profile."""
    return get_current_settings().api.url or DEFAULT_URL


def is_here(url: str) -> bool:
    """Return whether a URL is of this machine only: such a server may be started here."""
    return urlsplit(url).hostname in LOOPBACK


def port_of(url: str) -> int:
    """Return the port of a URL."""
    parts = urlsplit(url)
    return parts.port or (443 if parts.scheme == "https" else 80)


def open_client(url: str) -> SyncPrefectClient:
    """Return a client of the server, with what the settings say of it."""
    if get_current_settings().api.url:
        return get_client(sync_client=True)
    return SyncPrefectClient(url)


def find_server(url: str) -> str | None:
    """Return the version of the server at a URL; None where nobody listens there.

    Raises ClusterError where somebody else listens, or a Prefect that is not ours.
    """
    try:
        socket.create_connection((urlsplit(url).hostname, port_of(url)), CONNECT_S).close()
    except OSError:
        return None
    try:
        with open_client(url) as client:
            version = client.api_version()
    except Exception as error:
        raise ClusterError(
            f"{url} is taken by something that is no Prefect server ({_first_line(error)}): end "
            "it, or choose another port as url under [api] in prefect.toml, or by PREFECT_API_URL"
        ) from error
    if version.split(".")[:2] != __version__.split(".")[:2]:
        raise ClusterError(
            f"the server at {url} is Prefect {version}, and here is {__version__}: install the "
            "same version on both sides, or choose another server by PREFECT_API_URL"
        )
    return version


def environment_of(url: str) -> dict[str, str]:
    """Return the environment of Prefect's commands for this server."""
    quiet = {"DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    return {**quiet, **os.environ, "PREFECT_API_URL": url}


def settings_note(url: str) -> str | None:
    """Return what to do where plain ``prefect`` commands would not find the server from here."""
    if get_current_settings().api.url:
        return None
    return (
        f"no prefect.toml in {Path.cwd()}: for prefect commands to find this server from here, "
        f"run: prefect config set PREFECT_API_URL={url}"
    )


def _first_line(error: Exception) -> str:
    text = str(error).strip().partition("\n")[0]
    return text or type(error).__name__
