"""``overtile segment``: segments a volume."""

from __future__ import annotations

import argparse

from ..options.cluster import ClusterOptions
from ..options.declared import words_of
from ..options.objects import ObjectDefinition, WithObjects
from ..options.segment import SegmentFiles, SegmentOptions
from ..signals.drain import drain_on_signal
from ..signals.stop import nothing_begun
from .arguments import add_options, read_options
from .local_workers import expect_workers
from .object_arguments import read_definition, read_segment_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``overtile segment``."""
    add_options(parser, SegmentFiles, SegmentOptions, WithObjects, ObjectDefinition, ClusterOptions)


def run(options: argparse.Namespace) -> None:
    """Segment a volume and show the progress."""
    with drain_on_signal() as drain:  # before the imports, which are slow
        with nothing_begun():
            expect_workers(options, with_torch=True)
            from ..segmentation.run import run_segmentation

        cluster = read_options(ClusterOptions, options)
        run_segmentation(
            input=options.input,
            output=options.output,
            weights=options.weights,
            options=read_segment_options(options),
            objects=read_definition(options),
            spec=cluster.spec(),
            cluster=words_of(cluster),
            drain=drain,
        )
