"""From a config and the volumes to a recipe in which nothing is open but the batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pipeline.base.errors import ConfigError
from pipeline.base.text import counted

from ..losses.registry import loss_of
from ..recipe.training_config import Recipe, recipe_from_dict
from ..samples.label_meaning import painted_classes
from ..samples.rules.registry import RULES, outputs_of
from .start.recipe import check_depth, names_of_start, network_of_start
from .start.weights import StartWeights
from .suggest import suited_network
from .volumes import TrainingVolume


def complete_recipe(
    config: Mapping[str, Any],
    volumes: Sequence[TrainingVolume],
    start: StartWeights | None = None,
) -> Recipe:
    """Return the recipe of a config's tables, completed by the volumes: network and class names.

    start: weights to start from; they decide the network, and the names of the same classes.
    Raises ConfigError where they contradict each other.
    """
    recipe = recipe_from_dict(config)
    if start is None and not recipe.class_names:
        recipe = _with_painted_names(recipe, config, volumes)
    if start is not None:
        check_depth(start, (volume.volume_shape_zyx for volume in volumes))
        stated, channels = config.get("network", {}), volumes[0].channel_count
        network = network_of_start(start, stated, recipe, channels=channels)
        recipe = replace(recipe, network=network)
    elif "network" not in config:
        network = suited_network(
            [volume.volume_shape_zyx for volume in volumes],
            volumes[0].spacing_zyx,
            channels=volumes[0].channel_count,
            classes=len(recipe.class_names) if recipe.class_names else 2,
        )
        recipe = replace(recipe, network=network)
    if "classes" not in config.get("network", {}):
        recipe = _with_channels(recipe)
    names = recipe.class_names or names_of_start(start, recipe) or _class_names(recipe)
    recipe = replace(recipe, class_names=names)
    _check_channels(recipe)
    return recipe


def _with_painted_names(
    recipe: Recipe, config: Mapping[str, Any], volumes: Sequence[TrainingVolume]
) -> Recipe:
    """Return the recipe with the names of painted classes, if all labels are classes and fit it."""
    (names, *others) = {painted_classes(volume) for volume in volumes} - {()} or {()}
    count = config.get("network", {}).get("classes", len(names))
    if recipe.labels.rule != "classes" or not names or others or count != len(names):
        return recipe
    network = replace(recipe.network, classes=count)
    return replace(recipe, class_names=names, network=network)


def _with_channels(recipe: Recipe) -> Recipe:
    """Return the recipe with as many output channels as its label rule has, if it decides that."""
    names = _names_of_rule(recipe)
    if not names or len(names) == recipe.network.classes:
        return recipe
    return replace(recipe, network=replace(recipe.network, classes=len(names)))


def _check_channels(recipe: Recipe) -> None:
    """Raise ConfigError where label rule, loss, network and names contradict each other."""
    network, labels, names = recipe.network, recipe.labels, recipe.class_names or ()
    outputs = outputs_of(labels, dims=network.dims)
    loss_of(recipe.training.loss, outputs.kind)
    known = _names_of_rule(recipe)
    if known and len(known) != network.classes:
        raise ConfigError(
            f"rule {labels.rule} makes {_channels(recipe, len(known))}, the network has "
            f"{network.classes}: set classes = {len(known)}"
        )
    outputs.check_network(channels=network.classes, dims=network.dims)
    if len(names) != network.classes:
        raise ConfigError(
            f"{counted(len(names), 'class name')} for {_channels(recipe, network.classes)}: "
            + (
                "expected one per class, background first"
                if outputs.has_classes
                else "expected one per channel, or none"
            )
        )
    if (labels.object_class or 0) >= network.classes:
        raise ConfigError(
            f"object_class ({labels.object_class}): expected one of the network's classes, 0 to "
            f"{network.classes - 1}"
        )


def _channels(recipe: Recipe, count: int) -> str:
    """Return a number of channels in words."""
    if outputs_of(recipe.labels, dims=recipe.network.dims).has_classes:
        return f"{count} {'class' if count == 1 else 'classes'}"
    return counted(count, "channel")


def _names_of_rule(recipe: Recipe) -> tuple[str, ...]:
    """Return the names that the label rule gives the channels; empty: the network decides."""
    outputs = outputs_of(recipe.labels, dims=recipe.network.dims)
    return outputs.names or RULES[recipe.labels.rule].class_names or ()


def _class_names(recipe: Recipe) -> tuple[str, ...]:
    others = (f"class {number}" for number in range(1, recipe.network.classes))
    return _names_of_rule(recipe) or ("background", *others)
