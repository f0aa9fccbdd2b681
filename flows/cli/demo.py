"""``overtile demo``: segments a synthetic volume and finds its cells."""

from __future__ import annotations

import argparse

from ..text.terminal import say
from .local_workers import expect_workers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``overtile demo``."""
    parser.add_argument(
        "--directory",
        default="overtile-demo",
        metavar="DIR",
        help="folder of volume and result (default: overtile-demo)",
    )
    parser.add_argument(
        "--images",
        action="store_true",
        help="only write example images as TIFF: a stack of cells, and labelled slices to train on",
    )
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes of a local cluster (default: as many as suit the cores)",
    )


def run(options: argparse.Namespace) -> None:
    """Make a volume, segment it, find its cells and score both; or write example images."""
    if options.images:
        from ..demo.example_images import make_example_images

        images = make_example_images(options.directory)
        for path in (images.image, images.training, images.training_labels):
            say(str(path))
        return
    expect_workers(options, with_torch=True)
    from ..demo.run import run_demo

    run_demo(options.directory, workers=options.workers)
