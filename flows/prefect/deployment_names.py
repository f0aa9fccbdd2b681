"""A Prefect plugin for short names: ``prefect deployment run segment-volume``.

Prefect expects FLOW/DEPLOYMENT. The plugin resolves FLOW alone by ``prefect.toml``:

    [plugins]
    enabled = true

    [overtile.deployments]
    segment-volume = "segment-volume/slurm"

Prefect ignores unknown tables. If a release of Prefect lacks the method that the plugin wraps, the
plugin disables itself with a warning, and full names still work.
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


def resolve_short_names() -> None:
    """Make the client in this process accept short names, or warn that it cannot."""
    try:
        from prefect.client.orchestration import PrefectClient

        read = PrefectClient.read_deployment_by_name
        PrefectClient.read_deployment_by_name = _resolving(read)  # type: ignore[assignment,method-assign]
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
    """Return the full name in ``prefect.toml``; if there is none, warn and return the short one."""
    try:
        known = tomllib.loads(SETTINGS.read_text())["overtile"]["deployments"]
    except (OSError, KeyError, ValueError):
        known = {}
    if name not in known:
        _warn(
            f"{name} is not a short name in prefect.toml of this folder (it lists "
            f"{', '.join(known) or 'none'}): use FLOW/DEPLOYMENT, like segment-volume/local, or "
            "add it there"
        )
        return name
    return str(known[name])


def _resolving(read: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Return a client's method that accepts short names too."""

    @wraps(read)
    async def read_deployment_by_name(self: Any, name: str, *more: Any, **named: Any) -> Any:
        return await read(self, name if "/" in name else full_name(name), *more, **named)

    return read_deployment_by_name


def _disable(error: Exception) -> None:
    _warn(
        "short names of deployments do not work with this Prefect: use FLOW/DEPLOYMENT, like "
        f"segment-volume/local ({error})"
    )


if is_deployment_run(sys.argv):
    try:
        from prefect.plugins import register_hook
    except ImportError as error:
        _disable(error)
    else:

        @register_hook
        def setup_environment(*, ctx: object) -> None:
            """Install the short names; called by Prefect before its command runs."""
            resolve_short_names()
