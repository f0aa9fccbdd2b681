"""``overtile weights``: shows the contents of a weights file, or lists the bundled ones."""

from __future__ import annotations

import argparse
import json

from pipeline.base.errors import WeightsError

from ..options.weights import WeightsFiles, WeightsOptions
from ..text.terminal import say, show
from .arguments import add_options, read_options
from .bundled_list import LIST, show_bundled


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``overtile weights``."""
    add_options(parser, WeightsFiles, WeightsOptions)
    parser.add_argument("--json", action="store_true", help="print the contents as JSON")


def run(options: argparse.Namespace) -> None:
    """Print network, classes, normalisation and provenance of a weights file."""
    if options.weights == LIST:
        if options.out is not None or options.voxel_size_um is not None:
            raise WeightsError("the list has no --out and no --voxel-size: pass weights to copy")
        show_bundled(as_json=options.json)
        return
    from unet import read_weights_info

    from ..text.bundled import bundled_paragraph
    from ..text.weights import weights_json, weights_text

    shown = _copied(options.weights, read_options(WeightsOptions, options))
    info = read_weights_info(shown)
    if options.json:
        show(json.dumps(weights_json(info), indent=2))
        return
    if purpose := bundled_paragraph(options.weights):
        show(f"{purpose}\n")
    show(weights_text(info))


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
