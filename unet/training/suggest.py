"""A network and a patch that suit the volumes, used unless the config states them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pipeline.base.errors import TrainingError

from ..network.config import UNetConfig
from ..samples.sampling import Shape

THIN = 16
"""Stacks of fewer slices are learnt slice by slice, by a 2-D network."""
ANISOTROPIC = 3.0
"""So are stacks whose slices are this many times further apart than their pixels."""
PATCH_VOXELS = {2: 400**2, 3: 72**3}
GPU_BATCH = 8
TRAINING_COPIES = 4.0
"""Activations of a training step, relative to the peak of a prediction."""


def suited_network(
    shapes: Sequence[Shape],
    spacing_zyx: tuple[float, float, float],
    *,
    channels: int,
    classes: int,
) -> UNetConfig:
    """Return a network for volumes of these shapes: 2-D for slices, else 3-D.

    3-D networks of stacks whose slices are 1.5 to 3 times further apart than their pixels pool z
    one level later.
    """
    ratio = spacing_zyx[0] / min(spacing_zyx[1:])
    if min(shape[0] for shape in shapes) < THIN or ratio >= ANISOTROPIC:
        return UNetConfig(dims=2, base_channels=32, levels=4, in_channels=channels, classes=classes)
    later = ratio >= 1.5
    return UNetConfig(
        dims=3,
        base_channels=16,
        levels=3,
        in_channels=channels,
        classes=classes,
        kernels=((1, 3, 3), 3, 3) if later else 3,
        pooling=((1, 2, 2), 2) if later else 2,
        dropout=0.1,
    )


def settled_core(
    network: UNetConfig, patch: Sequence[int] | None, shapes: Sequence[Shape]
) -> Shape:
    """Return the core (z, y, x) of a patch: an output of the network that fits every volume.

    patch: voxels per axis of the network, rounded up to a valid output; None: as large as the
    volumes allow, up to PATCH_VOXELS. Raises TrainingError for a patch larger than a volume.
    """
    dims = network.dims
    least = tuple(min(shape[axis] for shape in shapes) for axis in range(3 - dims, 3))
    smallest = network.output_shape(network.input_shape((1,) * dims))
    if any(size > most for size, most in zip(smallest, least, strict=True)):
        flat = "dims = 2, " if dims == 3 and least[0] == 1 else ""
        raise TrainingError(
            f"the smallest patch of this network is {smallest}, a volume has {least}: "
            f"use {flat}fewer levels, or a larger volume"
        )
    if patch is not None:
        if len(patch) != dims:
            raise TrainingError(
                f"patch {tuple(patch)} has {len(patch)} sizes: a {dims}-D network takes {dims}"
            )
        own = network.output_shape(network.input_shape(patch))
        if any(size > most for size, most in zip(own, least, strict=True)):
            raise TrainingError(
                f"patch {tuple(patch)} is {own} for this network, larger than a volume of {least}: "
                f"choose at most {_most(network, least)}"
            )
    else:
        own = _largest(network, least)
    return (1,) * (3 - dims) + own  # type: ignore[return-value]


def least_core(network: UNetConfig, patch: Sequence[int] | None) -> Shape:
    """Return the smallest core (z, y, x) of :func:`settled_core`: that of ``patch``, if set."""
    dims = network.dims
    wanted = patch if patch is not None and len(patch) == dims else (1,) * dims
    own = network.output_shape(network.input_shape(wanted))
    return (1,) * (3 - dims) + own  # type: ignore[return-value]


def _largest(network: UNetConfig, least: Sequence[int]) -> tuple[int, ...]:
    """Return the largest output within a volume and PATCH_VOXELS, nearly a cube."""
    wanted = [float(size) for size in least]
    while math.prod(wanted) > PATCH_VOXELS[network.dims]:
        longest = max(wanted)
        wanted = [min(size, 0.98 * longest) for size in wanted]
    return _most(network, wanted)


def _most(network: UNetConfig, wanted: Sequence[float]) -> tuple[int, ...]:
    """Return the largest output that is not larger than ``wanted``, or else the smallest one."""
    own = []
    for axis, most in enumerate(wanted):
        geometry = network.axes[axis]
        halo, step = geometry.halo, geometry.divisor
        size = geometry.input_size(1) - 2 * halo
        own.append(size + max(0, int(most) - size) // step * step)
    return tuple(own)


def fitting_batch(network: UNetConfig, core: Shape, *, memory_bytes: int, ranks: int) -> int:
    """Return the patches per step that fit GPUs with this memory: 1 to 8 on each rank."""
    shape = network.input_shape(core[3 - network.dims :])
    elements = network.peak_activation_elements(shape) * network.levels * TRAINING_COPIES
    each = max(1, min(GPU_BATCH, int(0.7 * memory_bytes / (2 * elements))))
    return ranks * each
