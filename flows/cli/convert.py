"""``overtile convert``: writes any image that overtile reads as OME-Zarr, or for other programs."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

from pipeline.base.text import printable

from ..options.cluster import ClusterOptions
from ..options.convert import ConvertFiles, ConvertOptions
from ..signals.drain import Drain, drain_on_signal
from ..signals.stop import nothing_begun
from ..text.terminal import Counter, say, shown
from .arguments import add_options, read_options
from .local_workers import expect_workers

if TYPE_CHECKING:
    from pipeline.conversion.run import ConversionRun


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``overtile convert``."""
    add_options(parser, ConvertFiles, ConvertOptions, ClusterOptions)


def run(options: argparse.Namespace) -> None:
    """Convert an image and show the progress."""
    parameters = read_options(ConvertOptions, options)
    if (export := _EXPORTS.get(parameters.format_of(options.output))) is not None:
        export(parameters, input=options.input, output=options.output)
        return
    with drain_on_signal() as drain:  # before the imports, which are slow
        with nothing_begun():
            expect_workers(options)
            from deploy import open_cluster
            from pipeline.conversion.prepare import prepare_conversion
            from pipeline.conversion.run import ConversionRun

            from ..preflight.checks import check_before_start
            from ..text.conversion import result_lines, start_lines

        request = parameters.request(input=options.input, output=options.output)
        spec = read_options(ClusterOptions, options).spec()
        prepared = prepare_conversion(request)
        with open_cluster(spec, notify=say) as client:
            check_before_start(client, notify=say)
            conversion = ConversionRun.start(prepared, client)
            for line in start_lines(prepared):
                say(line)
            conversion.complete(partial(_watched, drain))
            for line in result_lines(conversion):
                say(line)


def export_precomputed(parameters: ConvertOptions, *, input: str, output: str) -> None:  # noqa: A002
    """Write labels as a Precomputed segmentation, in this process."""
    from pipeline.base.errors import OutputError
    from pipeline.base.location import Location
    from pipeline.conversion.precomputed import export_labels
    from pipeline.evaluation.labels_inside import class_names_of, labels_in
    from pipeline.volume.given_size import with_voxel_size
    from pipeline.volume.size_text import size_line
    from pipeline.volume.volume import find_volume

    parameters.check_zarr_options(output)
    if parameters.overwrite:
        raise OutputError(f"{output}: --overwrite is for OME-Zarr; delete the folder first")
    location = Location.parse(input)
    target = Location.parse(output, kind=OutputError)
    source = find_volume(
        labels_in(location), level=parameters.level, channel=parameters.channel,
        time=parameters.time, axes=parameters.axes,
    )  # fmt: skip
    source = with_voxel_size(source, parameters.voxel_size_um)
    names = class_names_of(location)
    layer = export_labels(source, target, class_names=names, on_box=Counter("boxes of 256³ voxels"))
    say(size_line(source))
    for note in (*source.notes, *layer.notes):
        say(f"note: {note}")
    say(f"labels: {target}; open precomputed://URL in Neuroglancer, where URL serves this folder")


def export_to_tiff(parameters: ConvertOptions, *, input: str, output: str) -> None:  # noqa: A002
    """Write an image as one TIFF file, in this process."""
    from pipeline.base.errors import OutputError, RunStoppedError
    from pipeline.base.location import Location
    from pipeline.base.text import counted
    from pipeline.conversion.tiff import export_tiff
    from pipeline.volume.given_size import with_voxel_size
    from pipeline.volume.size_text import size_line
    from pipeline.volume.volume import find_volume

    parameters.check_zarr_options(output)
    target = Location.parse(output, kind=OutputError)
    source = find_volume(
        input, level=parameters.level, channel=parameters.channel, time=parameters.time,
        axes=parameters.axes, holds="anything",
    )  # fmt: skip
    source = with_voxel_size(source, parameters.voxel_size_um)
    try:
        layout = export_tiff(
            source, target, overwrite=parameters.overwrite, on_planes=Counter("planes")
        )
    except KeyboardInterrupt:
        raise RunStoppedError("stopped: nothing was written") from None
    say(size_line(source))
    for note in (*source.notes, *layout.notes):
        say(f"note: {note}")
    pages = counted(layout.shape[0] * layout.shape[1], "page")
    say(f"image: {printable(str(target))} ({layout.kind} TIFF, {pages} of {layout.dtype})")


_EXPORTS: Final = {"precomputed": export_precomputed, "tiff": export_to_tiff}


@contextmanager
def _watched(drain: Drain, conversion: ConversionRun) -> Iterator[None]:
    """Show the progress while inside, and let a signal drain the conversion."""
    drain.begin(conversion)
    with shown(conversion):
        yield
