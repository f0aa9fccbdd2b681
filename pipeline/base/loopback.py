"""This machine's own addresses, and an environment in which no proxy stands before them.

Login nodes often set ``http_proxy`` without 127.0.0.1 in ``no_proxy``. Libraries then ask the proxy
for a server on this machine, and it answers for another machine, or not at all.
"""

from __future__ import annotations

import ipaddress
from collections.abc import MutableMapping
from importlib.util import find_spec

LOOPBACK = ("localhost", "127.0.0.1", "::1")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_EXEMPT = ("no_proxy", "NO_PROXY")


def is_loopback(host: str | None) -> bool:
    """Return whether a host name means this machine only.

    >>> [is_loopback(host) for host in ("localhost", "127.0.0.2", "::1", "login1", "192.0.2.1")]
    [True, True, True, False, False]
    """
    if not host:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def bypass_proxies(environment: MutableMapping[str, str], *more: str) -> None:
    """Exempt loopback from the proxies of an environment; all other hosts keep them.

    more: other names of this machine.

    >>> environment = {"http_proxy": "http://proxy:3128", "no_proxy": "localhost,.site.org"}
    >>> bypass_proxies(environment, "127.0.0.2")
    >>> environment["no_proxy"]
    'localhost,.site.org,127.0.0.1,::1,127.0.0.2'
    """
    if not any(environment.get(name) for name in _names(_PROXIES)):
        return
    site = next(filter(None, map(environment.get, _EXEMPT)), "")
    for name in _EXEMPT:  # programs differ in which of the two they read
        hosts = [host.strip() for host in (environment.get(name) or site).split(",")]
        hosts = list(dict.fromkeys(filter(None, [*hosts, *LOOPBACK, *more])))
        if "*" not in hosts:
            environment[name] = ",".join(hosts)


def drop_unusable_proxies(environment: MutableMapping[str, str]) -> None:
    """Remove SOCKS proxies where ``socksio`` is not installed.

    httpx then refuses to make a client at all, for any host, loopback included. Nothing else that
    Prefect or a flow run uses can speak SOCKS.
    """
    if find_spec("socksio") is None:
        for name in _names(_PROXIES):
            if environment.get(name, "").lower().startswith("socks"):
                del environment[name]


def _names(names: tuple[str, ...]) -> list[str]:
    return [*names, *map(str.upper, names)]
