"""From the options of the shell or the flow to a training that can begin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.base.errors import VolumeError
from pipeline.base.location import Location
from pipeline.volume.find_labels import ReadAs
from pipeline.volume.labelled_volumes import open_labelled
from unet.recipe.config_file import read_config
from unet.training import prepare
from unet.training.prepare import PreparedTraining
from unet.training.start.weights import StartWeights

from ..options.train import LabelledVolume, TrainOptions

_TABLES = {
    "training": (
        "preset",
        "freeze",
        "steps",
        "batch",
        "seed",
        "metric",
        "patience",
        "kept_weights",
    ),
    "labels": ("rule", "ignore", "object_class"),
}
"""Options that override a setting of the config file, by its table."""


def prepare_training(
    volumes: Sequence[LabelledVolume], out: str, options: TrainOptions
) -> PreparedTraining:
    """Return a training that can begin. Nothing is written. Raises kinds of OvertileError."""
    config = overridden(read_config(options.config) if options.config else {}, options)
    start = StartWeights.of(options.start_from)
    taken_over = None if start is None else start.normalisation
    opened = open_labelled(
        list(map(_locations, volumes)),
        validation=list(map(_locations, options.validation_volumes)),
        validation_slices=options.validation_slices,
        normalisation=options.normalisation or taken_over,
        read=ReadAs(
            channel=options.channel, level=options.level, time=options.time, axes=options.axes,
            voxel_size_um=options.voxel_size_um,
        ),
    )  # fmt: skip
    return prepare.prepare_training(
        opened,
        out,
        config=config,
        ranks=options.ranks,
        resume=options.resume,
        dtype=options.dtype,
        start_from=start,
    )


def overridden(config: dict[str, Any], options: TrainOptions) -> dict[str, Any]:
    """Return the tables of a config with the settings replaced that the options set."""
    tables = {
        table: {**config.get(table, {}), **_set(options, names)} for table, names in _TABLES.items()
    }
    return {**config, **tables, **_set(options, ("class_names",))}


def _set(options: TrainOptions, names: Sequence[str]) -> dict[str, Any]:
    values = {name: getattr(options, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def _locations(volume: LabelledVolume) -> tuple[Location, Location]:
    pair = Location.parse(volume.volume), Location.parse(volume.labels)
    for location in pair:
        if location.scheme == "memory":
            raise VolumeError(
                f"{location}: workers are other processes, which cannot read it; use a path or "
                "s3://BUCKET"
            )
    return pair
