"""``overtile convert``: writes any image that overtile reads as OME-Zarr."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from ..options.cluster import ClusterOptions
from ..options.convert import ConvertFiles, ConvertOptions
from ..signals.drain import Drain, drain_on_signal
from ..text.terminal import say, shown
from .arguments import add_options, read_options

if TYPE_CHECKING:
    from pipeline.conversion.run import ConversionRun

EXAMPLE = "overtile convert 'slices/*.tif' brain.zarr"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``overtile convert``."""
    add_options(parser, ConvertFiles, ConvertOptions, ClusterOptions)


def run(options: argparse.Namespace) -> None:
    """Convert an image and show the progress."""
    with drain_on_signal() as drain:  # before the imports, which are slow
        from deploy import open_cluster
        from pipeline.conversion.prepare import prepare_conversion
        from pipeline.conversion.run import ConversionRun

        from ..preflight.checks import check_before_start
        from ..text.conversion import result_lines, start_lines

        request = read_options(ConvertOptions, options).request(
            input=options.input, output=options.output
        )
        spec = read_options(ClusterOptions, options).spec()
        prepared = prepare_conversion(request)
        with open_cluster(spec, tell=say) as client:
            check_before_start(client, tell=say)
            conversion = ConversionRun.start(prepared, client)
            for line in start_lines(prepared):
                say(line)
            conversion.complete(partial(_watched, drain))
            for line in result_lines(conversion):
                say(line)


@contextmanager
def _watched(drain: Drain, conversion: ConversionRun) -> Iterator[None]:
    """Show the progress while inside, and let a signal drain the conversion."""
    drain.begin(conversion)
    with shown(conversion):
        yield
