"""``overtile weights``: shows the contents of a weights file, or lists the bundled ones."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from itertools import pairwise

from pipeline.base.errors import WeightsError

from ..options.weights import WeightsFiles, WeightsOptions
from ..text.terminal import say, show
from .arguments import add_options, read_options

LIST = "list"
"""Instead of a file: all bundled weights. A file of this name is ``./list``."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``overtile weights``."""
    add_options(parser, WeightsFiles, WeightsOptions)
    parser.add_argument("--json", action="store_true", help="print the contents as JSON")


def run(options: argparse.Namespace) -> None:
    """Print network, classes, normalisation and provenance of a weights file."""
    if options.weights == LIST:
        show_bundled(as_json=options.json)
        return
    from unet import read_weights_info

    from ..text.weights import weights_json, weights_text

    shown = _copied(options.weights, read_options(WeightsOptions, options))
    info = read_weights_info(shown)
    show(json.dumps(weights_json(info), indent=2) if options.json else weights_text(info))


def asks_for_list(arguments: Sequence[str]) -> bool:
    """Return whether a command's arguments have ``--weights list``, which shows the bundled ones.

    >>> asks_for_list(["segment", "--weights", "list"]), asks_for_list(["segment", "list"])
    (True, False)
    """
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return ("--weights", LIST) in pairwise(options) or f"--weights={LIST}" in options


def show_bundled(*, as_json: bool = False) -> None:
    """Print what the bundled weights are for."""
    from ..text.bundled import bundled_json, bundled_text

    show(json.dumps(bundled_json(), indent=2) if as_json else bundled_text())


def _copied(weights: str, options: WeightsOptions) -> str:
    """Return the weights to show: those given, or the copy that the options ask for."""
    if options.voxel_size_um is None and options.out is None:
        return weights
    if options.voxel_size_um is None or options.out is None:
        raise WeightsError(
            "--voxel-size and --out belong together: pass the voxel size, and the path of the copy "
            "that states it"
        )
    from unet.weights.file import copy_with_voxel_size

    copy_with_voxel_size(weights, options.out, options.voxel_size_um)
    say(f"weights: {options.out}")
    return options.out
