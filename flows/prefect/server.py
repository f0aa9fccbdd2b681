"""Prefect's server: its address, whose it is, and whether its version is compatible with ours."""

from __future__ import annotations

import os
import socket
from urllib.parse import urlsplit

from prefect import __version__
from prefect.client.orchestration import SyncPrefectClient
from prefect.settings import get_current_settings

from deploy.processes.listeners import check_own
from pipeline.base.errors import ClusterError
from pipeline.base.loopback import bypass_proxies, drop_unusable_proxies, is_loopback

from .access import may_know, read_access, same_server

DEFAULT_URL = "http://127.0.0.1:4200/api"
CONNECT_S = 3.0
UNAUTHORIZED = 401
OTHER_PORT = (
    "set another port, as PREFECT_API_URL or as url under [api] in prefect.toml, or unset it, and "
    "overtile prefect up chooses one"
)


class TakenError(ClusterError):
    """Another program, or another user's server, listens at the address."""


def configured_url() -> str | None:
    """Return the API's URL in Prefect's settings: PREFECT_API_URL, prefect.toml, a profile."""
    return get_current_settings().api.url


def server_url() -> str:
    """Return the URL in Prefect's settings; by default, of the server that ``up`` started."""
    kept = None if configured_url() else read_access()
    return configured_url() or (kept.url if kept else DEFAULT_URL)


def configured_auth(url: str) -> str | None:
    """Return USER:PASSWORD in Prefect's settings for a server; None if none is set."""
    settings = get_current_settings()
    secret = settings.api.auth_string
    if secret is None and is_here(url):
        secret = settings.server.api.auth_string
    return None if secret is None else secret.get_secret_value()


def is_here(url: str) -> bool:
    """Return whether a URL is a loopback address: only such a server may be started here."""
    return is_loopback(urlsplit(url).hostname)


def port_of(url: str) -> int:
    """Return the port of a URL."""
    parts = urlsplit(url)
    return parts.port or (443 if parts.scheme == "https" else 80)


def open_client(url: str) -> SyncPrefectClient:
    """Return a client of the server, with the password that this user has for it."""
    auth, key = configured_auth(url), get_current_settings().api.key
    if auth is None and (kept := read_access()) and same_server(kept.url, url) and may_know(url):
        auth = kept.auth
    return SyncPrefectClient(
        url,
        auth_string=auth,
        api_key=None if key is None else key.get_secret_value(),
        httpx_settings={"trust_env": False} if is_here(url) else None,  # no proxy before loopback
    )


def find_server(url: str) -> str | None:
    """Return the version of the server at a URL; None if nothing listens there.

    Raises TakenError if another program or another user's server listens there; ClusterError for
    an incompatible Prefect.
    """
    try:
        socket.create_connection((urlsplit(url).hostname, port_of(url)), CONNECT_S).close()
    except OSError:
        return None
    _refuse_other_user(url)
    try:
        with open_client(url) as client:
            version = client.api_version()
    except Exception as error:
        raise TakenError(_taken_text(url, error)) from error
    if version.split(".")[:2] != __version__.split(".")[:2]:
        raise ClusterError(
            f"the server at {url} runs Prefect {version}, this machine {__version__}: install the "
            "same version on both, or set PREFECT_API_URL to another server"
        )
    return version


def _refuse_other_user(url: str) -> None:
    """Raise TakenError for another user's server, unless the user has set a password for it."""
    if get_current_settings().api.auth_string is not None:
        return
    try:
        check_own(url, str(urlsplit(url).hostname), port_of(url))
    except ClusterError as error:
        raise TakenError(
            f"{error}: {OTHER_PORT}; to use that server, set PREFECT_API_AUTH_STRING to its "
            "password"
        ) from error


def _taken_text(url: str, error: Exception) -> str:
    if getattr(getattr(error, "response", None), "status_code", None) == UNAUTHORIZED:
        return (
            f"the Prefect server at {url} does not accept your password, so it belongs to another "
            f"user or another home: {OTHER_PORT}; to use that server, set PREFECT_API_AUTH_STRING "
            "to its password"
        )
    return (
        f"{url} is in use by another program, not by Prefect ({_first_line(error)}): stop it, or "
        f"{OTHER_PORT}"
    )


def environment_of(url: str, *, auth: str | None, serves: bool = False) -> dict[str, str]:
    """Return the environment for Prefect's commands with this server.

    auth: USER:PASSWORD. serves: whether the command is the server itself.
    """
    quiet = {"DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    environment = {**quiet, **os.environ, "PREFECT_API_URL": url}
    if auth is not None:
        environment["PREFECT_API_AUTH_STRING"] = auth
        if serves:
            environment["PREFECT_SERVER_API_AUTH_STRING"] = auth
    bypass_proxies(environment, *([str(urlsplit(url).hostname)] if is_here(url) else []))
    drop_unusable_proxies(environment)
    return environment


def _first_line(error: Exception) -> str:
    text = str(error).strip().partition("\n")[0]
    return text or type(error).__name__
