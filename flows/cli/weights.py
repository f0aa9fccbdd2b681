"""``overtile weights``: shows the contents of a weights file."""

from __future__ import annotations

import argparse
import json

EXAMPLE = "overtile weights demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``overtile weights``."""
    parser.add_argument(
        "weights", metavar="FILE", help="weights file, or the name of bundled weights"
    )
    parser.add_argument("--json", action="store_true", help="print the contents as JSON")


def run(options: argparse.Namespace) -> None:
    """Print network, classes, normalisation and provenance of a weights file."""
    from unet import read_weights_info

    from ..text.weights import weights_json, weights_text

    info = read_weights_info(options.weights)
    print(json.dumps(weights_json(info), indent=2) if options.json else weights_text(info))
