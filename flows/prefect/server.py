"""The address of Prefect's server, and whether its version is compatible with ours."""

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
    """Return the API's URL from Prefect's settings: prefect.toml, PREFECT_API_URL, a profile."""
    return get_current_settings().api.url or DEFAULT_URL


def is_here(url: str) -> bool:
    """Return whether a URL is a loopback address: only such a server may be started here."""
    return urlsplit(url).hostname in LOOPBACK


def port_of(url: str) -> int:
    """Return the port of a URL."""
    parts = urlsplit(url)
    return parts.port or (443 if parts.scheme == "https" else 80)


def open_client(url: str) -> SyncPrefectClient:
    """Return a client of the server, configured by Prefect's settings."""
    if get_current_settings().api.url:
        return get_client(sync_client=True)
    return SyncPrefectClient(url)


def find_server(url: str) -> str | None:
    """Return the version of the server at a URL; None if nothing listens there.

    Raises ClusterError if another program listens there, or an incompatible Prefect.
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
            f"{url} is in use by another program, not by Prefect ({_first_line(error)}): stop it, "
            "or set another port, as url under [api] in prefect.toml or in PREFECT_API_URL"
        ) from error
    if version.split(".")[:2] != __version__.split(".")[:2]:
        raise ClusterError(
            f"the server at {url} runs Prefect {version}, this machine {__version__}: install the "
            "same version on both, or set PREFECT_API_URL to another server"
        )
    return version


def environment_of(url: str) -> dict[str, str]:
    """Return the environment for Prefect's commands with this server."""
    quiet = {"DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    return {**quiet, **os.environ, "PREFECT_API_URL": url}


def settings_note(url: str) -> str | None:
    """Return advice if ``prefect`` commands in this folder would not find the server; else None."""
    if get_current_settings().api.url:
        return None
    return (
        f"no prefect.toml in {Path.cwd()}: to use this server with prefect commands here, run: "
        f"prefect config set PREFECT_API_URL={url} PREFECT_PLUGINS_ENABLED=true"
    )


def _first_line(error: Exception) -> str:
    text = str(error).strip().partition("\n")[0]
    return text or type(error).__name__
