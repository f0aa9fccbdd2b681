"""How this user's programs reach this user's Prefect server: its address and its password.

~/.local/state/overtile/prefect/access.json    readable by this user only

Another user of the machine can reach the address too, and can listen there once the server has
ended. So the server asks for the password (Prefect's basic authentication), and the password is
sent to a program of this user only.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import MutableMapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from deploy.processes.listeners import is_own
from deploy.processes.state_folder import explained_state
from pipeline.base.errors import ClusterError
from pipeline.base.loopback import drop_unusable_proxies, is_loopback

from .background import directory, find_part

SECRET_BYTES = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """The server of this user."""

    url: str
    """Of its API."""
    auth: str | None = field(repr=False)
    """USER:PASSWORD of Prefect's basic authentication; None if the server asks for nothing."""
    host: str
    """The machine on which it was started."""

    @classmethod
    def new(cls, url: str, *, auth: str | None = None) -> Access:
        """Return the access to a server on this machine; by default with a new password."""
        auth = auth or f"overtile:{secrets.token_urlsafe(SECRET_BYTES)}"
        return cls(url=url, auth=auth, host=socket.gethostname())


def access_file() -> Path:
    """Return the file of address and password."""
    return directory() / "access.json"


def read_access() -> Access | None:
    """Return address and password of this user's server; None if ``up`` has never started one.

    Raises ClusterError if other users can read the file.
    """
    file = access_file()
    try:
        with file.open() as opened:
            status = os.fstat(opened.fileno())
            values = json.load(opened)
        access = Access(**values)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise ClusterError(
            f"cannot read {file} ({' '.join(str(error).split())}): stop Prefect with overtile "
            "prefect down, delete the file, and run overtile prefect up"
        ) from error
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise ClusterError(
            f"{file} holds a password, but other users can read it: delete it and run overtile "
            "prefect up, which makes a new one; if the file system has no permissions, set "
            "XDG_STATE_HOME to a folder on another disk"
        )
    return access


def write_access(access: Access) -> None:
    """Keep address and password, for this user only. Raises ClusterError."""
    file = access_file()
    part = file.with_suffix(".part")
    with explained_state(file.parent):
        part.unlink(missing_ok=True)
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(handle, "w") as opened:
            json.dump(asdict(access), opened)
        os.replace(part, file)
    read_access()  # checks what the file system has made of the permissions


def same_server(one: str, other: str) -> bool:
    """Return whether two URLs are the same server of this machine, or equal.

    >>> same_server("http://localhost:4200/api", "http://127.0.0.1:4200/api/")
    True
    """
    left, right = urlsplit(one), urlsplit(other)
    if is_loopback(left.hostname) and is_loopback(right.hostname):
        return left.port == right.port
    return one.rstrip("/") == other.rstrip("/")


def may_know(url: str) -> bool:
    """Return whether a program of this user listens at a URL of this machine.

    Where the system does not show whose program it is, the server that ``up`` started counts.
    """
    parts = urlsplit(url)
    if not is_loopback(parts.hostname) or parts.port is None:
        return False
    own = is_own(str(parts.hostname), parts.port)
    if own is not None:
        return own
    try:
        record = find_part("server")
    except ClusterError:
        return False
    return record is not None and same_server(record.url, url)


def use_own_server(environment: MutableMapping[str, str]) -> str | None:
    """Point Prefect's settings in this process at this user's server, unless others are set.

    Returns why there is none to point at; None if there is, or the user has set another one.
    Raises ClusterError if other users can read the password.
    """
    from prefect.settings import get_current_settings

    settings = get_current_settings()
    url, access = settings.api.url, read_access()
    if url is not None and (access is None or not same_server(url, access.url)):
        return None
    if access is None:
        return "start it with overtile prefect up"
    drop_unusable_proxies(environment)
    if may_know(access.url):
        environment["PREFECT_API_URL"] = url or access.url
        if access.auth is not None and settings.api.auth_string is None:
            environment["PREFECT_API_AUTH_STRING"] = access.auth
        return None
    if url is not None:
        return None
    # Otherwise Prefect would start a temporary server, on the same database.
    environment.setdefault("PREFECT_SERVER_EPHEMERAL_ENABLED", "false")
    if access.host != socket.gethostname():
        return f"it was started on {access.host}: run this command there"
    return "start it with overtile prefect up"
