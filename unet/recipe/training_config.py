"""The recipe of a training: every setting in one record, with two presets.

``unet-2015`` is the paper's recipe (Ronneberger et al. 2015, section 3); ``default`` learnt more
from the same compute when both were measured. A TOML file overrides settings of either::

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
from collections.abc import Mapping
from dataclasses import asdict, field, replace
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, Field, InstanceOf, model_validator
from pydantic.dataclasses import dataclass

from pipeline.base.checked import STRICT, checked, shown
from pipeline.base.errors import ConfigError
from pipeline.base.network_outputs import check_offsets
from pipeline.base.toml_text import toml_table

from ..network.config import UNetConfig
from .augment_config import AugmentConfig
from .choices import LossName, Rule

Preset: TypeAlias = Literal["default", "unet-2015"]
Optimiser: TypeAlias = Literal["sgd", "nesterov", "adamw"]
Schedule: TypeAlias = Literal["constant", "cosine", "one-cycle"]
Metric: TypeAlias = Literal["mean_iou", "mean_dice", "foreground_dice", "pixel_error", "loss"]
Freeze: TypeAlias = Literal["none", "contracting"]

Steps: TypeAlias = Annotated[int, Field(ge=1, le=10**9)]
Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Amount: TypeAlias = Annotated[float, Field(ge=0, le=1e6)]
Voxels: TypeAlias = Annotated[int, Field(ge=1, le=2**20)]


def _checked_offsets(offsets: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
    check_offsets(offsets)
    return offsets


Offsets: TypeAlias = Annotated[
    tuple[Annotated[tuple[int, ...], Field(strict=False)], ...],
    Field(strict=False),
    AfterValidator(_checked_offsets),
]


@checked(ConfigError, name="labels")
@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class LabelConfig:
    """The meaning of the stored labels."""

    rule: Rule = "classes"
    ignore: Annotated[int, Field(ge=-(2**63), lt=2**64)] | None = None
    """The label of voxels whose class is unknown."""
    object_class: Annotated[int, Field(ge=0, le=255)] | None = None
    """With rule ``classes``: the connected components of this class are the objects that the
    weight map separates (the inside of cells); None: no border weights."""
    offsets: Offsets | None = None
    """With rule ``affinities``: voxels per axis (z,) y, x from a voxel to its partner, one per
    channel; None: to the voxel before, along each axis."""
    scale: Annotated[float, Field(ge=1e-2, le=1e4)] | None = None
    """In voxels of the finest axis. With rule ``distance``: where the score nears 0 or 1; with
    ``centre``: the standard deviation of the peaks. None: the rule's own."""

    @model_validator(mode="after")
    def _settings_go_with_the_rule(self) -> LabelConfig:
        if self.object_class is not None and self.rule != "classes":
            raise ValueError(f"labels.object_class goes with rule classes, not {self.rule}")
        if self.offsets is not None and self.rule != "affinities":
            raise ValueError(f"labels.offsets go with rule affinities, not {self.rule}")
        if self.scale is not None and self.rule not in ("distance", "centre"):
            raise ValueError(f"labels.scale goes with rule distance or centre, not {self.rule}")
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON can hold them."""
        offsets = None if self.offsets is None else [list(offset) for offset in self.offsets]
        return {**asdict(self), "offsets": offsets}


@checked(ConfigError, name="training")
@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class TrainingConfig:
    """One training. The defaults are the preset ``default``."""

    preset: Preset = "default"
    steps: Steps = 2000
    batch: Annotated[int, Field(ge=1, le=2**16)] | None = None
    """Patches per step, over all ranks; None: what fits the devices, decided once."""
    patch: Annotated[tuple[Voxels, ...], Field(strict=False)] | None = None
    """Voxels per axis whose classes one patch learns; None: suits network and volumes."""
    optimiser: Optimiser = "adamw"
    loss: LossName | None = None
    """None: that of the outputs, cross-entropy for classes; see docs/training-targets.md."""
    learning_rate: Annotated[float, Field(ge=1e-12, le=1e6)] = 1e-3
    """The schedule's peak."""
    momentum: Annotated[float, Field(ge=0, le=0.9999)] = 0.9
    """Of SGD; AdamW's first beta."""
    weight_decay: Amount = 1e-4
    gradient_norm: Annotated[Amount | None, AfterValidator(lambda norm: norm or None)] = 1.0
    """Longer gradients are scaled down to this length; None (0, as TOML has no None): never."""
    schedule: Schedule = "one-cycle"
    warmup: Share = 0.1
    """Share of the steps in which the learning rate rises."""
    ema: Annotated[float, Field(ge=0, le=0.99999)] = 0.99
    """Decay per step of the running mean of the weights that is validated and saved; 0: none."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    class_balance: bool = False
    """Weight classes by their rarity in the training labels (the paper's w_c)."""
    border_weight: Amount = 2.0
    """w0; 0: none. The paper has 10, which makes thin membranes wide in the scores."""
    border_sigma: Annotated[float, Field(ge=1e-3, le=1e4)] = 5.0
    """The paper's sigma, in voxels of the finest axis."""
    rare_share: Share = 0.0
    """Share of the patches that are centred on a voxel of a class; classes are drawn evenly."""
    freeze: Freeze = "none"
    """Layers that keep the tensors of the weights that the training starts from; ``contracting`` is
    the contracting path with the bottom level."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    validate_every: Steps = 200
    metric: Metric | None = None
    """Score that chooses the best validation; None: the mean IoU of classes, else the loss."""
    patience: Steps | None = None
    """Stop early after so many validations without a better score; None: never."""
    kept_weights: Literal["best", "last"] | None = None
    """Those that the weights file holds; None: of the best validation if there is one."""
    checkpoint_every: Steps = 100
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0; a pure function, so nothing is saved.

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
        return {**asdict(self), "patch": None if self.patch is None else list(self.patch)}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> TrainingConfig:
        """Return the config of a record, whose absent fields take the values of its preset."""
        given = dict(record)
        base = preset(given.pop("preset", "default"))
        augment = given.pop("augment", {})
        settings = {**base.augment.to_dict(), **_table("training.augment", augment)}
        return replace(base, **given, augment=AugmentConfig(**settings))


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if not all(name.strip() for name in names) or len({*names}) < len(names):
        raise ValueError("expected names that are distinct and not empty")
    return names


ClassNames: TypeAlias = Annotated[tuple[str, ...], Field(strict=False), AfterValidator(_distinct)]


@checked(ConfigError)
@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Recipe:
    """Everything that decides a training but its volumes; a config file states parts of it."""

    network: InstanceOf[UNetConfig] = field(default_factory=UNetConfig)
    training: InstanceOf[TrainingConfig] = field(default_factory=TrainingConfig)
    labels: InstanceOf[LabelConfig] = field(default_factory=LabelConfig)
    class_names: ClassNames | None = None
    attribution: str | None = None
    """Who made the data, and its licence: stored in the weights' provenance."""

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as JSON can hold it; :func:`recipe_from_dict` reads it."""
        return {
            "network": self.network.to_dict(),
            "training": self.training.to_dict(),
            "labels": self.labels.to_dict(),
            "class_names": list(self.class_names) if self.class_names else None,
            "attribution": self.attribution,
        }


def preset(name: str) -> TrainingConfig:
    """Return a named preset. Raises ConfigError that lists the presets."""
    if name not in tuple(PRESETS):
        raise ConfigError(f"training.preset ({shown(name)}): expected one of {', '.join(PRESETS)}")
    return PRESETS[name]


def recipe_from_toml(text: str, *, where: str) -> Recipe:
    """Return the recipe of a TOML file's text; ``where`` names it in errors. Raises ConfigError."""
    try:
        record = toml_table(text)
    except ValueError as error:
        raise ConfigError(f"{where} is not TOML: {error}") from error
    try:
        return recipe_from_dict(record)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def recipe_from_dict(record: Mapping[str, Any]) -> Recipe:
    """Return the recipe of a record; absent fields take their defaults. Raises ConfigError."""
    tables = {
        name: _table(name, record.get(name, {})) for name in ("network", "training", "labels")
    }
    return Recipe(
        **{
            **record,
            "network": UNetConfig.from_dict(tables["network"]),
            "training": TrainingConfig.from_dict(tables["training"]),
            "labels": LabelConfig(**tables["labels"]),
        }
    )


def _table(name: str, value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name} ({shown(value)}): expected a table of settings")
    return dict(value)


def _falling(share: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * min(1.0, share)))


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
        kept_weights="last",
    ),
}
