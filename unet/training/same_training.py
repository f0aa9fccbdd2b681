"""Whether a checkpoint belongs to the training that would resume from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from pipeline.base.errors import ConfigError, TrainingError
from pipeline.base.sample_digest import same_where_unread

from ..recipe.schedule import StepSchedule
from ..recipe.training_config import Recipe, recipe_from_dict
from ..samples.sampling import Survey

MAY_CHANGE: Final = ("training.steps", "training.patience", "training.kept_weights")
"""Settings that change nothing of the steps already done. The schedule is compared in full."""
SURVEYS: Final = "label_surveys"
"""Entry of a training's data sets."""
RANDOM_NUMBERS: Final = 3
"""Of a training's draws. 1: the masks of dropout depended on the number of ranks; 2: patches of
``rare_share`` were centred near a class, not on it, and few patches were drawn of sparse labels
beside others."""


def check_same_training(
    before: Mapping[str, Any], recipe: Recipe, data_sets: Mapping[str, Any]
) -> None:
    """Raise TrainingError that names the first setting in which a checkpoint's record differs."""
    recorded = before.get("recipe", {})
    with suppress(ConfigError):  # settings that are newer than the checkpoint get their defaults
        recorded = recipe_from_dict(recorded).to_dict()
    old = _flat({"data": before.get("data_sets", {}), **recorded})
    new = _flat({"data": data_sets, **recipe.to_dict()})
    for name in sorted({*old, *new} - {*MAY_CHANGE}, key=lambda name: (_is_survey(name), name)):
        if _is_survey(name) and name not in old:
            continue  # the checkpoint is older than this entry
        if old.get(name) != _now(name, new.get(name), old.get(name)):
            raise TrainingError(
                f"the checkpoint was made with {_difference(name, old.get(name), new.get(name))}: "
                "resume with the same config and data, or choose another --out"
            )


def _is_survey(name: str) -> bool:
    """Return whether an entry is of the surveys; they differ too where the volumes do."""
    return name.startswith(f"data.{SURVEYS}.")


def _difference(name: str, before: Any, now: Any) -> str:
    """Return what differs, as words."""
    if _is_survey(name) or name.endswith("labels_sample"):
        return "other labels: their values have changed since then"
    if name.endswith("volume_sample"):
        return "other grey values: those of the volume have changed since then"
    before, now = ("not set" if value is None else value for value in (before, now))
    return f"{name} = {before}, now it is {now}"


def with_surveys(
    data_sets: Mapping[str, Any], training: Sequence[Survey], validation: Sequence[Survey]
) -> dict[str, Any]:
    """Return a description of volumes with digests of what was counted in their labels.

    Patches are drawn by these counts, and they notice most changes of labels, which a sample of
    some boxes does not.
    """
    parts = {"training": training, "validation": validation}
    digests = {name: [_digest(one) for one in surveys] for name, surveys in parts.items()}
    return {**data_sets, SURVEYS: digests}


def _digest(survey: Survey) -> str:
    cells = [(*cell.start, *cell.counts, cell.known_voxels) for cell in survey.cells]
    counted = json.dumps([list(map(int, cell)) for cell in cells])
    return hashlib.sha256(counted.encode()).hexdigest()[:16]


def _now(name: str, value: Any, before: Any) -> Any:
    """Return a value that is compared with ``before``: a sample is equal where it was not read."""
    is_sample = name.endswith("_sample") and isinstance(value, str) and isinstance(before, str)
    return same_where_unread(value, before) if is_sample else value


def check_same_schedule(before: Mapping[str, Any], schedule: StepSchedule) -> None:
    """Raise TrainingError unless a record's schedule is this one, or this one is longer."""
    recorded = StepSchedule.from_record(before)
    if not schedule.continues(recorded):
        raise TrainingError(
            f"the checkpoint was made with the schedule {recorded.to_json()}, now it is "
            f"{schedule.to_json()}: resume with the same --steps or more, or choose another --out"
        )


def random_numbers_note(
    before: Mapping[str, Any], recipe: Recipe, surveys: Sequence[Survey] = ()
) -> str | None:
    """Return a line if a checkpoint's steps had other random numbers than those to come.

    surveys: of the volumes that are trained on.
    """
    version = before.get("random_numbers", 1)
    changed = {
        "dropout": version < 2 and recipe.network.dropout,
        "rare_share": version < 3 and recipe.training.rare_share,
        "several volumes": version < 3 and len(surveys) > 1 and any(s.is_sparse for s in surveys),
    }
    names = ", ".join(name for name, has_changed in changed.items() if has_changed)
    if not names:
        return None
    return (
        f"the checkpoint is of another version of overtile, with other random numbers for {names}: "
        "the weights will not equal, bit for bit, those of one version from the first step on"
    )


def _flat(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in record.items():
        if isinstance(value, list | tuple) and any(isinstance(one, Mapping) for one in value):
            flat |= _flat({name: dict(enumerate(value))}, prefix)
        elif isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = list(value) if isinstance(value, tuple) else value
    return flat
