"""Starts this user's Prefect server, at an address that no other program has."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable
from contextlib import suppress
from tempfile import TemporaryFile

from prefect import __version__
from prefect.settings import get_current_settings

from pipeline.base.errors import ClusterError

from .access import Access, read_access, same_server, write_access
from .background import PARTS, Part, find_part, process_of, start_part
from .commands import Commands, why_not_started
from .server import (
    DEFAULT_URL,
    TakenError,
    configured_auth,
    configured_url,
    environment_of,
    find_server,
    is_here,
    port_of,
)

SERVER_S = 180.0


def choose_url(say: Callable[[str], None]) -> str:
    """Return the server's URL: as configured, else of this user's server, else on a free port."""
    if url := configured_url():
        return url
    if running := find_part("server"):
        return running.url
    kept = read_access()
    for url in dict.fromkeys([*([kept.url] if kept else []), DEFAULT_URL]):
        try:
            find_server(url)
        except TakenError:
            say(f"port {port_of(url)}: in use by another program or user")
        else:
            return url
    return f"http://127.0.0.1:{_free_port()}/api"


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def known_access(url: str) -> Access:
    """Return how a server is reached: as configured, or as ``up`` has kept it."""
    auth, kept = configured_auth(url), read_access()
    if auth is None and kept is not None and same_server(kept.url, url):
        auth = kept.auth
    return Access(url=url, auth=auth, host=socket.gethostname())


def start_server(url: str, say: Callable[[str], None]) -> Commands:
    """Start the server, unless one answers; return Prefect's commands with it."""
    version, access = find_server(url), known_access(url)
    if version:
        say(f"server: Prefect {version} is already running at {url}")
        if configured_url() is None:  # it may have been started by hand, on the default port
            write_access(access)
        environment = environment_of(url, auth=access.auth)
        return Commands(url=url, environment=environment, say=say)
    _check_startable(url)
    access = access if access.auth else Access.new(url)
    write_access(access)
    environment = environment_of(url, auth=access.auth)
    run = Commands(url=url, environment=environment, say=say)
    command = ("server", "start", "--host", "127.0.0.1", "--port", str(port_of(url)))
    say(f"server: started in the background, log {process_of('server').log}")
    run.show(*command)
    serves = environment_of(url, auth=access.auth, serves=True)
    process = start_part("server", command, url=url, environment=serves)
    wait_until_ready(lambda: _answers(url), "server", process, within_s=SERVER_S)
    return run


def _check_startable(url: str) -> None:
    """Raise ClusterError if no server may be started for a URL at which none answers."""
    if not is_here(url):
        raise ClusterError(
            f"no server answers at {url}, which is another machine: start it there with "
            f"prefect server start --host 0.0.0.0 --port {port_of(url)}"
        )
    for part in PARTS:
        refuse_other_url(part, url)
    if running := find_part("server"):
        raise ClusterError(
            f"the server of overtile prefect up runs on {running.host} since {running.since}, but "
            f"does not answer at {url} here: run this command where it was started, or stop it "
            "with overtile prefect down"
        )
    home = get_current_settings().home
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        with TemporaryFile(dir=home):
            pass
    except OSError as error:
        raise ClusterError(
            f"Prefect's database cannot be kept in {home} ({error.strerror}): set PREFECT_HOME to "
            "a folder that you can write to"
        ) from error


def _answers(url: str) -> bool:
    with suppress(ClusterError):  # it listens, but is not ready yet
        return find_server(url) is not None
    return False


def refuse_other_url(part: Part, url: str) -> None:
    """Raise ClusterError if ``up`` started this part for another server."""
    if (running := find_part(part)) and running.url != url:
        raise ClusterError(
            f"overtile prefect up has started a {part} for {running.url}, not for {url}: stop it "
            "first with overtile prefect down"
        )


def wait_until_ready(
    ready: Callable[[], object], part: Part, process: subprocess.Popen[bytes], *, within_s: float
) -> None:
    """Wait until a process is ready. Raises ClusterError with the reason in its log."""
    background = process_of(part)
    if not background.wait_until(ready, process, within_s=within_s):
        why = why_not_started(background.log_text(), database=_database(), version=__version__)
        raise ClusterError(f"the {part} did not start: {why}; log {background.log}")


def _database() -> str:
    return str(get_current_settings().home / "prefect.db")
