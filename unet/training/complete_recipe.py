"""From a config and the volumes to a recipe in which nothing is open but the batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pipeline.base.errors import ConfigError

from ..recipe.training_config import Recipe, recipe_from_dict
from .suggest import suited_network
from .volumes import TrainingVolume

CLASS_NAMES = {"boundary": ("inside", "boundary"), "foreground": ("background", "object")}


def complete_recipe(config: Mapping[str, Any], volumes: Sequence[TrainingVolume]) -> Recipe:
    """Return the recipe of a config's tables, completed by the volumes: network and class names.

    Raises ConfigError where they contradict each other.
    """
    recipe = recipe_from_dict(config)
    if "network" not in config:
        network = suited_network(
            [volume.volume_shape_zyx for volume in volumes],
            volumes[0].spacing_zyx,
            channels=volumes[0].channel_count,
            classes=len(recipe.class_names) if recipe.class_names else 2,
        )
        recipe = replace(recipe, network=network)
    recipe = replace(recipe, class_names=recipe.class_names or _class_names(recipe))
    _check_classes(recipe)
    return recipe


def _check_classes(recipe: Recipe) -> None:
    classes, labels, names = recipe.network.classes, recipe.labels, recipe.class_names or ()
    if labels.rule != "classes" and classes != 2:
        raise ConfigError(
            f"rule {labels.rule} makes 2 classes, the network has {classes}: set classes = 2"
        )
    if len(names) != classes:
        raise ConfigError(
            f"{len(names)} class names for {classes} classes: expected one per class, background "
            "first"
        )
    if (labels.object_class or 0) >= classes:
        raise ConfigError(
            f"object_class ({labels.object_class}): expected one of the network's classes, 0 to "
            f"{classes - 1}"
        )


def _class_names(recipe: Recipe) -> tuple[str, ...]:
    others = (f"class {number}" for number in range(1, recipe.network.classes))
    return CLASS_NAMES.get(recipe.labels.rule, ("background", *others))
