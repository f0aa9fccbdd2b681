"""A Prefect plugin: finds this user's server, and names deployments and runs.

Where no other server is set, Prefect's commands and scripts use the one of ``overtile prefect up``,
with its password: see access.py.

Prefect expects FLOW/DEPLOYMENT for ``prefect deployment run``. The plugin resolves DEPLOYMENT alone
(``segment-local``), FLOW alone by ``prefect.toml``, and, where the server has no such deployment,
the names of earlier versions (``segment-volume/local``):

    [plugins]
    enabled = true

    [overtile.deployments]
    segment-volume = "segment-volume/segment-slurm"

It also names a run that is asked for (``segment out.zarr``), which would have a random name until
it starts. Prefect ignores unknown tables. If a release of Prefect lacks a method that the plugin
wraps, the plugin disables itself with a warning, and full names still work.
"""

from __future__ import annotations

import logging
import os
import sys
import tomllib
from collections.abc import Awaitable, Callable, Sequence
from functools import wraps
from itertools import pairwise
from pathlib import Path
from typing import Any

from pipeline.base.loopback import bypass_proxies

from .access import use_own_server

VERBS = {"segment-volume": "segment", "train-unet": "train", "evaluate-volume": "evaluate"}
"""What the deployments of each flow begin with."""
CLUSTERS = ("local", "cuda", "slurm")
SETTINGS = Path("prefect.toml")
"""Where Prefect itself reads it: in the current folder."""

_flows: dict[Any, str] = {}
"""The flow of each deployment, by its id, that this process has read."""
_warn = logging.getLogger("overtile").warning


def resolve_short_names() -> None:
    """Make the client in this process accept short names, or warn that it cannot."""
    try:
        from prefect.client.orchestration import PrefectClient

        read = PrefectClient.read_deployment_by_name
        create = PrefectClient.create_flow_run_from_deployment
        PrefectClient.read_deployment_by_name = _resolving(read)  # type: ignore[assignment,method-assign]
        PrefectClient.create_flow_run_from_deployment = _naming(create)  # type: ignore[assignment,method-assign]
    except (ImportError, AttributeError) as error:
        _disable(error)


def is_deployment_run(arguments: Sequence[str]) -> bool:
    """Return whether a command line is ``prefect … deployment run …``.

    >>> is_deployment_run(["/bin/prefect", "--no-prompt", "deployment", "run", "segment-volume"])
    True
    >>> is_deployment_run(["prefect", "worker", "start"])
    False
    """
    words = [word for word in arguments[1:] if not word.startswith("-")]
    pairs = set(pairwise(words))
    return bool(pairs & {("deployment", "run"), ("deployments", "run")})


def full_name(name: str) -> str:
    """Return the full name of a short one; if it is unknown, warn and return the short one.

    >>> full_name("train-slurm")
    'train-unet/train-slurm'
    """
    try:
        known = tomllib.loads(SETTINGS.read_text())["overtile"]["deployments"]
    except (OSError, KeyError, ValueError):
        known = {}
    known = {flow: f"{flow}/{verb}-local" for flow, verb in VERBS.items()} | known
    if name in known:
        return str(known[name])
    verb, _, cluster = name.partition("-")
    for flow, its_verb in VERBS.items():
        if verb == its_verb and cluster in CLUSTERS:
            return f"{flow}/{name}"
    _warn(
        f"{name} is not a short name (prefect.toml lists {', '.join(known)}): use "
        "FLOW/DEPLOYMENT, like segment-volume/segment-local, or add it there"
    )
    return name


def new_name(name: str) -> str | None:
    """Return what a deployment of an earlier version is called now; None for any other name.

    >>> new_name("segment-volume/slurm"), new_name("segment-volume/arrivals")
    ('segment-volume/segment-slurm', None)
    """
    flow, _, cluster = name.partition("/")
    if flow in VERBS and cluster in CLUSTERS:
        return f"{flow}/{VERBS[flow]}-{cluster}"
    return None


def _resolving(read: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Return a client's method that accepts short and old names too."""

    @wraps(read)
    async def read_deployment_by_name(self: Any, name: str, *more: Any, **named: Any) -> Any:
        from prefect.exceptions import ObjectNotFound

        given = name if "/" in name else full_name(name)
        try:
            found = await read(self, given, *more, **named)
        except ObjectNotFound:
            if (new := new_name(given)) is None:
                raise
            found = await read(self, new, *more, **named)
        _flows[found.id] = given.partition("/")[0]
        return found

    return read_deployment_by_name


def _naming(create: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Return a client's method that names runs of our flows, unless they are given a name."""

    @wraps(create)
    async def create_flow_run_from_deployment(
        self: Any, deployment_id: Any, *, name: str | None = None, **more: Any
    ) -> Any:
        flow = _flows.get(deployment_id, "")
        if name is None and flow in VERBS:
            from .run_names import name_of

            name = name_of(flow, more.get("parameters") or {})
        return await create(self, deployment_id, name=name, **more)

    return create_flow_run_from_deployment


def _disable(error: Exception) -> None:
    _warn(
        "short names of deployments do not work with this Prefect: use FLOW/DEPLOYMENT, like "
        f"segment-volume/segment-local ({error})"
    )


try:
    from prefect.plugins import register_hook
except ImportError as error:
    if is_deployment_run(sys.argv):
        _disable(error)
else:

    @register_hook
    def setup_environment(*, ctx: object) -> None:
        """Find the server and install the short names; called by Prefect before all else."""
        bypass_proxies(os.environ)
        why_none = use_own_server(os.environ)
        if is_deployment_run(sys.argv):
            if why_none is not None:  # one line: Prefect would end with a traceback
                raise SystemExit(f"your Prefect server does not run here: {why_none}")
            resolve_short_names()
