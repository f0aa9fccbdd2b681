"""The integers of a sweep: planes per slab, and what a skip loses before it is joined.

A sweep goes along the first spatial axis of the network (z in 3-D). Planes go in slab by slab; the
order of planes settles all alignment: a pool starts a window at the first plane that it gets, an
up-convolution turns one plane into ``f``, and a join takes as many planes of the skip as came up.
"""

from __future__ import annotations

import math
from functools import lru_cache

from pipeline.base.geometry import Shape, round_up

from ...network.config import UNetConfig
from ...network.cost import Layer, layers

LEAST_PLANES = 8
"""Planes of a slab at least: with fewer, convolutions are slower (labs: 0.90 with 2, 1.11 with 8,
1.17 with 16, over the rate of a whole tile), and more planes take more memory."""


def slab_planes(config: UNetConfig) -> int:
    """Return the planes that go in at once, at least eight.

    Whole steps of the pooling grid, or the shortest equal part of a step that is long enough.
    """
    divisor = config.divisor[0]
    parts = (part for part in range(LEAST_PLANES, divisor) if divisor % part == 0)
    return next(parts, round_up(LEAST_PLANES, divisor))


def planes_to_raise(slab: int, factor: int) -> int:
    """Return how many planes an up-convolution takes at once: those that give a slab, or one.

    More of them would only need more room at once on the finest levels.
    """
    return max(1, slab // factor)


def skip_crops(config: UNetConfig, level: int) -> Shape:
    """Return what the join of a level cuts from its skip, in voxels per side and axis.

    The halo of all levels below, in voxels of this level: a convolution with kernel k cuts
    ``(k - 1) / 2`` per side; there are four on a level, two at the bottom.
    """
    crops = [0] * config.dims
    scales = [1] * config.dims
    for below in range(level + 1, config.levels):
        convolutions = 2 if below == config.levels - 1 else 4
        for axis in range(config.dims):
            scales[axis] *= config.level_pooling[below - 1][axis]
            cut = convolutions * (config.level_kernels[below][axis] - 1) // 2
            crops[axis] += scales[axis] * cut
    return tuple(crops)


@lru_cache(maxsize=256)
def waiting_limits(config: UNetConfig, *, slab: int) -> tuple[int, ...]:
    """Return the most planes of each level's skip that wait at once, for slabs of so many planes.

    They wait from the push that brings them to one that brings up what they are joined with.
    """
    most = [0] * (config.levels - 1)
    for total in _totals(config, slab):
        skips, _ = _planes_so_far(config, total)
        _, ups = _planes_so_far(config, total - slab)
        for level, (skip, up) in enumerate(zip(skips, ups, strict=True)):
            most[level] = max(most[level], skip - skip_crops(config, level)[0] - up)
    return tuple(most)


def _totals(config: UNetConfig, slab: int) -> range:
    """Return how many planes went in after each push, until all repeats.

    It does so after pushes that are together a multiple of the divisor.
    """
    planes = 2 * config.halo[0] + 4 * math.lcm(slab, config.divisor[0])
    return range(slab, planes + slab, slab)


def _planes_so_far(config: UNetConfig, planes: int) -> tuple[list[int], list[int]]:
    """Return the planes of each level's skip, and those that came up, after so many planes."""
    kernels = [2 * (kernel[0] - 1) for kernel in config.level_kernels]
    factors = [factor[0] for factor in config.level_pooling]
    skips, ups = [], []
    for cropped, factor in zip(kernels[:-1], factors, strict=True):
        planes = max(0, planes - cropped)
        skips.append(planes)
        planes //= factor
    planes = max(0, planes - kernels[-1])
    for cropped, factor in zip(reversed(kernels[:-1]), reversed(factors), strict=True):
        planes *= factor
        ups.append(planes)
        planes = max(0, planes - cropped)
    return skips, ups[::-1]


@lru_cache(maxsize=256)
def planes_before_pools(config: UNetConfig, *, slab: int) -> tuple[int, ...]:
    """Return the most planes that each level's pool keeps, as they do not fill a window yet."""
    most = [0] * (config.levels - 1)
    for total in _totals(config, slab):
        skips, _ = _planes_so_far(config, total)
        for level, (planes, factor) in enumerate(zip(skips, config.level_pooling, strict=True)):
            most[level] = max(most[level], planes % factor[0])
    return tuple(most)


def gathered_planes(config: UNetConfig, *, slab: int) -> dict[str, int]:
    """Return the most planes that each convolution and pool reads at once, by its layer's name.

    For slabs of a multiple or an equal part of the divisor. Pools that never keep a plane read what
    comes, and are left out.
    """
    planes, found, kept = slab, {}, iter(planes_before_pools(config, slab=slab))
    for layer in column_layers(config, config.input_shape((1,) * config.dims)[1:]):
        if layer.kind == "pool":
            if waiting := next(kept):
                found[layer.name] = planes + waiting
            planes = -(-planes // layer.kernel[0])
        elif layer.kind == "up":
            factor = layer.kernel[0]
            planes = min(planes, planes_to_raise(slab, factor)) * factor
        elif layer.kind.startswith("convolution"):
            found[layer.name] = planes + layer.kernel[0] - 1
    return found


def column_layers(config: UNetConfig, column: Shape) -> list[Layer]:
    """Return the layers over a column whose input has these sides other than the sweep's."""
    deep = config.input_shape((1,) * config.dims)[0]
    return list(layers(config, (deep, *column)))
