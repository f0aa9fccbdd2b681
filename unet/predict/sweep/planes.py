"""Room for planes of activations (1, channels, planes, *rest), in channels-last.

A sweep makes all room that outlives a layer before its first plane. Made in between, it would lie
among the outputs of layers, and the allocator would keep half as much again in pieces.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pipeline.base.geometry import Shape


def planes_of(like: Tensor, channels: int, planes: int, rest: Shape) -> Tensor:
    """Return room for so many planes, in the dtype and on the device of ``like``."""
    return Workspace(like, channels * planes * math.prod(rest)).planes(channels, planes, rest)


class Workspace:
    """The room for the input of one layer at a time."""

    def __init__(self, like: Tensor, elements: int) -> None:
        self._flat = torch.empty(elements, dtype=like.dtype, device=like.device)

    def planes(self, channels: int, planes: int, rest: Shape) -> Tensor:
        """Return the room as planes; what was in it before is lost."""
        shape = (1, planes, *rest, channels)
        elements = math.prod(shape)
        if elements > len(self._flat):  # a slab that neither divides the divisor nor is a multiple
            self._flat = torch.empty(elements, dtype=self._flat.dtype, device=self._flat.device)
        last = len(shape) - 1
        return self._flat[:elements].view(shape).permute(0, last, *range(1, last))
