"""A plugin of Prefect: ``prefect deployment run segment-volume``, as people type it.

Prefect wants FLOW/DEPLOYMENT. This resolves a bare FLOW to what ``prefect.toml`` names for it:

    [plugins]
    enabled = true

    [overtile.deployments]
    segment-volume = "segment-volume/slurm"

Prefect ignores tables that it does not know. Where Prefect is no longer made as it must be for
this, the plugin steps aside with a warning, and the full name works as ever.
"""

from __future__ import annotations

import logging
import sys
import tomllib
from collections.abc import Awaitable, Callable, Sequence
from functools import wraps
from itertools import pairwise
from pathlib import Path
from typing import Any

SETTINGS = Path("prefect.toml")
"""Where Prefect itself reads it: in the current folder."""

_warn = logging.getLogger("overtile").warning


def teach_bare_names() -> None:
    """Let the client of this process take bare names, or say that it cannot."""
    try:
        from prefect.client.orchestration import PrefectClient

        ask = PrefectClient.read_deployment_by_name
        PrefectClient.read_deployment_by_name = _resolving(ask)  # type: ignore[assignment,method-assign]
    except (ImportError, AttributeError) as error:
        _step_aside(error)


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
    """Return what ``prefect.toml`` names for a flow; else warn, and return the name itself."""
    try:
        known = tomllib.loads(SETTINGS.read_text())["overtile"]["deployments"]
    except (OSError, KeyError, ValueError):
        known = {}
    if name not in known:
        there = f"only {', '.join(known)}" if known else "none"
        _warn(
            f"bare names of deployments that prefect.toml in this folder knows: {there}; "
            f"say FLOW/DEPLOYMENT, like segment-volume/local, or name it there"
        )
        return name
    return str(known[name])


def _resolving(ask: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Return a client's method that takes bare names too."""

    @wraps(ask)
    async def read_deployment_by_name(self: Any, name: str, *more: Any, **named: Any) -> Any:
        return await ask(self, name if "/" in name else full_name(name), *more, **named)

    return read_deployment_by_name


def _step_aside(error: Exception) -> None:
    _warn(
        "this Prefect takes no bare names from overtile: say FLOW/DEPLOYMENT, like "
        f"segment-volume/local ({error})"
    )


if is_deployment_run(sys.argv):
    try:
        from prefect.plugins import register_hook
    except ImportError as error:
        _step_aside(error)
    else:

        @register_hook
        def setup_environment(*, ctx: object) -> None:
            """Be called by Prefect before its command runs."""
            teach_bare_names()
