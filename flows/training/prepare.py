"""From what a user asks for to a training job; whatever is wrong shows here, before it begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from pipeline.base.errors import TrainingError, VolumeError
from pipeline.base.geometry import Box
from pipeline.base.location import Location
from pipeline.volume.fingerprint import read_sample
from pipeline.volume.intensity import check_record, parse_record
from pipeline.volume.labelled import LabelledBox, find_labelled
from pipeline.volume.measure_intensity import measure_intensity
from pipeline.volume.volume import VolumeSource
from unet.recipe.training_config import Recipe
from unet.samples.sampling import Survey
from unet.training.checkpoint import load_newest, newest_checkpoint
from unet.training.loop import TrainingJob, check_same_training
from unet.training.suggest import settled_core

from ..options.train import LabelledVolume, TrainOptions
from . import checks as training_checks
from .picture import draw_validation
from .recipe import settled_recipe

if TYPE_CHECKING:
    from deploy import Client


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedTraining:
    """A training with everything decided but grey-value statistics and the number of ranks."""

    recipe: Recipe
    training: tuple[LabelledBox, ...]
    validation: tuple[LabelledBox, ...]
    surveys: tuple[Survey, ...]
    core: tuple[int, int, int]
    record: Mapping[str, Any]
    """The normalisation, as the weights will state it."""
    out: Path
    directory: Path
    ranks: int | None
    dtype: Any
    is_done: bool = False
    """The weights of this very training are there, and nothing is left to do."""
    notes: tuple[str, ...] = ()
    """What a person should know before it begins, a line each."""
    done_steps: int = 0
    """Of an earlier start that this one goes on from."""
    batch_before: int | None = None
    """Patches per step of that start."""

    def job(self, client: Client, *, batch: int) -> TrainingJob:
        """Return what every rank is told; measures the volumes where the normalisation says so."""
        measured: dict[str, Any] = {}

        def ready(box: LabelledBox) -> LabelledBox:
            key = box.raw.metadata_digest
            if key not in measured:
                measured[key] = measure_intensity(
                    box.raw, self.record, client, token=uuid4().hex[:12]
                )
            return replace(box, intensity=measured[key])

        return TrainingJob(
            recipe=self.recipe,
            volumes=tuple(map(ready, self.training)),
            surveys=self.surveys,
            validation=tuple(map(ready, self.validation)),
            core=self.core,
            batch=batch,
            directory=self.directory,
            data_sets=data_sets(self),
            draw=draw_validation,
        )


def prepare_training(
    volumes: Sequence[LabelledVolume], out: str, options: TrainOptions
) -> PreparedTraining:
    """Return a training that can begin. Nothing is written. Raises kinds of OvertileError."""
    if not volumes:
        raise TrainingError("no volume to train on: give --volume and --labels")
    path, directory = training_checks.places(out)
    training_checks.check_nothing_is_lost(path, directory, resume=options.resume)
    pairs = [_found(volume, options) for volume in volumes]
    held_out = [_found(volume, options) for volume in options.validation_volumes]
    training, validation = _boxes(pairs, options.validation_slices)
    validation += [_whole(*pair) for pair in held_out]
    recipe = settled_recipe(options, training)
    training_checks.check_channels([*training, *validation], recipe.network)
    shapes = [box.shape_zyx for box in training]
    core = settled_core(recipe.network, recipe.training.patch, shapes)
    record = check_record(
        parse_record(options.normalisation) if options.normalisation else _suited(training),
        training[0].raw.dtype,
    )
    for box in [*training, *validation]:
        check_record(record, box.raw.dtype)
    looked = [(box, training_checks.check_labels(box, recipe)) for box in [*training, *validation]]
    surveys = tuple(labels for _, labels in looked[: len(training)])
    training_checks.check_several_classes(training, surveys)
    prepared = PreparedTraining(
        recipe=recipe,
        training=tuple(training),
        validation=tuple(validation),
        surveys=surveys,
        core=core,
        record=record,
        out=path,
        directory=directory,
        ranks=options.ranks,
        dtype=options.dtype,
        notes=tuple(training_checks.grey_values_noted(looked)),
    )
    prepared = _gone_on(prepared) if newest_checkpoint(directory) else prepared
    batch = recipe.training.batch or prepared.batch_before
    training_checks.check_ranks(options.ranks, batch=batch)
    return prepared


def data_sets(prepared: PreparedTraining) -> dict[str, Any]:
    """Return what was trained and validated on, for the provenance and to compare on resume."""

    def described(box: LabelledBox) -> dict[str, Any]:
        return {
            "volume": public_name(box.raw),
            "labels": public_name(box.labels),
            "slices": [box.box.start[0], box.box.stop[0]],
            "shape_zyx": list(box.shape_zyx),
            "volume_sample": read_sample(box.raw).digest,
            "labels_sample": read_sample(box.labels).digest,
        }

    return {
        "training": [described(box) for box in prepared.training],
        "validation": [described(box) for box in prepared.validation],
        "normalisation": dict(prepared.record),
    }


def public_name(source: VolumeSource) -> str:
    """Return where a volume is, as a stranger may read it: of a local path the last three parts."""
    location = source.location
    return "/".join(location.path.parts[-3:]) if location.is_local else str(location)


def _found(volume: LabelledVolume, options: TrainOptions) -> tuple[Any, Any]:
    raw, labels = Location.parse(volume.volume), Location.parse(volume.labels)
    for location in (raw, labels):
        if location.scheme == "memory":
            raise VolumeError(f"{location}: workers are other processes: give a path or s3://…")
    return find_labelled(raw, labels, channel=options.channel, level=options.level)


def _whole(raw: Any, labels: Any) -> LabelledBox:
    return LabelledBox(raw=raw, labels=labels, box=Box.of_shape(raw.shape_zyx))


def _boxes(
    pairs: Sequence[tuple[Any, Any]], slices: tuple[int, int] | None
) -> tuple[list[LabelledBox], list[LabelledBox]]:
    """Return what is trained on and what is held out."""
    if slices is None:
        return [_whole(*pair) for pair in pairs], []
    first, last = slices
    training: list[LabelledBox] = []
    validation: list[LabelledBox] = []
    for raw, labels in pairs:
        depth, *plane = raw.shape_zyx
        if not 0 <= first < last <= depth:
            raise TrainingError(
                f"validation slices {first}:{last} of {raw.store}, which has {depth}: give "
                f"A:B with A below B, inside 0:{depth}"
            )
        parts = ((0, first, training), (first, last, validation), (last, depth, training))
        for a, b, part in parts:
            if a < b:
                box = Box((a, 0, 0), (b, *plane))
                part.append(LabelledBox(raw=raw, labels=labels, box=box))
    if not training:
        raise TrainingError(f"validation slices {first}:{last} leave nothing to train on")
    return training, validation


def _suited(boxes: Sequence[LabelledBox]) -> dict[str, Any] | None:
    """Return the dtype's range where all volumes share one small dtype, else mean and spread."""
    dtypes = {box.raw.dtype for box in boxes}
    return {"kind": "dtype"} if dtypes == {"uint8"} else {"kind": "zscore"}


def _gone_on(prepared: PreparedTraining) -> PreparedTraining:
    """Return the training as it goes on from its last checkpoint."""
    notes = list(prepared.notes)
    checkpoint = load_newest(prepared.directory, tell=notes.append)
    assert checkpoint is not None
    recipe, data = prepared.recipe, data_sets(prepared)
    check_same_training(checkpoint.record, recipe, data)
    core = list(prepared.core)
    if (patch := checkpoint.record.get("patch", core)) != core:
        raise TrainingError(
            f"the checkpoint was made with patches of {patch}, now they are {core}: resume with "
            "the same config and data, or give another --out"
        )
    is_made = prepared.out.exists() and training_checks.are_weights_of(
        prepared.out, recipe, data, dtype=prepared.dtype
    )
    return replace(
        prepared,
        is_done=is_made and checkpoint.step == recipe.training.steps,
        notes=tuple(notes),
        done_steps=checkpoint.step,
        batch_before=checkpoint.record.get("batch"),
    )
