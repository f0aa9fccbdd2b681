"""The configuration of a U-Net; its geometry and costs are computed from it, without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from typing import Any, Literal, TypeAlias, cast, get_args

from pipeline.base.errors import ConfigError
from pipeline.base.text import brief, printable, shortened

from . import cost, memory
from .axis import AxisGeometry

Norm: TypeAlias = Literal["none", "batch", "instance", "group"]
PerLevel: TypeAlias = int | Sequence[int | Sequence[int]]
Shape: TypeAlias = tuple[int, ...]

MOST_KERNEL = 63
MOST_POOLING = 16
MOST_LEVELS = 16
"""The halo doubles with each level: a higher number is a mistake."""
MOST_PARAMETERS = 10**10
"""40 GB in float32, more than a worker holds."""
TILE_DEPENDENT_NORMS = ("instance", "group")


@dataclass(frozen=True, kw_only=True)  # no slots: what follows from the fields is kept
class UNetConfig:
    """All settings of the network's layers; ``UNetConfig()`` is the paper's network.

    >>> UNetConfig().output_shape((572, 572)), UNetConfig().parameters
    ((388, 388), 31030658)
    >>> UNetConfig(dims=3, levels=3, kernels=((1, 3, 3), 3, 3), pooling=((1, 2, 2), 2)).halo
    (8, 20, 20)

    Raises ConfigError for a network that cannot be built.
    """

    dims: int = 2
    """2 for images (y, x), 3 for volumes (z, y, x)."""

    in_channels: int = 1
    """Channels of the input."""

    classes: int = 2
    """Channels of the output: classes, of which class 0 is background, or what the network's
    outputs are."""

    base_channels: int = 64
    """Feature channels of the finest level; each level below has twice as many."""

    levels: int = 5
    """Resolutions, the bottom one included; there are ``levels - 1`` poolings."""

    kernels: PerLevel = 3
    """Odd kernel sizes: one number, one per level, or one per level and axis (finest level first).

    A level has the same kernel on the way down and on the way up. Stored as one tuple per level.
    """

    pooling: PerLevel = 2
    """Pooling factors, likewise, one entry fewer than levels; 1 does not pool an axis."""

    norm: Norm = "none"
    """Layer between convolution and ReLU. ``instance`` and ``group`` use the whole tile."""

    dropout: float = 0.5
    """Probability with which the last two contracting levels drop an activation in training."""

    def __post_init__(self) -> None:
        is_2_or_3 = _is_int(self.dims) and self.dims in (2, 3)  # 2.0 == 2
        _require(is_2_or_3, f"dims is {brief(self.dims)}: expected 2 (images) or 3 (volumes)")
        for name, (least, most) in _LIMITS.items():
            _check_whole(name, getattr(self, name), least, most)
        for name, count in (("kernels", self.levels), ("pooling", self.levels - 1)):
            object.__setattr__(self, name, self._per_level(name, count))
        for name, most in (("kernels", MOST_KERNEL), ("pooling", MOST_POOLING)):
            for size in {size for level in getattr(self, name) for size in level}:
                _check_whole(name, size, 1, most)
        even = [size for level in self.level_kernels for size in level if size % 2 == 0]
        _require(not even, f"kernel size is {even[:1]}: expected odd sizes")
        norms = get_args(Norm)
        _require(
            self.norm in norms, f"norm is {brief(self.norm)}: expected one of {', '.join(norms)}"
        )
        _require(
            isinstance(self.dropout, int | float) and 0 <= self.dropout < 1,
            f"dropout is {brief(self.dropout)}: expected a number from 0 to below 1",
        )
        _require(
            self.parameters <= MOST_PARAMETERS,
            f"the network has {self.parameters:,} parameters: at most {MOST_PARAMETERS:,} fit; "
            "reduce base_channels or levels",
        )

    def _per_level(self, name: str, count: int) -> tuple[Shape, ...]:
        """Return field ``name`` as ``count`` tuples of one positive integer per axis."""
        given = getattr(self, name)
        entries = [given] * count if _is_int(given) else given
        wanted = (
            f"{name} is {brief(given)}: expected one number, or {count} numbers or "
            f"{self.dims}-tuples"
        )
        _require(isinstance(entries, list | tuple) and len(entries) == count, wanted)
        rows = [(entry,) * self.dims if _is_int(entry) else entry for entry in entries]
        for row in rows:
            _require(isinstance(row, list | tuple) and len(row) == self.dims, wanted)
            _require(all(_is_int(size) and size > 0 for size in row), wanted + ", each positive")
        return tuple(tuple(row) for row in rows)

    @property
    def level_kernels(self) -> tuple[Shape, ...]:
        """Kernel size per level and axis."""
        return cast("tuple[Shape, ...]", self.kernels)

    @property
    def level_pooling(self) -> tuple[Shape, ...]:
        """Pooling factor per step down and axis."""
        return cast("tuple[Shape, ...]", self.pooling)

    @cached_property
    def channels(self) -> tuple[int, ...]:
        """Feature channels per level."""
        return tuple(self.base_channels * 2**level for level in range(self.levels))

    @cached_property
    def axes(self) -> tuple[AxisGeometry, ...]:
        """The geometry of each axis."""
        return _axes(self.level_kernels, self.level_pooling)

    @cached_property
    def halo(self) -> Shape:
        """Voxels by which the input exceeds the output, per axis and per side.

        Exact for outputs that start at a multiple of the divisor, as every tile's does. A voxel
        elsewhere on the pooling grid depends on up to ``divisor - 1`` more voxels on one side.
        """
        return tuple(axis.halo for axis in self.axes)

    @cached_property
    def divisor(self) -> Shape:
        """Product of the pooling factors, per axis: the step of the pooling grid."""
        return tuple(axis.divisor for axis in self.axes)

    def input_shape(self, output_shape: Sequence[int]) -> Shape:
        """Return the smallest valid input whose output covers at least ``output_shape``."""
        sizes = self._one_per_axis(output_shape)
        return tuple(axis.input_size(size) for axis, size in zip(self.axes, sizes, strict=True))

    def output_shape(self, input_shape: Sequence[int]) -> Shape:
        """Return the output shape of a valid input. Raises ConfigError with the nearest sizes."""
        sizes = self._one_per_axis(input_shape)
        for number, (axis, size) in enumerate(zip(self.axes, sizes, strict=True)):
            if not axis.is_valid_input(size):
                near = " or ".join(str(valid) for valid in axis.nearest_valid_inputs(size))
                raise ConfigError(
                    f"input {sizes} does not fit the network: size {size} on axis {number}, "
                    f"expected {near}"
                )
        return tuple(size - 2 * halo for size, halo in zip(sizes, self.halo, strict=True))

    def valid_input_sizes(self, axis: int, *, at_least: int = 1, count: int = 3) -> Shape:
        """Return the ``count`` smallest valid sizes of an axis, starting at ``at_least``."""
        geometry = self.axes[axis]
        first = geometry.valid_input_size(at_least)
        return tuple(first + step * geometry.divisor for step in range(count))

    @property
    def parameters(self) -> int:
        """Number of trained parameters."""
        return cost.parameters(self)

    def flops(self, input_shape: Sequence[int]) -> int:
        """Return the floating-point operations of one image, two per multiply-add.

        Counts convolutions, up-convolutions and the last 1×1; the rest is less than one percent.
        """
        self.output_shape(input_shape)
        return cost.flops(self, tuple(input_shape))

    def peak_activation_elements(self, input_shape: Sequence[int]) -> int:
        """Return the most activations that are alive at once while one image is predicted."""
        self.output_shape(input_shape)
        return memory.peak_activation_elements(self, input_shape)

    def peak_activation_bytes(self, input_shape: Sequence[int], *, element_bytes: int) -> int:
        """Return the peak memory of the activations while one image is predicted."""
        self.output_shape(input_shape)
        return memory.peak_activation_bytes(self, tuple(input_shape), element_bytes=element_bytes)

    @property
    def tile_dependent_layers(self) -> tuple[str, ...]:
        """Layers that use statistics of the whole tile, so that tiled and whole results differ."""
        return (f"{self.norm} norm",) if self.norm in TILE_DEPENDENT_NORMS else ()

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        config = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in ("kernels", "pooling"):
            config[name] = [list(sizes) for sizes in config[name]]
        return config

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> UNetConfig:
        """Return the config of a ``to_dict``; missing fields take their defaults."""
        _require(isinstance(config, Mapping), f"the config is {brief(config)}: expected settings")
        known = [field.name for field in fields(cls)]
        unknown = shortened(printable(", ".join(sorted(set(config) - set(known)))), most=80)
        _require(not unknown, f"unknown network settings {unknown}: expected {', '.join(known)}")
        return cls(**config)

    def _one_per_axis(self, shape: Sequence[int]) -> Shape:
        sizes = tuple(int(size) for size in shape)
        _require(
            len(sizes) == self.dims, f"shape {sizes} has {len(sizes)} axes: expected {self.dims}"
        )
        return sizes


_LIMITS = {
    "in_channels": (1, 1024),
    "classes": (1, 256),  # the output is uint8; one channel is a distance, or centres
    "base_channels": (1, 4096),
    "levels": (1, MOST_LEVELS),
}


@lru_cache(maxsize=256)
def _axes(kernels: tuple[Shape, ...], pooling: tuple[Shape, ...]) -> tuple[AxisGeometry, ...]:
    return tuple(
        AxisGeometry(tuple(level[axis] for level in kernels), tuple(step[axis] for step in pooling))
        for axis in range(len(kernels[0]))
    )


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_whole(name: str, value: object, least: int, most: int) -> None:
    is_right = isinstance(value, int) and _is_int(value) and least <= value <= most
    _require(is_right, f"{name} is {brief(value)}: expected an integer from {least} to {most}")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)
