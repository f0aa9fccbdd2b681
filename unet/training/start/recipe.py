"""The network and the classes of a training that starts from weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from pipeline.base.checked import shown
from pipeline.base.errors import ConfigError, TrainingError

from ...network.config import UNetConfig
from ...recipe.training_config import Recipe
from ...samples.rules.registry import outputs_of
from ...weights.file import WeightsInfo
from .weights import StartWeights

SAME_LAYERS: Final = ("dims", "levels", "base_channels", "kernels", "pooling", "norm")
"""Settings of a network that decide its layers, but for the first and the last one."""


def network_of_start(
    start: StartWeights, stated: Mapping[str, Any], recipe: Recipe, *, channels: int
) -> UNetConfig:
    """Return the network of the weights with the classes and channels of this training.

    stated: the table [network] of the config; it may set dropout, classes and in_channels. recipe:
    of the config, not completed. channels: of the volumes. Raises ConfigError that names the first
    setting in which the table's layers differ from those of the weights.
    """
    own = start.info.config
    for name in SAME_LAYERS:
        if name in stated and not _is_same(own, name, stated[name]):
            raise ConfigError(
                f"[network] has {name} = {shown(stated[name])}, but the weights {start.name} have "
                f"{shown(own.to_dict()[name])}: remove the setting, or pass other weights to --from"
            )
    ours = {"in_channels": channels, "classes": _class_count(start.info, recipe)}
    layers = {name: value for name, value in stated.items() if name not in SAME_LAYERS}
    return UNetConfig.from_dict({**own.to_dict(), **ours, **layers})


def check_depth(start: StartWeights, shapes: Iterable[Sequence[int]]) -> None:
    """Raise ConfigError for weights that need several slices and images of one. shapes: (z, y, x).

    A 3-D network whose kernels and poolings are flat needs none.
    """
    network = start.info.config
    is_deep = network.dims == 3 and network.halo[0] > 0
    if is_deep and all(shape[0] == 1 for shape in shapes):
        raise ConfigError(
            f"the weights {start.name} are of a 3-D network, but the images have one slice: pass "
            "weights of a 2-D network to --from, or train from nothing"
        )


def names_of_start(start: StartWeights | None, recipe: Recipe) -> tuple[str, ...] | None:
    """Return the channel names of the weights for a recipe that states none, if they still hold.

    recipe: with its network. None if the number of channels or what they mean differs.
    """
    if start is None:
        return None
    info = start.info
    outputs = outputs_of(recipe.labels, dims=recipe.network.dims)
    if recipe.network.classes != info.config.classes or outputs != info.outputs:
        return None
    return None if _has_other_rule(info, recipe) else info.class_names


def check_freeze(recipe: Recipe, start: StartWeights | None) -> None:
    """Raise TrainingError for frozen layers of a training that does not start from weights."""
    freeze = recipe.training.freeze
    if freeze != "none" and start is None:
        raise TrainingError(
            f"freeze ({freeze}): expected weights to start from, as only their layers are kept; "
            "pass --from, or remove --freeze"
        )


def _is_same(own: UNetConfig, name: str, value: object) -> bool:
    try:
        other = UNetConfig.from_dict({**own.to_dict(), name: value})
    except ConfigError:  # such as kernels for other levels
        return False
    return bool(getattr(other, name) == getattr(own, name))


def _class_count(info: WeightsInfo, recipe: Recipe) -> int:
    """Return how many classes a training has whose config states none, unless its rule decides."""
    if recipe.class_names:
        return len(recipe.class_names)
    return info.config.classes if info.outputs.has_classes else 2


def _has_other_rule(info: WeightsInfo, recipe: Recipe) -> bool:
    """Return whether the weights learnt another rule: boundary, and now foreground.

    Stored classes (rule ``classes``) may mean anything, so they never count as another one.
    """
    before, now = _recorded_rule(info), recipe.labels.rule
    return before not in (None, "classes", now) and now != "classes"


def _recorded_rule(info: WeightsInfo) -> object:
    """Return the label rule that the weights' provenance states, None if there is none."""
    found: Any = info.provenance
    for name in ("recipe", "labels", "rule"):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found
