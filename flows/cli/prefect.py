"""``overtile prefect up|status|down``: Prefect in front, for who has none running."""

from __future__ import annotations

import argparse

from ..text.terminal import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``overtile prefect``."""
    commands = parser.add_subparsers(required=True, metavar="up|status|down", dest="what")
    commands.add_parser(
        "up",
        help="start server and worker, register deployments",
        description="Start what is missing, in the right order, and print the plain Prefect "
        "command of each step. Flow runs start in this folder. Start it again at any time.",
    )
    commands.add_parser("status", help="tell what runs and what is registered")
    down = commands.add_parser("down", help="end what up started, and nothing else")
    down.add_argument(
        "--cancel", action="store_true", help="cancel flow runs that are at work; they can resume"
    )


def run(options: argparse.Namespace) -> None:
    """Start, look at or stop."""
    {"up": _up, "status": _status, "down": _down}[options.what](options)


def _up(options: argparse.Namespace) -> None:
    from ..prefect.up import bring_up

    bring_up(say)
    say("ready: prefect deployment run segment-volume/local -p input=… -p output=… -p weights=…")


def _status(options: argparse.Namespace) -> None:
    from ..prefect.status import look_text

    print(look_text())


def _down(options: argparse.Namespace) -> None:
    from ..prefect.down import take_down

    take_down(say, cancel=options.cancel)
