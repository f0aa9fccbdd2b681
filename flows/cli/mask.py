"""``overtile mask``: proposes a tissue mask, as a file for ``segment --mask`` and a picture."""

from __future__ import annotations

import argparse

from ..options.mask import MaskFiles, MaskOptions
from ..text.terminal import say, show
from .arguments import add_options, read_options

MAKER = "overtile mask"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``overtile mask``."""
    add_options(parser, MaskFiles, MaskOptions)


def run(options: argparse.Namespace) -> None:
    """Write a mask and its picture, and print what is kept."""
    from pipeline.base.text import shape_text
    from pipeline.masking.propose import propose_mask, write_mask

    from ..text.picture_file import check_picture_place, write_picture
    from ..text.terminal_picture import show_picture

    parameters = read_options(MaskOptions, options)
    request = parameters.request(input=options.input, mask=options.mask)
    picture = parameters.picture or _beside(options.mask)
    path = check_picture_place(picture, source=options.input, maker=MAKER)
    proposed = propose_mask(request)
    drawn = proposed.picture()
    write_mask(proposed)
    write_picture(path, drawn, maker=MAKER)
    for note in proposed.source.notes:
        say(f"note: {note}")
    factor = "×".join(f"{f:.4g}" for f in proposed.image.factor)
    show_picture(drawn)
    show(f"tissue: {proposed.found.text} ({request.method}, {proposed.image.where})")
    show(
        f"kept: {proposed.kept:.1%} of {shape_text(proposed.mask_zyx.shape)} voxels, each "
        f"{factor} voxels of the input"
    )
    show(f"mask: {options.mask}")
    show(f"picture: {picture}")


def _beside(mask: str) -> str:
    """Return the mask's path with the suffix .png; of a remote mask, in the current folder."""
    name = mask.rstrip("/").removesuffix(".zarr").removesuffix(".ome")
    return f"{name.rsplit('/', 1)[-1] if '://' in name else name}.png"
