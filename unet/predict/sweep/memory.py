"""The memory of a sweep: its state and workspace, which stay, and what layers return."""

from __future__ import annotations

import math
from functools import lru_cache

from pipeline.base.geometry import Shape, round_up

from ...network.config import UNetConfig
from .geometry import (
    column_layers,
    planes_before_pools,
    planes_to_raise,
    slab_planes,
    waiting_limits,
)

OUTPUTS_KEPT = 1.2
"""Memory that the allocator keeps in pieces, over the largest output of a layer.

Measured on 2026-11-30 with torch 2.13, one thread: benchmarks/sweep_memory.py. Measured / stated:
0.94 to 1.24 in 17 cases, of three sweeps in a row each, in two runs.
"""


def sweep_bytes(config: UNetConfig, input_shape: Shape, *, element_bytes: int) -> int:
    """Return the peak memory of a sweep over a tile, its slabs of input and scores included.

    Counted in float32: a slab of input and the next one, raw on its way to a GPU; logits and
    probabilities of the most planes that a slab gives, and what is stored of twice as many, on its
    way back.
    """
    slab, column = slab_planes(config), tuple(input_shape[1:])
    given = round_up(slab, config.divisor[0])
    taken = 2 * config.in_channels * slab * math.prod(column)
    scores = 4 * config.classes * given * math.prod(config.output_shape(input_shape)[1:])
    return element_bytes * column_elements(config, column, slab=slab) + 4 * (taken + scores)


@lru_cache(maxsize=4096)
def column_elements(config: UNetConfig, column: Shape, *, slab: int) -> int:
    """Return the most activations of a sweep, what the allocator keeps included.

    column: the input's sides other than the sweep's. The image is not counted.
    """
    state = workspace = alive = largest = held = 0
    level, planes, area, given = 0, slab, math.prod(column), 0
    for layer in column_layers(config, column):
        read = layer.in_channels * area
        area = math.prod(layer.out_shape[1:])
        if layer.kind == "pool":
            if waiting := planes_before_pools(config, slab=slab)[level]:
                state += waiting * read
                workspace = max(workspace, (planes + waiting) * read)
            planes, level = -(-planes // layer.kernel[0]), level + 1
        elif layer.kind == "up":
            factor = layer.kernel[0]
            if planes > (most := planes_to_raise(slab, factor)):
                planes, held = most, held + given
            planes *= factor
        elif layer.kind == "join":
            level -= 1
            state += waiting_limits(config, slab=slab)[level] * layer.in_channels * area
            continue
        elif layer.kind != "head":
            state += (layer.kernel[0] - 1) * read
            workspace = max(workspace, (planes + layer.kernel[0] - 1) * read)
        out = planes * layer.out_channels * area
        # A convolution's input is in the workspace; other layers read what the last one returned.
        is_gathered = layer.kind.startswith("convolution") and layer.kernel[0] > 1
        alive = max(alive, held + out + (0 if is_gathered else given))
        largest = max(largest, out)
        given = out
    return math.ceil(state + workspace + alive + OUTPUTS_KEPT * largest)
