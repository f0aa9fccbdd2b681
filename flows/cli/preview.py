"""``overtile preview``: segments a few small boxes and shows them as a picture."""

from __future__ import annotations

import argparse

from ..options.declared import options_of
from ..options.preview import NOT_USED, PLACES, PreviewBox, PreviewOptions
from ..options.segment import SegmentFiles, SegmentOptions
from ..text.terminal import say, show
from .arguments import add_options, help_text, parser_of, read_options

MAKER = "overtile preview"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``overtile preview``."""
    add_options(parser, SegmentFiles, SegmentOptions, without={"output", *NOT_USED})
    group = parser.add_argument_group(PLACES)
    for option in options_of(PreviewBox):
        group.add_argument(
            option.name, dest="places", action="append", default=[],
            type=parser_of(option.spelling), metavar=option.metavar,
            help=f"{help_text(option)}; repeatable",
        )  # fmt: skip
    add_options(parser, PreviewOptions)


def run(options: argparse.Namespace) -> None:
    """Segment a few boxes, write the picture, and show it where the terminal can."""
    from pipeline.base.geometry import Box
    from pipeline.preview.preview import preview_volume
    from pipeline.volume.size_text import size_line

    from ..text.picture_file import check_picture_place, write_picture
    from ..text.terminal_picture import show_picture

    parameters = read_options(SegmentOptions, options)
    out = read_options(PreviewOptions, options).out
    request = parameters.request(input=options.input, output=out)
    path = check_picture_place(out, source=options.input, maker=MAKER)
    boxes = [Box(*corners) for corners in options.places]
    preview = preview_volume(request, parameters.predictor(options.weights), boxes=boxes)
    write_picture(path, preview.picture, maker=MAKER)
    say(size_line(preview.source))
    for note in preview.notes:
        say(f"note: {note}")
    show_picture(preview.picture)
    show(f"preview: {out}")
