"""From a config file, options and volumes to one recipe, with nothing left open."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.base.errors import ConfigError
from pipeline.volume.labelled import LabelledBox
from unet.recipe.training_config import Recipe, recipe_from_dict, recipe_from_toml
from unet.training.suggest import suited_network

from ..options.train import TrainOptions

CLASS_NAMES = {"boundary": ("inside", "boundary"), "foreground": ("background", "object")}


def settled_recipe(options: TrainOptions, boxes: Sequence[LabelledBox]) -> Recipe:
    """Return the recipe: the config file's, changed by the other options, completed by the data."""
    given = _config(options.config)
    recipe = recipe_from_dict(
        {
            **given,
            "training": _changed(given, "training", options, "preset", "steps", "batch", "seed"),
            "labels": _changed(given, "labels", options, "rule", "ignore", "object_class"),
            "class_names": options.class_names or given.get("class_names"),
        }
    )
    if "network" not in given:
        network = suited_network(
            [box.raw.shape_zyx for box in boxes],
            boxes[0].spacing_zyx,
            channels=boxes[0].raw.channel_count,
            classes=len(recipe.class_names) if recipe.class_names else 2,
        )
        recipe = replace(recipe, network=network)
    classes = recipe.network.classes
    names = recipe.class_names or _class_names(recipe)
    if recipe.labels.rule != "classes" and classes != 2:
        raise ConfigError(
            f"rule {recipe.labels.rule} makes 2 classes, the network has {classes}: give it 2"
        )
    if len(names) != classes:
        raise ConfigError(
            f"{len(names)} class names for {classes} classes: give one per class, background first"
        )
    if (recipe.labels.object_class or 0) >= classes:
        raise ConfigError(
            f"object_class is {recipe.labels.object_class}, the network has classes 0 to "
            f"{classes - 1}: give one of these"
        )
    return replace(recipe, class_names=tuple(names))


def _changed(
    given: dict[str, Any], table: str, options: TrainOptions, *names: str
) -> dict[str, Any]:
    """Return a table of the config file with those settings replaced that an option gives."""
    asked = {name: getattr(options, name) for name in names}
    stated: dict[str, Any] = given.get(table, {})
    return {**stated, **{name: value for name, value in asked.items() if value is not None}}


def _config(path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        text = Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"config {path!r} cannot be read ({error})") from error
    recipe_from_toml(text, where=f"config {path!r}")  # names the file in what it says
    return tomllib.loads(text)


def _class_names(recipe: Recipe) -> tuple[str, ...]:
    others = (f"class {number}" for number in range(1, recipe.network.classes))
    return CLASS_NAMES.get(recipe.labels.rule, ("background", *others))
