"""From raw values to a network's input, and from probabilities to what is stored, on a device.

Each function takes the same steps as its counterpart in numpy (``pipeline.volume.intensity``,
``pipeline.output.kinds``), so that both give the same bits on a processor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

import torch
from torch import Tensor

from pipeline.base.grey_values import working_dtype
from pipeline.base.tile_request import TileRequest

Stored: TypeAlias = Callable[[Tensor, Tensor, torch.dtype], Tensor]
"""From probabilities (class, z, y, x), classes (z, y, x) and a dtype to what an output holds."""


def normalised(raw_czyx: Tensor, request: TileRequest) -> Tensor:
    """Return float32 network input (channel, z, y, x), contiguous; the raw values stay."""
    is_float = raw_czyx.is_floating_point()
    name = working_dtype("f" if is_float else "i", raw_czyx.element_size())
    working = getattr(torch, name)
    x = raw_czyx.to(working, copy=True, memory_format=torch.contiguous_format)
    offsets, scales = (_of_channels(len(x), each) for each in (request.offset, request.scale))
    for x_zyx, offset, scale in zip(x, offsets, scales, strict=True):
        x_zyx.sub_(offset).mul_(scale)  # a tensor of them would make the host wait for a GPU
    x = x.to(torch.float32)
    return x.nan_to_num_(nan=0, posinf=0, neginf=0) if is_float else x


def _of_channels(channels: int, values: Sequence[float]) -> Sequence[float]:
    """Return one value per channel; a single one is that of all."""
    return values if len(values) == channels else [values[0]] * channels


def stored(scores_czyx: Tensor, outputs: Sequence[tuple[str, str]]) -> tuple[Tensor, ...]:
    """Return the classes (z, y, x), then each output, contiguous.

    outputs: kind and dtype of each; see ``pipeline.output.kinds``.
    """
    classes_zyx = classes_of(scores_czyx)
    return (
        classes_zyx,
        *(STORED[kind](scores_czyx, classes_zyx, getattr(torch, dtype)).contiguous()
          for kind, dtype in outputs),
    )  # fmt: skip


def classes_of(scores_czyx: Tensor) -> Tensor:
    """Return the first class of the highest probability (z, y, x), uint8.

    As ``argmax``, which takes eight bytes per voxel and 17 times as long on a processor. Where all
    probabilities are NaN, as of a network with infinite weights, it is class 0.
    """
    highest, *others = scores_czyx
    classes_zyx = torch.zeros(highest.shape, dtype=torch.uint8, device=highest.device)
    for number, scores_zyx in enumerate(others, start=1):
        classes_zyx.masked_fill_(scores_zyx > highest, number)
        if number < len(others):
            highest = torch.maximum(highest, scores_zyx)
    return classes_zyx


def _probabilities(scores_czyx: Tensor, classes_zyx: Tensor, dtype: torch.dtype) -> Tensor:
    """Return 0..1 as floats, or 0..255 as uint8, rounded half to even."""
    if dtype == torch.uint8:
        return (scores_czyx * 255).round_().to(dtype)
    return scores_czyx.to(dtype)


def _classes(scores_czyx: Tensor, classes_zyx: Tensor, dtype: torch.dtype) -> Tensor:
    return classes_zyx.to(dtype)


STORED: Mapping[str, Stored] = MappingProxyType({"classes": _classes, "scores": _probabilities})
"""By kind of output."""
