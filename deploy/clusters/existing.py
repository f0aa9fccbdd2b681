"""A running Dask cluster, by its address or its scheduler file."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pipeline.base.errors import ClusterError
from pipeline.base.json_text import json_value
from pipeline.base.toml_text import read_text

from ..processes.listeners import check_own
from .security import ENCRYPTED, security_of_existing
from .spec import ClusterSpec

if TYPE_CHECKING:
    from distributed import Client, Security

ADDRESS_SCHEMES = ("tcp://", "tls://", "ucx://", "ws://", "wss://")
SCHEDULER_FILE_BYTES = 2**26
"""Some kilobytes per worker."""
_OWN_CERTIFICATES = ", and that the certificates are those of this cluster"
_ADDRESS = re.compile(rf"({'|'.join(ADDRESS_SCHEMES)})[^/\s]+:\d+(/\S*)?")


@contextmanager
def open_existing(spec: ClusterSpec) -> Iterator[Client]:
    """Yield a client of a running scheduler, once it has a worker."""
    from distributed import Client

    address = spec.where if spec.kind == "address" else address_in(spec.where)
    _check_own(address)
    security = security_of_existing(spec.tls, address=address)
    check_answers(address, timeout_s=spec.timeout_s, security=security)
    with Client(address, timeout=spec.timeout_s, security=security, set_as_default=False) as client:
        _wait_for_worker(client, spec)
        yield client


def _check_own(address: str) -> None:
    """Raise ClusterError if an unprotected scheduler of this machine is another user's."""
    if not address.startswith(ENCRYPTED):
        parts = urlsplit(address)
        check_own(f"the address {address}", str(parts.hostname), parts.port or 0)


def _wait_for_worker(client: Client, spec: ClusterSpec) -> None:
    """Wait for a worker; a task makes a cluster start one that has none because it is idle."""
    wanted = client.submit(int, key=f"wake-{client.id}", pure=False)
    try:
        client.wait_for_workers(1, timeout=spec.first_worker_limit_s)
    except TimeoutError as error:
        raise ClusterError(
            f"the scheduler at {spec.where} has no workers: start some, then run again"
        ) from error
    finally:
        wanted.release()


def checked_address(text: str) -> str:
    """Return an address unchanged. Raises ClusterError if it lacks host or port."""
    if not _ADDRESS.fullmatch(text):
        raise ClusterError(
            f"cluster address {text!r}: expected host and port, like tcp://HOST:8786"
        )
    return text


def address_in(scheduler_file: str) -> str:
    """Return the address in a scheduler file. Raises ClusterError."""
    try:
        return checked_address(_content(scheduler_file)["address"])
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise ClusterError(
            f"{scheduler_file} is not a scheduler file: it has no address like tcp://HOST:PORT; "
            "create it with dask scheduler --scheduler-file"
        ) from error


def _content(scheduler_file: str) -> Any:
    return json_value(read_text(scheduler_file, most_bytes=SCHEDULER_FILE_BYTES))


def check_answers(address: str, *, timeout_s: float, security: Security) -> None:
    """Raise ClusterError unless a Dask scheduler answers, and accepts our certificate.

    Checked before a Client is made: a Client that could not connect waits 20 s more when it is
    deleted (distributed 2026.7). In a separate thread, as the caller may run an event loop.
    distributed's own timeout has no effect if a server accepts the connection and sends nothing.
    """
    from distributed.comm import connect

    async def ask() -> None:
        options = security.get_connection_args("client")
        comm = await asyncio.wait_for(connect(address, timeout=timeout_s, **options), timeout_s)
        await comm.close()

    with ThreadPoolExecutor(1) as pool:
        try:
            pool.submit(lambda: asyncio.run(ask())).result()
        except Exception as error:  # depends on what kind of server answers
            is_silent = isinstance(error, OSError)
            why = "no response" if is_silent else " ".join(str(error).split())[:200]
            raise ClusterError(
                f"no Dask scheduler answered at {address} within {timeout_s:.0f} s "
                f"({why or type(error).__name__}): check that it runs and is reachable from here"
                f"{_OWN_CERTIFICATES if address.startswith(ENCRYPTED) else ''}"
            ) from error
