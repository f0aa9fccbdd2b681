"""What a rank needs of torch: its device, the process group, and errors from a lost peer.

The one module of this package that imports torch; it is loaded on workers only.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address

import torch
import torch.distributed as dist
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # it says so itself

from .messages import RankAssignment, Rendezvous

GLOO_INTERFACE = "GLOO_SOCKET_IFNAME"
NCCL_RAISES = "TORCH_NCCL_BLOCKING_WAIT"
"""With it, an NCCL collective that fails raises; without, it ends the worker's process."""
CONNECT_S = 60.0
"""For a first connection, which no read delays: packets may be dropped between two hosts."""
_TRANSPORT = re.compile(r"\bgloo\b|nccl|connection (closed|reset|refused)|broken pipe", re.I)


@dataclass(frozen=True, slots=True, kw_only=True)
class RankDevice:
    """What this process computes on, and what the driver needs to choose a backend."""

    name: str
    """For torch: ``cpu`` or ``cuda:0``."""
    gpu: str | None
    """UUID; None on a CPU."""
    nccl: bool


def find_device() -> RankDevice:
    """Return the first GPU that this process sees, otherwise the CPU."""
    if not torch.cuda.is_available():
        return RankDevice(name="cpu", gpu=None, nccl=False)
    gpu = str(torch.cuda.get_device_properties(0).uuid)
    return RankDevice(name="cuda:0", gpu=gpu, nccl=dist.is_nccl_available())


def open_store(host: str, *, timeout_s: float) -> TCPStore:
    """Return a store that listens on a free port of this host's address, and nowhere else."""
    family = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][0]
    listener = socket.create_server((host, 0), family=family)
    port = listener.getsockname()[1]
    return TCPStore(
        host, port, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=timeout_s),
        master_listen_fd=listener.detach(),
    )  # fmt: skip


@contextmanager
def joined(
    assignment: RankAssignment,
    rendezvous: Rendezvous,
    *,
    host: str,
    store: TCPStore | None,
    is_cancelled: Callable[[], bool],
) -> Iterator[Callable[[], None]]:
    """Join the process group of all ranks; on leaving, nothing of it stays in this process.

    host: this worker's. store: on rank 0, the store that it opened; None on the others. Yields a
    barrier without a timeout, which raises DistStoreError once ``is_cancelled``.
    """
    timeout = timedelta(seconds=assignment.timeout_s)
    store = store or _connected(rendezvous, timeout)
    nccl = "nccl" in rendezvous.backend
    with _environment(_variables(host, nccl=nccl)), _destroyed():
        dist.init_process_group(
            rendezvous.backend, store=store, rank=assignment.rank, world_size=assignment.world_size,
            timeout=timeout, device_id=torch.device("cuda:0") if nccl else None,
        )  # fmt: skip
        barrier = _Barrier(store, assignment, is_cancelled)
        yield barrier
        barrier()
        barrier.leave()


def _connected(rendezvous: Rendezvous, timeout: timedelta) -> TCPStore:
    """Return a client of the store of rank 0; its calls wait as long as the ranks do."""
    first = min(timeout, timedelta(seconds=CONNECT_S))
    store = TCPStore(rendezvous.host, rendezvous.port, is_master=False, timeout=first)
    store.set_timeout(timeout)
    return store


@contextmanager
def _destroyed() -> Iterator[None]:
    """Destroy the process group on leaving, complete or not."""
    try:
        yield
    except BaseException:
        if dist.group.WORLD is not None:
            dist.group.WORLD.abort()  # NCCL would wait for peers that are gone
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


class _Barrier:
    """Waits for all ranks through the store, without a timeout."""

    def __init__(
        self, store: TCPStore, assignment: RankAssignment, is_cancelled: Callable[[], bool]
    ) -> None:
        self._store, self._assignment, self._is_cancelled = store, assignment, is_cancelled
        self._count = 0

    def __call__(self) -> None:
        """Return when every rank is here."""
        self._count += 1
        self._wait_for_all(f"barrier-{self._count}")

    def leave(self) -> None:
        """Let rank 0, which serves the store, be the last to leave."""
        if self._assignment.rank == 0:
            self._wait_for_all("closing")
        else:
            self._store.add("closing", 1)

    def _wait_for_all(self, key: str) -> None:
        here = self._store.add(key, 1)
        while here < self._assignment.world_size:
            if self._is_cancelled():
                raise dist.DistStoreError(f"rank {self._assignment.rank}: cancelled at a barrier")
            time.sleep(0.02)
            here = self._store.add(key, 0)


def peer_failed(error: BaseException | None) -> bool:
    """Return whether an error, or what led to it, comes from the connection to other ranks.

    gloo raises plain RuntimeErrors, recognised by their text.
    """
    while error is not None:
        if isinstance(error, dist.DistError):
            return True
        if type(error) is RuntimeError and _TRANSPORT.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def describe_failure(error: BaseException) -> str:
    """Return in a few words how the connection to other ranks was lost.

    The messages of gloo and NCCL are lines of their sources and socket addresses.
    """
    texts = []
    cause: BaseException | None = error
    while cause is not None:
        texts.append(str(cause))
        cause = cause.__cause__ or cause.__context__
    text = " ".join(texts).lower()
    if "timed out" in text or "timeout" in text:
        return "another rank did not answer in time"
    return "the connection to another rank broke"


def _variables(host: str, *, nccl: bool) -> dict[str, str]:
    """Return environment variables for the process group, without those that are set already.

    gloo takes the interface to which the hostname resolves. On many machines that is loopback,
    which ranks on other machines cannot reach: set the interface that the worker listens on.
    """
    variables = {NCCL_RAISES: "1"} if nccl else {}
    if interface := interface_of(host):
        variables[GLOO_INTERFACE] = interface
    return {name: value for name, value in variables.items() if name not in os.environ}


def interface_of(host: str) -> str | None:
    """Return the network interface that has a host's IPv4 address; None if there is not one."""
    from distributed.utils import get_ip_interface

    address = ip_address(socket.gethostbyname(host)) if ":" not in host else ip_address(host)
    for _, name in socket.if_nameindex():
        with suppress(ValueError, KeyError):
            own = ip_address(get_ip_interface(name))
            if own == address or (own.is_loopback and address.is_loopback):
                return name
    return None


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            os.environ.pop(name, None)
