"""``overtile prefect up|status|env|down``: a local Prefect server and worker."""

from __future__ import annotations

import argparse

from pipeline.base.redaction import redacted

from ..text.terminal import say, show
from .parser import Parser


def add_arguments(parser: Parser) -> None:
    """Add the arguments of ``overtile prefect``."""
    commands = parser.add_subparsers(required=True, metavar="up|status|env|down", dest="action")
    up = commands.add_parser(
        "up",
        help="start server and worker, register deployments",
        description="Start what is missing, in the right order, and print the plain Prefect "
        "command of each step. Flow runs start in this folder. Safe to run again at any time.",
    )
    up.add_argument(
        "--old-names", action="store_true",
        help="register segment-volume/local and the like too, for scripts that use the names of "
        "earlier versions",
    )  # fmt: skip
    commands.add_parser(
        "status",
        help="show processes, deployments and flow runs",
        description="Show the server, the worker, the deployments and the active flow runs.",
    )
    commands.add_parser(
        "env",
        help="print address and password as commands of a shell",
        description="Print the server's address and its password as commands of a shell, for "
        "prefect commands outside a folder with a prefect.toml. The browser asks for the same "
        "password.",
    )
    down = commands.add_parser(
        "down",
        help="stop what up started, and nothing else",
        description="Stop the worker and the server that overtile prefect up started here. While "
        "flow runs are active, nothing is stopped without --cancel.",
    )
    down.add_argument(
        "--cancel", action="store_true", help="cancel running flow runs; they can be resumed"
    )


def run(options: argparse.Namespace) -> None:
    """Start, inspect or stop."""
    from deploy.processes.state_folder import make_state_folder

    from ..prefect.background import check_here, directory

    if options.action in ("up", "down"):
        make_state_folder(directory())  # before Prefect is imported, which needs a home
    check_here()
    {"up": _up, "status": _status, "env": _env, "down": _down}[options.action](options)


def _up(options: argparse.Namespace) -> None:
    from ..prefect.up import bring_up

    bring_up(_say, old_names=options.old_names)
    say(
        "ready: prefect deployment run segment-volume/segment-local -p input=… -p output=… "
        "-p weights=…"
    )


def _status(options: argparse.Namespace) -> None:
    from ..prefect.status import status_text

    show(redacted(status_text()))


def _env(options: argparse.Namespace) -> None:
    from ..prefect.status import env_text

    print(env_text())


def _down(options: argparse.Namespace) -> None:
    from ..prefect.down import take_down

    take_down(_say, cancel=options.cancel)


def _say(text: str) -> None:
    """Print a line; the server's address may hold a password."""
    say(redacted(text))
