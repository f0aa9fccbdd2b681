"""The arguments of a training: those of ``overtile train``, and of its submission."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence

from pipeline.base.errors import TrainingError
from pipeline.base.text import counted

from ..options.cluster import ClusterOptions
from ..options.declared import options_of, valued, words_of
from ..options.train import LabelledVolume, TrainFiles, TrainingPlanOptions, TrainOptions
from .arguments import add_options, help_text, read_options

_KINDS = {"": "training", "validation-": "validation only"}
"""Beginning of the options of a pair, and what the pair is for."""


def add_training(parser: argparse.ArgumentParser, *, without: Collection[str] = ()) -> None:
    """Add the labelled volumes, the options of a training and its cluster, except some fields."""
    pairs = parser.add_argument_group("labelled volumes")
    for kind, use in _KINDS.items():
        for option in options_of(LabelledVolume):
            pairs.add_argument(
                f"--{kind}{option.field}", action="append", default=[], metavar=option.metavar,
                help=f"{help_text(option)}; for {use}, repeatable",
            )  # fmt: skip
    add_options(parser, TrainOptions, TrainFiles, ClusterOptions, without=("workers", *without))


def add_plan(parser: argparse.ArgumentParser) -> None:
    """Add the options that show a plan instead."""
    add_options(parser, TrainingPlanOptions)
    parser.add_argument("--json", action="store_true", help="with --plan: print it as JSON")


def read_training(options: argparse.Namespace) -> tuple[list[LabelledVolume], TrainOptions]:
    """Return the volumes to train on, and how. Raises TrainingError, PlanError."""
    volumes = _paired(options.volume, options.labels, "")
    held_out = _paired(options.validation_volume, options.validation_labels, "validation-")
    return volumes, read_options(TrainOptions, options, validation_volumes=held_out)


def training_words(
    volumes: Sequence[LabelledVolume], out: str, parameters: TrainOptions
) -> tuple[str, ...]:
    """Return the arguments of ``overtile train``: the volumes, WEIGHTS, all but the defaults."""
    words: list[str] = []
    pairs = (volumes, parameters.validation_volumes)
    for kind, those in zip(_KINDS, pairs, strict=True):
        for pair in those:
            words += valued(f"--{kind}volume", pair.volume)
            words += valued(f"--{kind}labels", pair.labels)
    return (*words, *valued("--out", out), *words_of(parameters))


def _paired(volumes: list[str], labels: list[str], kind: str) -> list[LabelledVolume]:
    """Return volumes with their labels, paired in the order given. Raises TrainingError."""
    if len(volumes) != len(labels):
        raise TrainingError(
            f"{counted(len(volumes), f'--{kind}volume')} and {len(labels)} --{kind}labels: "
            f"expected one --{kind}labels for each --{kind}volume"
        )
    pairs = zip(volumes, labels, strict=True)
    return [LabelledVolume(volume=volume, labels=label) for volume, label in pairs]
