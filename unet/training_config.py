"""How to train: every choice in one record, with two presets to start from.

``unet-2015`` is the paper's recipe (Ronneberger et al. 2015, section 3); ``default`` is what was
measured to learn more from the same compute. A TOML file changes either::

    [network]
    base_channels = 32
    levels = 4

    [training]
    preset = "default"
    steps = 2000

    [training.augment]
    elastic_sigma = 6.0

    [labels]
    rule = "boundary"
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, TypeAlias, TypeVar, get_args

from pipeline.errors import ConfigError

from .augment_config import AugmentConfig
from .config import UNetConfig
from .label_rules import RULES, Rule

Optimiser: TypeAlias = Literal["sgd", "nesterov", "adamw"]
Schedule: TypeAlias = Literal["constant", "cosine", "one-cycle"]
Record = TypeVar("Record")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelConfig:
    """What the stored labels mean."""

    rule: Rule = "classes"
    ignore: int | None = None
    """The label of voxels that nobody knows."""
    object_class: int | None = None
    """With rule ``classes``: the connected components of this class are the objects that the
    weight map keeps apart (a cell's inside); None: no border weights."""

    def __post_init__(self) -> None:
        _one_of("labels: rule", self.rule, RULES)
        if self.object_class is not None and self.rule != "classes":
            raise ConfigError(f"labels: object_class goes with rule classes, not {self.rule}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """One training. As it stands it is the preset ``default``."""

    preset: str = "default"
    steps: int = 2000
    batch: int | None = None
    """Patches per step, over all ranks; None: what fits the devices, decided once."""
    patch: tuple[int, ...] | None = None
    """Voxels per axis whose classes one patch learns; None: suits network and volumes."""
    optimiser: Optimiser = "adamw"
    learning_rate: float = 1e-3
    """The schedule's peak."""
    momentum: float = 0.9
    """Of SGD; AdamW's first beta."""
    weight_decay: float = 1e-4
    gradient_norm: float | None = 1.0
    """Longer gradients are shortened to this; None: none is."""
    schedule: Schedule = "one-cycle"
    warmup: float = 0.1
    """Share of the steps in which the learning rate rises."""
    ema: float = 0.99
    """Decay per step of the running mean of the weights that is validated and saved; 0: none."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    class_balance: bool = True
    """Weight classes by their rarity in the training labels (the paper's w_c)."""
    border_weight: float = 10.0
    """The paper's w0; 0: none."""
    border_sigma: float = 5.0
    """The paper's sigma, in voxels of the finest axis."""
    rare_share: float = 0.0
    """Share of the patches that are centred on a class drawn evenly, however rare it is."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    validate_every: int = 200
    checkpoint_every: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        for name, choices in (("optimiser", get_args(Optimiser)), ("schedule", get_args(Schedule))):
            _one_of(name, getattr(self, name), choices)
        _one_of("precision", self.precision, ("auto", "bf16", "fp32"))
        for name in ("steps", "validate_every", "checkpoint_every"):
            _within(name, getattr(self, name), 1, math.inf, whole=True)
        if self.batch is not None:
            _within("batch", self.batch, 1, math.inf, whole=True)
        _within("seed", self.seed, 0, 2**32 - 1, whole=True)
        _within("learning_rate", self.learning_rate, 1e-12, math.inf)
        _within("momentum", self.momentum, 0, 0.9999)
        _within("ema", self.ema, 0, 0.99999)
        for name in ("weight_decay", "border_weight"):
            _within(name, getattr(self, name), 0, math.inf)
        _within("border_sigma", self.border_sigma, 1e-3, math.inf)
        for name in ("warmup", "rare_share"):
            _within(name, getattr(self, name), 0, 1)
        if self.gradient_norm is not None:
            _within("gradient_norm", self.gradient_norm, 1e-12, math.inf)
        if self.patch is not None:
            object.__setattr__(self, "patch", tuple(self.patch))
            for size in self.patch:
                _within("patch", size, 1, math.inf, whole=True)

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of a step, from 0: a pure function, so nothing to save.

        ``cosine``: half a cosine from the peak to 0. ``one-cycle``: half a cosine up from 1/25 of
        the peak during the warm-up, then half a cosine down to 1/10,000 (Smith and Topin 2019).
        """
        rising = self.warmup * self.steps
        if self.schedule == "constant" or self.steps == 1:
            return self.learning_rate
        if self.schedule == "cosine":
            return self.learning_rate * _falling(step / (self.steps - 1))
        if step < rising:
            return self.learning_rate * (0.04 + 0.96 * (1 - _falling(step / rising)))
        fallen = _falling((step - rising) / max(1.0, self.steps - 1 - rising))
        return self.learning_rate * (1e-4 + (1 - 1e-4) * fallen)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON can hold them."""
        record = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        record["augment"] = self.augment.to_dict()
        record["patch"] = None if self.patch is None else list(self.patch)
        return record

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> TrainingConfig:
        """Return the config of a record: fields that differ from its preset's."""
        given = dict(record)
        base = preset(given.pop("preset", "default"))
        if "augment" in given:
            augment = {**base.augment.to_dict(), **_table("training.augment", given["augment"])}
            given["augment"] = AugmentConfig.from_dict(augment)
        return _replaced(base, given, name="training")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a config file states: network, training and labels."""

    network: UNetConfig = field(default_factory=UNetConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    labels: LabelConfig = field(default_factory=LabelConfig)
    class_names: tuple[str, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as JSON can hold it, and as :func:`recipe_from_dict` takes it."""
        return {
            "network": self.network.to_dict(),
            "training": self.training.to_dict(),
            "labels": asdict(self.labels),
            "class_names": list(self.class_names) if self.class_names else None,
        }


def preset(name: str) -> TrainingConfig:
    """Return a named preset. Raises ConfigError that names them all."""
    _one_of("training: preset", name, tuple(PRESETS))
    return PRESETS[name]


def recipe_from_toml(text: str, *, where: str) -> Recipe:
    """Return the recipe of a TOML file's text. Raises ConfigError, one line."""
    try:
        return recipe_from_dict(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where} is not TOML: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def recipe_from_dict(record: Mapping[str, Any]) -> Recipe:
    """Return the recipe of a record; absent fields take their defaults. Raises ConfigError."""
    known = ("network", "training", "labels", "class_names")
    if unknown := sorted(set(record) - set(known)):
        raise ConfigError(f"unknown tables {unknown}: known are {', '.join(known)}")
    names = record.get("class_names")
    return Recipe(
        network=UNetConfig.from_dict(_table("network", record.get("network", {}))),
        training=TrainingConfig.from_dict(_table("training", record.get("training", {}))),
        labels=_replaced(LabelConfig(), _table("labels", record.get("labels", {})), name="labels"),
        class_names=None if names is None else tuple(str(name) for name in names),
    )


def _replaced(base: Record, given: Mapping[str, Any], *, name: str) -> Record:
    known = [entry.name for entry in fields(base)]  # type: ignore[arg-type]
    if unknown := sorted(set(given) - set(known)):
        raise ConfigError(f"unknown in {name}: {unknown}; known are {', '.join(known)}")
    return replace(base, **given)  # type: ignore[type-var]


def _table(name: str, value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name} is {value!r}: give a table of settings")
    return dict(value)


def _falling(share: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * min(1.0, share)))


def _one_of(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{name} is {value!r}: give one of {', '.join(choices)}")


def _within(name: str, value: object, low: float, high: float, *, whole: bool = False) -> None:
    kinds = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        upper = "up" if high == math.inf else f"to {high:g}"
        kind = "a whole number" if whole else "a number"
        raise ConfigError(f"training: {name} is {value!r}: give {kind} from {low:g} {upper}")


PRESETS: Mapping[str, TrainingConfig] = {
    "default": TrainingConfig(),
    "unet-2015": TrainingConfig(
        preset="unet-2015",
        batch=1,
        optimiser="sgd",
        learning_rate=1e-3,
        momentum=0.99,
        weight_decay=0.0,
        gradient_norm=None,
        schedule="constant",
        warmup=0.0,
        ema=0.0,
    ),
}
