"""What weights state about the volumes of their training: voxel size, and values of the input."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pipeline.base.errors import WeightsError

from ..network.config import UNetConfig

VOXEL_SIZE: Final = "voxel_size_um"
INPUT: Final = "input_percentiles"
PERCENTILES: Final = ("1", "50", "99")


def as_metadata(
    config: UNetConfig,
    voxel_size_um: Sequence[float] | None,
    input_percentiles: Mapping[str, Sequence[float]] | None,
) -> dict[str, Any]:
    """Return the metadata of a weights file, without what is not known. Raises WeightsError."""
    stated: dict[str, Any] = {}
    if voxel_size_um is not None:
        stated[VOXEL_SIZE] = list(_checked_size(voxel_size_um, config))
    if input_percentiles is not None:
        stated[INPUT] = {
            name: list(values) for name, values in _checked(input_percentiles, config).items()
        }
    return stated


def voxel_size_of(record: Mapping[str, Any], config: UNetConfig) -> tuple[float, ...] | None:
    """Return the voxel size that the metadata states, in µm. Raises WeightsError."""
    return _checked_size(record[VOXEL_SIZE], config) if VOXEL_SIZE in record else None


def percentiles_of(
    record: Mapping[str, Any], config: UNetConfig
) -> dict[str, tuple[float, ...]] | None:
    """Return the percentiles of the input that the metadata states. Raises WeightsError."""
    return _checked(record[INPUT], config) if INPUT in record else None


def _checked_size(sizes: Any, config: UNetConfig) -> tuple[float, ...]:
    numbers = _finite(sizes, config.dims)
    if numbers is None or min(numbers) <= 0:
        axes = "z, y, x" if config.dims == 3 else "y, x"
        raise WeightsError(
            f"voxel size {sizes!r}: expected {config.dims} sizes above 0 in µm, {axes}, for a "
            f"{config.dims}-D network"
        )
    return numbers


def _checked(percentiles: Any, config: UNetConfig) -> dict[str, tuple[float, ...]]:
    known = percentiles if isinstance(percentiles, Mapping) else {}
    checked = {name: _finite(known.get(name), config.in_channels) for name in PERCENTILES}
    numbers = {name: values for name, values in checked.items() if values is not None}
    if len(numbers) < len(PERCENTILES):
        raise WeightsError(
            f"input percentiles {percentiles!r}: expected {', '.join(PERCENTILES)}, each with "
            f"{config.in_channels} number(s), one per channel"
        )
    return numbers


def _finite(values: Any, count: int) -> tuple[float, ...] | None:
    """Return so many finite numbers as floats, or None for anything else."""
    if not isinstance(values, list | tuple) or len(values) != count:
        return None
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
        return None
    return tuple(map(float, values))
