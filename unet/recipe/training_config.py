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
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, TypeAlias, get_args

from pipeline.base.errors import ConfigError

from ..network.config import UNetConfig
from . import checked_values as setting
from .augment_config import AugmentConfig

Rule: TypeAlias = Literal["classes", "foreground", "boundary"]
RULES = get_args(Rule)
Optimiser: TypeAlias = Literal["sgd", "nesterov", "adamw"]
Schedule: TypeAlias = Literal["constant", "cosine", "one-cycle"]
MOST_STEPS = 10**9
MOST_BATCH = 2**16


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
        setting.check_one_of("labels: rule", self.rule, RULES)
        if self.ignore is not None:
            setting.check_whole("labels: ignore", self.ignore, -(2**63), 2**64 - 1)
        if self.object_class is not None:
            setting.check_whole("labels: object_class", self.object_class, 0, 255)
            if self.rule != "classes":
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
    """Longer gradients are shortened to this; None (0 in a config file): none is."""
    schedule: Schedule = "one-cycle"
    warmup: float = 0.1
    """Share of the steps in which the learning rate rises."""
    ema: float = 0.99
    """Decay per step of the running mean of the weights that is validated and saved; 0: none."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    class_balance: bool = False
    """Weight classes by their rarity in the training labels (the paper's w_c)."""
    border_weight: float = 2.0
    """w0; 0: none. The paper has 10, which makes thin membranes wide in the scores."""
    border_sigma: float = 5.0
    """The paper's sigma, in voxels of the finest axis."""
    rare_share: float = 0.0
    """Share of the patches that are centred on a class drawn evenly, however rare it is."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    validate_every: int = 200
    checkpoint_every: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            setting.check_one_of(f"training: {name}", getattr(self, name), choices)
        for name, limits in _LIMITS.items():
            setting.check_number(f"training: {name}", getattr(self, name), *limits)
        for name in ("steps", "validate_every", "checkpoint_every"):
            setting.check_whole(f"training: {name}", getattr(self, name), 1, MOST_STEPS)
        setting.check_whole("training: seed", self.seed, 0, 2**32 - 1)
        setting.check_flag("training: class_balance", self.class_balance)
        if self.batch is not None:
            setting.check_whole("training: batch", self.batch, 1, MOST_BATCH)
        if self.gradient_norm is not None:
            setting.check_number("training: gradient_norm", self.gradient_norm, 0, 1e6)
            if self.gradient_norm == 0:  # TOML has no word for None
                object.__setattr__(self, "gradient_norm", None)
        if self.patch is not None:
            object.__setattr__(self, "patch", setting.sizes("training: patch", self.patch))
        if not isinstance(self.augment, AugmentConfig):
            raise ConfigError(f"training: augment is {self.augment!r}: give a table of settings")

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
            augment = setting.table("training.augment", given["augment"])
            augment = {**base.augment.to_dict(), **augment}
            given["augment"] = AugmentConfig.from_dict(augment)
        return setting.replaced(base, given, name="training")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a config file states: network, training and labels."""

    network: UNetConfig = field(default_factory=UNetConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    labels: LabelConfig = field(default_factory=LabelConfig)
    class_names: tuple[str, ...] | None = None
    attribution: str | None = None
    """Whose data it is and on what terms: kept in the weights' provenance."""

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as JSON can hold it, and as :func:`recipe_from_dict` takes it."""
        return {
            "network": self.network.to_dict(),
            "training": self.training.to_dict(),
            "labels": asdict(self.labels),
            "class_names": list(self.class_names) if self.class_names else None,
            "attribution": self.attribution,
        }


def preset(name: str) -> TrainingConfig:
    """Return a named preset. Raises ConfigError that names them all."""
    setting.check_one_of("training: preset", name, tuple(PRESETS))
    return PRESETS[name]


def recipe_from_toml(text: str, *, where: str) -> Recipe:
    """Return the recipe of a TOML file's text. Raises ConfigError, one line."""
    try:
        return recipe_from_dict(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where} is not TOML: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    except OverflowError as error:  # integers of TOML have no end
        raise ConfigError(f"{where}: a number has no end to it ({error})") from error
    except RecursionError:
        raise ConfigError(f"{where} is not TOML: its brackets are nested too deep") from None
    except ValueError as error:  # Python reads integers of up to 4,300 digits
        raise ConfigError(f"{where}: a number is too long to read ({error})") from error


def recipe_from_dict(record: Mapping[str, Any]) -> Recipe:
    """Return the recipe of a record; absent fields take their defaults. Raises ConfigError."""
    known = ("network", "training", "labels", "class_names", "attribution")
    if unknown := sorted(set(record) - set(known)):
        raise ConfigError(f"unknown tables {unknown}: known are {', '.join(known)}")
    network, training, labels = (setting.table(name, record.get(name, {})) for name in known[:3])
    return Recipe(
        network=UNetConfig.from_dict(network),
        training=TrainingConfig.from_dict(training),
        labels=setting.replaced(LabelConfig(), labels, name="labels"),
        class_names=setting.names("class_names", record.get("class_names")),
        attribution=setting.text("attribution", record.get("attribution")),
    )


def _falling(share: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * min(1.0, share)))


_CHOICES: Mapping[str, tuple[str, ...]] = {
    "optimiser": get_args(Optimiser),
    "schedule": get_args(Schedule),
    "precision": ("auto", "bf16", "fp32"),
}
_LIMITS: Mapping[str, tuple[float, ...]] = {
    "learning_rate": (1e-12, 1e6),
    "momentum": (0, 0.9999),
    "weight_decay": (0, 1e6),
    "warmup": (0, 1),
    "ema": (0, 0.99999),
    "border_weight": (0, 1e6),
    "border_sigma": (1e-3, 1e4),
    "rare_share": (0, 1),
}


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
        class_balance=True,
        border_weight=10.0,
    ),
}
