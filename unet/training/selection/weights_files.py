"""Weights files of a training: of the best validation while it runs, of the last step at its end.

Both are complete weights files: a segmentation can use the best weights before the training ends.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from pipeline.base.errors import TrainingFailedError, WeightsError
from pipeline.base.versions import VERSION, versions

from ...network.model import UNet
from ...recipe.schedule import StepSchedule
from ...recipe.training_config import Recipe
from ...weights.file import load_weights, save_weights
from .selection import Selection

Kept = Literal["best", "last"]
FILES: Final[Mapping[Kept, str]] = {"best": "best.safetensors", "last": "last.safetensors"}
"""Names in the folder of a training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsFacts:
    """What every weights file of a training states, whichever step it is of."""

    normalisation: Mapping[str, Any] | None = field(default=None, hash=False)
    class_names: tuple[str, ...] | None = None
    voxel_size_um: tuple[float, ...] | None = None
    input_percentiles: Mapping[str, Sequence[float]] | None = field(default=None, hash=False)
    provenance: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Data, recipe and sizes of the training."""

    def save(
        self, model: UNet, path: Path, *, origin: Mapping[str, Any], dtype: Any = "float32"
    ) -> None:
        """Write a weights file atomically; ``origin`` states the step. Raises WeightsError."""
        save_weights(
            model,
            path,
            normalisation=self.normalisation,
            class_names=self.class_names,
            provenance={
                "made_by": f"overtile train {VERSION}",
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                **self.provenance,
                **origin,
                "versions": versions(),
            },
            dtype=dtype,
            voxel_size_um=self.voxel_size_um,
            input_percentiles=self.input_percentiles,
        )


def kept_of(recipe: Recipe, selection: Selection) -> Kept:
    """Return which weights a training writes; without a validation, the last ones."""
    wants_last = recipe.training.kept_weights == "last"
    return "last" if wants_last or selection.best is None else "best"


def origin_of(
    kept: Kept,
    selection: Selection,
    *,
    trained: int,
    schedule: StepSchedule,
    scores: Mapping[str, Any],
) -> dict[str, Any]:
    """Return which weights these are, as the provenance of their file states it.

    trained: steps of the training so far. scores: those of the last validation.
    """
    of_step = selection.best if kept == "best" and selection.best else scores
    chosen: dict[str, Any] = {}
    if selection.best is not None:
        is_validated = of_step.get("step") == (trained if kept == "last" else selection.step)
        score = selection.score_of(of_step) if is_validated else None
        best = {"step": selection.step, "score": selection.score}
        chosen = {"metric": selection.metric, "score": score, "best": best}
    stated: dict[str, Any] = _finite({
        "kept": kept,
        "steps": selection.step if kept == "best" else trained,
        "steps_trained": trained,
        "schedule": schedule.until(trained).to_json(),
        **chosen,
        "scores": dict(of_step),
    })  # fmt: skip
    return stated


def keep_best(
    model: UNet, directory: Path, facts: WeightsFacts, selection: Selection, schedule: StepSchedule
) -> None:
    """Write the weights of the best validation, at its step. Raises TrainingFailedError."""
    assert selection.best is not None
    assert selection.step is not None
    path = directory / FILES["best"]
    for left in directory.glob(f".{path.name}.*"):  # by a process that was killed while writing
        left.unlink(missing_ok=True)
    origin = origin_of(
        "best", selection, trained=selection.step, schedule=schedule, scores=selection.best
    )
    try:
        facts.save(model, path, origin=origin)
    except WeightsError as error:
        raise TrainingFailedError(
            f"{str(path)!r} cannot be written ({error.__cause__ or error}): free some space, then "
            "resume with --resume"
        ) from error


def read_best(directory: Path, selection: Selection) -> UNet:
    """Return the network of the best validation. Raises WeightsError if its file is another's."""
    path = directory / FILES["best"]
    advice = "to write those of the last step, resume with --kept-weights last"
    try:
        model, info = load_weights(path)
    except WeightsError as error:
        raise WeightsError(f"the best weights cannot be read ({error}); {advice}") from error
    if (step := info.provenance.get("steps")) != selection.step:
        raise WeightsError(
            f"{str(path)!r} holds the weights of step {step}, but the best validation was that of "
            f"step {selection.step}; {advice}"
        )
    return model


def _finite(value: Any) -> Any:
    """Return JSON with None for numbers that are NaN or infinite, which JSON does not have."""
    if isinstance(value, Mapping):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
