"""Slabs of input planes in, slabs of scores out: no float32 copy of a whole tile exists."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..network.model import UNet
from .forward import scores_of, within_memory
from .sweep.column import ColumnSweep
from .sweep.geometry import slab_planes

ReadPlanes: TypeAlias = Callable[[int, int], NDArray[np.float32]]
"""From the first plane and the one after the last to input planes (channels, planes, *rest)."""


def swept_scores(
    model: UNet, read: ReadPlanes, *, input_shape: Sequence[int]
) -> Iterator[NDArray[np.float32]]:
    """Yield the scores (classes, planes, *rest) of a tile, some planes at a time.

    input_shape: of the tile; each plane of it is read once, in order. Raises MemoryError where the
    sweep does not fit the device.
    """
    slab = slab_planes(model.config)
    planes, *column = input_shape
    weight = next(model.parameters())
    make = partial(ColumnSweep, model, tuple(column), slab=slab)
    sweep = within_memory(make, shape=tuple(input_shape), device=weight.device)
    for start in range(0, planes, slab):
        x = read(start, min(start + slab, planes))
        scores = scores_of(sweep.push, x[None], model=model, tile=input_shape)
        if scores is not None:
            yield scores[0]
