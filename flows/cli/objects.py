"""``overtile objects``: finds every object of a volume once, with ids, from its scores."""

from __future__ import annotations

import argparse

from ..options.cluster import ClusterOptions
from ..options.declared import words_of
from ..options.objects import ObjectsFiles, ObjectsOptions
from ..signals.drain import drain_on_signal
from ..signals.stop import nothing_begun
from ..text.terminal import say
from .arguments import add_options, read_options
from .local_workers import expect_workers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``overtile objects``."""
    add_options(parser, ObjectsFiles, ObjectsOptions, ClusterOptions)


def run(options: argparse.Namespace) -> None:
    """Find the objects and show the progress."""
    with drain_on_signal() as drain:  # before the imports, which are slow
        with nothing_begun():
            expect_workers(options)
            from deploy import open_cluster
            from pipeline.objects.preparation.prepare import prepare_objects
            from pipeline.objects.run import ObjectsRun

            from ..metrics.publish import published
            from ..metrics.work import Work
            from ..preflight.checks import check_before_start
            from ..segmentation.on_cluster import is_existing
            from ..segmentation.run import find_objects
            from ..text.next_commands import objects_commands_after

        parameters = read_options(ObjectsOptions, options)
        request = parameters.request(scores=options.scores, output=options.output)
        cluster = read_options(ClusterOptions, options)
        spec = cluster.spec()
        prepared = prepare_objects(request)
        commands = objects_commands_after(
            scores=options.scores, output=options.output, options=parameters,
            cluster=words_of(cluster),
        )  # fmt: skip
        with open_cluster(spec, notify=say) as client:
            check_before_start(client, notify=say)
            run = ObjectsRun.start(prepared, client)
            with published(
                client.dashboard_link, output=str(prepared.request.output),
                is_existing=is_existing(spec),
            ) as works:  # fmt: skip
                works.append(Work(run=run, name="objects", objects=lambda: run.objects))
                find_objects(run, drain=drain, is_alone=True, commands=commands)
