"""Tiles on a device, turned and mirrored; their scores, turned back."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.base.tile_request import Orientation

_Z, _X, _PLANE = -3, -1, (-2, -1)
"""Axes of (…, z, y, x)."""


def turned(x: Tensor, orientation: Orientation) -> Tensor:
    """Return a tensor (…, z, y, x) in this orientation, contiguous."""
    if orientation == Orientation():
        return x
    mirrored = torch.flip(x, _mirrored_axes(orientation))
    return torch.rot90(mirrored, orientation.turns, _PLANE).contiguous()


def turned_back(x: Tensor, orientation: Orientation) -> Tensor:
    """Return a tensor in this orientation in its original one."""
    if orientation == Orientation():
        return x
    return torch.flip(torch.rot90(x, -orientation.turns, _PLANE), _mirrored_axes(orientation))


def _mirrored_axes(orientation: Orientation) -> tuple[int, ...]:
    return (_Z,) * orientation.mirrored_z + (_X,) * orientation.mirrored_x
