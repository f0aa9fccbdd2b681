"""Who listens at an address of this machine: that a server answers does not make it this user's."""

from __future__ import annotations

import ipaddress
import os
import pwd
import socket
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import TypeAlias

from pipeline.base.errors import ClusterError
from pipeline.base.loopback import is_loopback

Address: TypeAlias = IPv4Address | IPv6Address
_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LISTEN = "0A"
"""A state of include/net/tcp_states.h in Linux."""


def users_at(host: str, port: int) -> frozenset[int]:
    """Return the users whose programs listen at an address of this machine.

    Empty where the system does not show them (it is Linux that does), or a container hides them.
    """
    wanted = _addresses(host)
    return frozenset(
        user
        for address, at, user in _listeners()
        if at == port and (address in wanted or address.is_unspecified)
    )


def is_own(host: str, port: int) -> bool | None:
    """Return whether only this user's programs listen there; None if that is not known."""
    users = users_at(host, port)
    return users == {os.getuid()} if users else None


def check_own(address: str, host: str, port: int) -> None:
    """Raise ClusterError if another user's program listens at a loopback address.

    address: as the message shows it.
    """
    if is_loopback(host) and (others := users_at(host, port) - {os.getuid()}):
        raise ClusterError(
            f"{address} is in use by a program of {', '.join(map(user_name, sorted(others)))}, not "
            "by yours"
        )


def user_name(user: int) -> str:
    """Return how messages name a user."""
    try:
        return f"user {pwd.getpwuid(user).pw_name}"
    except KeyError:
        return f"user {user}"


def _addresses(host: str) -> set[Address]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return set()
    return {ipaddress.ip_address(str(where[0]).partition("%")[0]) for *_, where in found}


def _listeners() -> Iterator[tuple[Address, int, int]]:
    """Yield (address, port, user) of all listening sockets of this machine."""
    for table in _TABLES:
        try:
            lines = table.read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            _, local, _, state, _, _, _, user, *_ = line.split()
            if state == _LISTEN:
                address, _, port = local.partition(":")
                yield _address(address), int(port, 16), int(user)


def _address(text: str) -> Address:
    """Return an address of the tables: words of 32 bits, each in the machine's order of bytes.

    >>> _address("00000000")
    IPv4Address('0.0.0.0')
    """
    words = [int(text[at : at + 8], 16) for at in range(0, len(text), 8)]
    address = ipaddress.ip_address(b"".join(word.to_bytes(4, sys.byteorder) for word in words))
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
