"""Room for planes of activations (1, channels, planes, *rest), in channels-last.

A sweep makes all room that outlives a layer before its first plane. Made in between, it would lie
among the outputs of layers, and the allocator would keep half as much again in pieces.
"""

from __future__ import annotations

import math
import mmap

import torch
from torch import Tensor

from pipeline.base.geometry import Shape


def planes_of(like: Tensor, channels: int, planes: int, rest: Shape) -> Tensor:
    """Return room for so many planes, in the dtype and on the device of ``like``."""
    return Workspace(like, channels * planes * math.prod(rest)).planes(channels, planes, rest)


class Workspace:
    """The room for the input of one layer at a time."""

    def __init__(self, like: Tensor, elements: int) -> None:
        self._flat = _room(like, elements)

    def planes(self, channels: int, planes: int, rest: Shape) -> Tensor:
        """Return the room as planes; what was in it before is lost."""
        shape = (1, planes, *rest, channels)
        elements = math.prod(shape)
        if elements > len(self._flat):  # a slab that neither divides the divisor nor is a multiple
            self._flat = _room(self._flat, elements)
        last = len(shape) - 1
        return self._flat[:elements].view(shape).permute(0, last, *range(1, last))


def _room(like: Tensor, elements: int) -> Tensor:
    """Return a new tensor of one axis; on a processor, of memory that the allocator never sees.

    In the allocator's memory, the next sweep's room would lie elsewhere, between the outputs of
    layers: by hand, up to 1.3 times the memory after some sweeps.
    """
    size = elements * like.element_size()
    if like.device.type != "cpu" or not size or not hasattr(mmap, "MAP_ANONYMOUS"):
        return torch.empty(elements, dtype=like.dtype, device=like.device)
    try:
        own = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(f"planes of a sweep do not fit: {error.strerror}") from None
    return torch.frombuffer(own, dtype=like.dtype)


class KeptPlanes:
    """The last planes that went into a layer, as far as its next output needs them again.

    history: room for the most of them. workspace: where they and new planes are put together.
    """

    def __init__(self, history: Tensor, workspace: Workspace) -> None:
        self._history = history
        self._workspace = workspace
        self._count = 0

    @property
    def most(self) -> int:
        """The most planes that are kept."""
        return self._history.shape[2]

    def gather(self, x: Tensor) -> Tensor:
        """Return the planes kept and the new ones in one tensor."""
        if not self._count:
            return x
        gathered, new = self.with_room_for(x.shape[2])
        new[...] = x
        return gathered

    def with_room_for(self, planes: int) -> tuple[Tensor, Tensor]:
        """Return a tensor with the planes kept and room for more, and a view of this room.

        The planes kept move into it: what :meth:`gather` would return once the room is filled.
        """
        kept, self._count = self._count, 0
        channels, rest = self._history.shape[1], tuple(self._history.shape[3:])
        gathered = self._workspace.planes(channels, kept + planes, rest)
        gathered[:, :, :kept] = self._history[:, :, :kept]
        return gathered, gathered[:, :, kept:]

    def keep(self, x: Tensor, *, planes: int) -> None:
        """Keep the last planes of what a layer reads."""
        self._count = planes
        self._history[:, :, :planes] = x[:, :, x.shape[2] - planes :]
