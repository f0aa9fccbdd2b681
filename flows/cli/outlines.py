"""``overtile outlines``: writes the outlines of objects as GeoJSON, for QuPath."""

from __future__ import annotations

import argparse
from dataclasses import replace

from ..options.outlines import OutlinesFiles, OutlinesOptions
from ..text.terminal import Counter, say
from .arguments import add_options, read_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``overtile outlines``."""
    add_options(parser, OutlinesFiles, OutlinesOptions)


def run(options: argparse.Namespace) -> None:
    """Write the outlines, in this process."""
    from pipeline.base.errors import OutputError
    from pipeline.base.location import Location
    from pipeline.base.text import counted
    from pipeline.objects.outlines.pixel_grid import PixelGrid, grid_of_image
    from pipeline.objects.outlines.write_outlines import check_outlines, write_outlines
    from pipeline.objects.table.finished import find_finished

    parameters = read_options(OutlinesOptions, options)
    objects = find_finished(Location.parse(options.objects))
    target = Location.parse(options.out, kind=OutputError)
    check_outlines(objects, target, overwrite=parameters.overwrite)
    grid = PixelGrid()
    if parameters.image is not None:
        image = Location.parse(parameters.image)
        grid = grid_of_image(objects.labels, image, output=objects.output)
    named = replace(objects, name=parameters.name or objects.name)
    count = write_outlines(named, target, grid=grid, on_objects=Counter("objects"))
    say(f"outlines: {counted(count, 'object')} of class {named.name} in {target}")
