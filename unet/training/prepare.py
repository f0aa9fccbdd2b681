"""From volumes and a config to a training that can begin; bad input is refused here."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.base.errors import TrainingError

from ..recipe.training_config import Recipe
from ..samples.label_meaning import check_painted
from ..samples.sampling import Shape, Survey
from . import checks
from .checkpoint import load_newest, newest_checkpoint
from .complete_recipe import complete_recipe
from .label_notes import label_notes
from .loop import TrainingJob
from .network_notes import network_notes
from .occurring_classes import check_classes_occur
from .progress import Progress
from .same_training import check_same_training, random_numbers_note, with_surveys
from .selection.settings import check_selection
from .selection.weights_files import WeightsFacts, kept_of
from .start.notes import start_notes, stated_voxel_size
from .start.recipe import check_freeze
from .start.weights import StartWeights, check_not_replaced, check_same_start, start_record
from .suggest import least_core, settled_core
from .volumes import TrainingVolumes


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedTraining:
    """A training in which everything is decided but the batch, which may depend on the devices."""

    volumes: TrainingVolumes
    recipe: Recipe
    surveys: tuple[Survey, ...]
    """Of the labels that are trained on."""
    validation_surveys: tuple[Survey, ...]
    core: Shape
    data_sets: Mapping[str, Any]
    """What the volumes are, as JSON."""
    out: Path
    """The weights file to create."""
    directory: Path
    """For checkpoints, log and pictures."""
    dtype: Any
    ranks: int | None
    """As requested; None: as many as there are workers."""
    batch: int | None
    """Patches per step, of the config or of the checkpoint."""
    progress: Progress
    """At the checkpoint that this training resumes from."""
    is_done: bool = False
    """The weights of this training exist, and nothing is left to do."""
    notes: tuple[str, ...] = ()
    """What the user should know before it begins, a line each."""
    start: StartWeights | None = None
    """The weights that it starts from; None: random ones."""

    @property
    def done_steps(self) -> int:
        """Steps of the checkpoint that this training resumes from."""
        return self.progress.step

    def job(self, *, batch: int) -> TrainingJob:
        """Return what every rank needs. Raises TrainingError for volumes that are not measured."""
        if not self.volumes.is_measured:
            raise TrainingError(
                "the grey values are not measured yet: pass volumes.measured(client)"
            )
        return TrainingJob(
            recipe=self.recipe,
            volumes=tuple(self.volumes.training),
            surveys=self.surveys,
            validation=tuple(self.volumes.validation),
            validation_surveys=self.validation_surveys,
            core=self.core,
            batch=batch,
            directory=self.directory,
            data_sets=self.data_sets,
            schedule=self.progress.schedule,
            facts=self._facts(batch=batch),
            start=self.start,
        )

    def _facts(self, *, batch: int) -> WeightsFacts:
        """Return what every weights file of this training states."""
        return WeightsFacts(
            normalisation=self.volumes.normalisation,
            class_names=self.recipe.class_names,
            voxel_size_um=stated_voxel_size(
                self.volumes.voxel_size_um, self.start, dims=self.recipe.network.dims
            ),
            input_percentiles=self.volumes.input_percentiles(),
            provenance={
                "data": dict(self.data_sets),
                "recipe": self.recipe.to_dict(),
                **start_record(self.start),
                "batch": batch,
                "core_zyx": list(self.core),
            },
        )


def prepare_training(
    volumes: TrainingVolumes,
    out: str | Path,
    *,
    config: Mapping[str, Any],
    ranks: int | None = None,
    resume: bool = False,
    dtype: str = "float32",
    start_from: str | os.PathLike[str] | StartWeights | None = None,
) -> PreparedTraining:
    """Return a training that can begin. Nothing is written. Raises kinds of OvertileError.

    config: tables as in a config file; see :func:`unet.train_unet` for the others.
    """
    start = StartWeights.of(start_from)
    path, directory = checks.output_paths(str(out))
    check_not_replaced(start, path)
    checks.check_nothing_is_lost(path, directory, resume=resume)
    recipe = complete_recipe(config, volumes.training, start)
    _check_start(start, recipe, directory)
    volumes = volumes.grown(least_core(recipe.network, recipe.training.patch))
    everything = [*volumes.training, *volumes.validation]
    check_selection(recipe, validates=bool(volumes.validation))
    checks.check_channels(everything, recipe.network)
    check_painted(everything, recipe.labels, recipe.class_names or ())
    surveys = checks.survey_boxes(volumes.training, recipe)
    validation_surveys = checks.survey_boxes(volumes.validation, recipe)
    surveyed = list(zip(everything, (*surveys, *validation_surveys), strict=True))
    core = _core(volumes, surveys, recipe)
    _check_classes(volumes, (surveys, validation_surveys), recipe, start, directory)
    prepared = PreparedTraining(
        volumes=volumes,
        recipe=recipe,
        surveys=surveys,
        validation_surveys=validation_surveys,
        core=core,
        data_sets=with_surveys(volumes.description(), surveys, validation_surveys),
        out=path,
        directory=directory,
        dtype=dtype,
        ranks=ranks,
        batch=recipe.training.batch,
        progress=Progress.at_start(recipe),
        notes=(
            *_start_notes(start, volumes),
            *network_notes(volumes, recipe, config, start),
            *label_notes(volumes, surveys, validation_surveys, recipe),
            *checks.bad_value_notes(surveyed),
        ),
        start=start,
    )
    if newest_checkpoint(directory):
        prepared = _resumed(prepared)
    checks.check_ranks(ranks, batch=prepared.batch)
    return prepared


def _check_start(start: StartWeights | None, recipe: Recipe, directory: Path) -> None:
    """Raise TrainingError or WeightsError for weights that this training cannot start from."""
    check_freeze(recipe, start)
    if start is not None and not newest_checkpoint(directory):
        start.check_tensors()


def _check_classes(
    volumes: TrainingVolumes,
    surveys: tuple[tuple[Survey, ...], tuple[Survey, ...]],
    recipe: Recipe,
    start: StartWeights | None,
    directory: Path,
) -> None:
    """Raise LabelError for classes that neither these labels have nor the network has learned."""
    is_resumed = newest_checkpoint(directory) is not None
    has_learned = is_resumed or (start is not None and start.takes_head(recipe))
    of_training, held_out = surveys
    check_classes_occur(
        volumes.training, of_training, recipe, held_out=held_out, has_learned=has_learned
    )


def _core(volumes: TrainingVolumes, surveys: tuple[Survey, ...], recipe: Recipe) -> Shape:
    """Return the core of a patch, which fits every box that has known labels."""
    pairs = zip(volumes.training, surveys, strict=True)
    shapes = [box.shape_zyx for box, survey in pairs if survey.known_voxels]
    core = settled_core(recipe.network, recipe.training.patch, shapes)
    checks.check_offsets_are_seen(recipe, core)
    return core


def _start_notes(start: StartWeights | None, volumes: TrainingVolumes) -> Iterator[str]:
    record, sizes = volumes.normalisation, volumes.voxel_size_um
    return start_notes(start, normalisation=record, voxel_size_um=sizes)


def _resumed(prepared: PreparedTraining) -> PreparedTraining:
    """Return the training as it resumes from its last checkpoint. Raises TrainingError."""
    notes = list(prepared.notes)
    checkpoint = load_newest(prepared.directory, note=notes.append)
    assert checkpoint is not None
    recipe, data_sets, record = prepared.recipe, prepared.data_sets, checkpoint.record
    check_same_start(record, prepared.start)
    check_same_training(record, recipe, data_sets)
    if note := random_numbers_note(record, recipe, prepared.surveys):
        notes.append(note)
    core = list(prepared.core)
    if (patch := record.get("patch", core)) != core:
        raise TrainingError(
            f"the checkpoint was made with patches of {patch}, now they are {core}: resume with "
            "the same config and data, or choose another --out"
        )
    resumed = replace(
        prepared,
        batch=prepared.batch or record.get("batch"),
        progress=prepared.progress.longer(checkpoint),
        notes=tuple(notes),
    )
    return replace(resumed, is_done=_is_done(resumed))


def _is_done(resumed: PreparedTraining) -> bool:
    """Return whether the weights file that this training ends with exists.

    Raises TrainingError for a file of another training.
    """
    if not resumed.out.exists():
        return False
    progress, recipe = resumed.progress, resumed.recipe
    info = checks.weights_of_this_training(
        resumed.out, recipe, resumed.data_sets, progress.schedule, resumed.start
    )
    stated, selection = info.provenance, progress.selection
    step = selection.step if kept_of(recipe, selection) == "best" else progress.step
    return (
        progress.is_over
        and info.dtype == resumed.dtype
        and stated.get("steps") == step
        and stated.get("steps_trained", step) == progress.step
    )
