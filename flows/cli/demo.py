"""``overtile demo``: a first picture."""

from __future__ import annotations

import argparse

EXAMPLE = "overtile demo --directory overtile-demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``overtile demo``."""
    parser.add_argument(
        "--directory",
        default="overtile-demo",
        metavar="DIR",
        help="where volume and result go (default: overtile-demo)",
    )
    parser.add_argument("--workers", type=int, metavar="N", help="processes of a local cluster")


def run(options: argparse.Namespace) -> None:
    """Make a volume, segment it, score it."""
    from ..demo.run import run_demo

    run_demo(options.directory, workers=options.workers)
