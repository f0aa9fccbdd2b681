"""``overtile weights``: what a weights file is."""

from __future__ import annotations

import argparse
import json

EXAMPLE = "overtile weights demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``overtile weights``."""
    parser.add_argument(
        "weights", metavar="FILE", help="a weights file, or the name of bundled ones"
    )
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def run(options: argparse.Namespace) -> None:
    """Print what a weights file is."""
    from unet import read_weights_info

    from ..text.weights import weights_json, weights_text

    info = read_weights_info(options.weights)
    print(json.dumps(weights_json(info), indent=2) if options.json else weights_text(info))
