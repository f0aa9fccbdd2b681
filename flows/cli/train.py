"""``overtile train``: its arguments, and what it does."""

from __future__ import annotations

import argparse
from typing import Any

from pipeline.base.errors import RunStoppedError, TrainingError
from pipeline.base.text import counted

from ..signals.interrupted import interrupted
from ..text.terminal import say
from .arguments import checked, number_or_name, slices


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``overtile train``."""
    pairs = parser.add_argument_group("what is learnt from")
    pairs.add_argument(
        "--volume", action="append", default=[], metavar="URI", dest="volumes",
        help="grey values: OME-Zarr, or a Zarr array; may be given several times",
    )  # fmt: skip
    pairs.add_argument(
        "--labels", action="append", default=[], metavar="URI",
        help="labels of the volume before it, of the same shape: classes, or ids of objects",
    )  # fmt: skip
    pairs.add_argument(
        "--validation-volume", action="append", default=[], metavar="URI",
        dest="validation_volumes", help="held out of training, to validate on",
    )  # fmt: skip
    pairs.add_argument(
        "--validation-labels", action="append", default=[], metavar="URI", help="its labels"
    )
    pairs.add_argument(
        "--validation-slices", type=slices, metavar="A:B",
        help="slices A to B-1 of every volume are held out, to validate on",
    )  # fmt: skip
    pairs.add_argument(
        "--level", type=number_or_name, metavar="L", help="resolution level, by number or name"
    )
    pairs.add_argument(
        "--channel", type=number_or_name, metavar="C", help="channel by index or name "
        "(default: all)",
    )  # fmt: skip
    pairs.add_argument(
        "--normalisation", metavar="KIND[:LOW:HIGH]",
        help="none, dtype, range:LOW:HIGH, percentile:LOW:HIGH or zscore "
        "(default: dtype for uint8, else zscore)",
    )  # fmt: skip
    meaning = parser.add_argument_group("what labels mean")
    meaning.add_argument(
        "--rule", choices=["classes", "foreground", "boundary"],
        help="classes (default); of object ids: foreground against background, or boundaries",
    )  # fmt: skip
    meaning.add_argument("--ignore", type=int, metavar="N", help="label of what nobody knows")
    meaning.add_argument(
        "--object-class", type=int, metavar="C",
        help="class whose connected parts are the objects that border weights keep apart",
    )  # fmt: skip
    meaning.add_argument(
        "--class-names", type=lambda text: text.split(","), metavar="A,B",
        help="one name per class, background first",
    )  # fmt: skip
    how = parser.add_argument_group("how it is learnt")
    how.add_argument(
        "--out", required=True, metavar="WEIGHTS",
        help="weights file to be made; checkpoints, log and pictures go beside it, in "
        "WEIGHTS-without-ending.training",
    )  # fmt: skip
    how.add_argument(
        "--config", metavar="FILE.toml", help="network, training and labels; options go first"
    )
    how.add_argument(
        "--preset", choices=["default", "unet-2015"],
        help="recipe to start from; unet-2015 is the paper's",
    )  # fmt: skip
    how.add_argument("--steps", type=int, metavar="N", help="steps of the optimiser")
    how.add_argument("--batch", type=int, metavar="N", help="patches per step, over all ranks")
    how.add_argument("--seed", type=int, metavar="N", help="of every random number (default: 0)")
    how.add_argument(
        "--dtype", choices=["float32", "float16"], default="float32",
        help="how the weights are stored (default: float32)",
    )  # fmt: skip
    how.add_argument(
        "--resume", action="store_true",
        help="go on from the last checkpoint of the same training, if there is one",
    )  # fmt: skip
    where = parser.add_argument_group("where it is computed")
    where.add_argument(
        "--cluster", default="local", metavar="local|ADDRESS|SCHEDULER_FILE",
        help="where the Dask workers are (default: local)",
    )  # fmt: skip
    where.add_argument(
        "--ranks", type=int, metavar="N",
        help="workers that train together (default: one on a local cluster, else all)",
    )  # fmt: skip


_OPTION_FIELDS = (
    "config", "preset", "steps", "batch", "seed", "rule", "ignore", "object_class", "class_names",
    "channel", "level", "normalisation", "validation_slices", "ranks", "dtype", "resume",
)  # fmt: skip


def run(options: argparse.Namespace) -> None:
    """Train, and tell a person about it."""
    try:
        _run(options)
    except (KeyboardInterrupt, Exception) as error:
        if not interrupted(error):
            raise
        # Ctrl-C or SIGTERM: the ranks have saved what they had
        from ..training.checks import places
        from ..training.run import stopped_text

        _, directory = places(options.out)
        raise RunStoppedError(stopped_text(directory)) from None


def _run(options: argparse.Namespace) -> None:
    from deploy import open_cluster

    from ..options.segment import ClusterOptions
    from ..options.train import TrainOptions, training_cluster
    from ..preflight.checks import check_before_start
    from ..training.prepare import prepare_training
    from ..training.progress import done_text, shown_on_terminal, start_lines
    from ..training.run import run_interruptibly

    values = {name: getattr(options, name) for name in _OPTION_FIELDS}
    volumes = _paired(options.volumes, options.labels, "")
    held_out = _paired(options.validation_volumes, options.validation_labels, "validation-")
    parameters = checked(TrainOptions, validation_volumes=held_out, **values)
    cluster = checked(ClusterOptions, cluster=options.cluster)
    spec = training_cluster(cluster, ranks=parameters.ranks)
    prepared = prepare_training(volumes, options.out, parameters)
    if prepared.is_done:
        say(done_text(prepared))
        return
    for line in start_lines(prepared):
        say(line)
    with open_cluster(spec) as client:
        say(f"dashboard: {client.dashboard_link}")
        check_before_start(client, tell=say)
        with shown_on_terminal() as listener:
            end = run_interruptibly(prepared, client, listeners=[listener])
    say(f"done: {counted(end.step, 'step')}; weights: {prepared.out}")
    say(f"log, checkpoints and pictures: {prepared.directory}")


def _paired(volumes: list[str], labels: list[str], kind: str) -> list[Any]:
    """Return volumes with their labels, in the order in which both were given."""
    from ..options.train import LabelledVolume

    if len(volumes) != len(labels):
        raise TrainingError(
            f"{counted(len(volumes), f'--{kind}volume')} and {len(labels)} --{kind}labels: give "
            "labels for each volume"
        )
    pairs = zip(volumes, labels, strict=True)
    return [LabelledVolume(volume=volume, labels=label) for volume, label in pairs]
