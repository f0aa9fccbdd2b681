"""How much training patches vary, and the margin to read around them. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.base.checked import STRICT, checked
from pipeline.base.errors import ConfigError

Rotation: TypeAlias = Literal["none", "quarter", "free"]
Shape: TypeAlias = tuple[int, ...]

MOST_ANISOTROPIC = 1.1
"""Ratio of a voxel's sides up to which axes may be swapped."""

MAX_VOXELS = 1000.0
"""The further voxels move, the more is read around a patch."""
MAX_GREY = 1000.0
"""Normalised grey values are of the order of 1."""

ELASTIC_MARGIN = 3.0
"""Multiple of the displacements' standard deviation that the margin holds."""

Voxels: TypeAlias = Annotated[float, Field(ge=0, lt=MAX_VOXELS)]
Grey: TypeAlias = Annotated[float, Field(ge=0, lt=MAX_GREY)]


@checked(ConfigError, name="training.augment")
@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class AugmentConfig:
    """How much patches vary; every amount is drawn uniformly per sample, 0 turns it off.

    Raises ConfigError for values that are not valid.
    """

    elastic_sigma: Voxels = 10.0
    """Standard deviation of the displacement at a knot, per axis, in voxels of the finest axis.

    Space folds from about a fifth of the distance between knots on: 10 folds 0.05 % of 92³, 4 % of
    60³ voxels, nothing of 188².
    """

    elastic_knots: Annotated[int, Field(ge=2, le=64)] = 3
    """Knots per axis, the outer ones on the edges of the network's input."""

    rotation: Rotation = "free"
    """In the (y, x) plane: by quarter turns, or by any angle."""

    mirror: bool = True
    """Mirror each axis with a probability of one half."""

    isotropic: bool = False
    """In 3-D: swap axes too; for voxels that are cubes."""

    deformed_share: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of the patches that are deformed, shifted and rotated by any angle, which interpolates
    grey values and so smooths their noise. The others move by quarter turns and mirrors only."""

    shift: Voxels = 0.0
    """Largest shift per axis, in voxels of the finest axis (patches lie at random anyway)."""

    contrast: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Grey values keep their mean; their distance to it is multiplied by 1 ± contrast."""

    brightness: Grey = 0.1
    """Largest change of all grey values, in units of the normalised image."""

    gamma: Annotated[float, Field(ge=0, lt=10)] = 0.2
    """Grey values between the patch's extremes are raised to a power of exp(± gamma)."""

    noise: Grey = 0.03
    """Largest standard deviation of Gaussian noise, in units of the normalised image."""

    @classmethod
    def none(cls) -> AugmentConfig:
        """Return the config that leaves every patch unchanged."""
        return cls(
            elastic_sigma=0,
            rotation="none",
            mirror=False,
            contrast=0,
            brightness=0,
            gamma=0,
            noise=0,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON can hold them; ``AugmentConfig(**record)`` reads them."""
        return asdict(self)

    @property
    def moves_by_whole_voxels(self) -> bool:
        """Whether every voxel of a patch is one of the volume, so that none is interpolated."""
        still = self.elastic_sigma == 0 and self.shift == 0 and self.rotation != "free"
        return still or self.deformed_share == 0

    @property
    def without_deformation(self) -> AugmentConfig:
        """The config of a patch that is not deformed: whole voxels, by quarter turns at most."""
        rotation: Rotation = "none" if self.rotation == "none" else "quarter"
        return replace(self, elastic_sigma=0.0, shift=0.0, rotation=rotation)


def margin(
    config: AugmentConfig,
    *,
    dims: int,
    input_shape: Sequence[int],
    spacing: Sequence[float] | None = None,
) -> Shape:
    """Return the voxels to read around the network's input, per axis and per side.

    Enough for any angle and any swap of axes, the full shift, and displacements of three standard
    deviations; the few voxels beyond are mirrored. A free rotation costs (sqrt(2) - 1) / 2 of a
    square's side: 119 for 572. spacing: size of a voxel per axis, in any unit (None: a cube).
    """
    steps = voxel_steps(config, dims=dims, spacing=spacing)
    half = [size * step / 2 for size, step in zip(input_shape, steps, strict=True)]
    reach = list(half)
    if config.isotropic and dims == 3:
        reach = [max(half)] * 3
    if config.rotation == "quarter":
        reach[-2:] = [max(reach[-2:])] * 2
    elif config.rotation == "free":
        reach[-2:] = [math.hypot(*reach[-2:])] * 2
    moved = ELASTIC_MARGIN * config.elastic_sigma + config.shift
    return tuple(
        math.ceil((far - near + moved) / step - 1e-9)
        for far, near, step in zip(reach, half, steps, strict=True)
    )


def voxel_steps(
    config: AugmentConfig, *, dims: int, spacing: Sequence[float] | None
) -> tuple[float, ...]:
    """Return the size of a voxel per axis, in units of the finest."""
    if spacing is None:
        return (1.0,) * dims
    steps = tuple(size / min(spacing) for size in spacing)
    if config.isotropic and dims == 3 and max(steps) > MOST_ANISOTROPIC:
        raise ConfigError(
            f"isotropic augmentation swaps axes, but a voxel is {tuple(spacing)}: "
            "set isotropic = false"
        )
    return steps
