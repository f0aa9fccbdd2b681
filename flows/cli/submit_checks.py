"""Checks of what is to be submitted: those of its command, before anything waits in a queue."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.base.errors import ClusterError
from pipeline.base.shell_words import positional
from pipeline.base.text import counted

from ..options.declared import valued, words_of
from ..options.objects import ObjectsOptions
from ..options.segment import SegmentOptions
from ..text.terminal import say
from .arguments import read_options
from .object_arguments import read_definition, read_segment_options
from .training_arguments import read_training, training_words

if TYPE_CHECKING:
    from deploy import ClusterSpec
    from pipeline.base.location import Location


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A command that could run."""

    arguments: tuple[str, ...]
    place: str
    """For ``overtile status``."""
    training: str | None = None
    """Folder of a training."""


def check(options: argparse.Namespace, cluster: ClusterSpec) -> Checked | None:
    """Return what is to run, checked as its command would; None if there is nothing to do."""
    if options.submitted == "train":
        return _of_training(options, cluster)
    of_volume = _of_objects if options.submitted == "objects" else _of_segmentation
    arguments, output = of_volume(options)
    return Checked(arguments=arguments, place=str(output))


def _of_segmentation(options: argparse.Namespace) -> tuple[tuple[str, ...], Location]:
    """Return the arguments of segment, and the output, checked as segment would."""
    parameters = read_segment_options(options)
    return segment_words(options, parameters), _checked_output(options, parameters)


def _of_objects(options: argparse.Namespace) -> tuple[tuple[str, ...], Location]:
    """Return the arguments of objects, and the output, checked as objects would."""
    from pipeline.objects.preparation.memory import check_room
    from pipeline.objects.preparation.prepare import prepare_objects

    parameters = read_options(ObjectsOptions, options)
    share = f"1/{options.shares}" if options.shares else None  # what one share accepts, all accept
    one = parameters.model_copy(update={"shard": share})
    prepared = prepare_objects(one.request(scores=options.scores, output=options.output))
    check_room(prepared)
    words = (positional(options.scores), positional(options.output), *words_of(parameters))
    return words, prepared.request.output


def _of_training(options: argparse.Namespace, cluster: ClusterSpec) -> Checked | None:
    """Return the training, which resumes from its checkpoints; None if it is finished."""
    from ..text.training_end import done_text
    from ..training.prepare import prepare_training

    volumes, parameters = read_training(options)
    parameters = parameters.model_copy(update={"resume": True})
    prepared = prepare_training(volumes, options.out, parameters)
    if prepared.is_done:
        say(done_text(prepared))
        return None
    workers = options.nodes * (cluster.job.workers if cluster.job else 1)
    ranks = _ranks(parameters.ranks, batch=prepared.batch, workers=workers)
    parameters = parameters.model_copy(update={"ranks": ranks})
    return Checked(
        arguments=training_words(volumes, options.out, parameters),
        place=options.out,
        training=str(prepared.directory),
    )


def _ranks(ranks: int | None, *, batch: int | None, workers: int) -> int:
    """Return the number of ranks; by default one per worker that gets a patch in every step.

    The job must know it: its workers do not all start at the same time. Raises ClusterError.
    """
    if ranks is None:
        return max(1, min(workers, batch or workers))
    if ranks > max(1, workers):
        raise ClusterError(
            f"{counted(ranks, 'rank')} on {counted(workers, 'worker')}: each rank needs its own "
            "worker; use more --nodes, set gpus_per_job or workers_per_job in the profile, or use "
            f"at most --ranks {workers}"
        )
    return ranks


def _checked_output(options: argparse.Namespace, parameters: SegmentOptions) -> Location:
    """Return the output, or raise the kind of OvertileError that segment would."""
    from pipeline.segmentation.prepare import prepare

    share = f"1/{options.shares}" if options.shares else None  # what one share accepts, all accept
    one = parameters.model_copy(update={"shard": share})
    request = one.request(input=options.input, output=options.output)
    prepare(request, one.predictor(options.weights))
    return request.output


def segment_words(options: argparse.Namespace, parameters: SegmentOptions) -> tuple[str, ...]:
    """Return the arguments of ``overtile segment``: INPUT, OUTPUT and all that is not a default."""
    files = [positional(options.input), positional(options.output)]
    files += valued("--weights", options.weights)
    definition = read_definition(options)
    objects = [] if definition is None else ["--objects", *words_of(definition)]
    return (*files, *words_of(parameters), *objects)
