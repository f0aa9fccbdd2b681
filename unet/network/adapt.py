"""The tensors of one U-Net as the start of another, with other input channels or classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from torch import Tensor

FIRST_LAYER: Final = "contracting.0.convolution_1.weight"
HEAD: Final = "head."


def adapted_tensors(
    tensors: Mapping[str, Tensor], fresh: Mapping[str, Tensor], *, with_head: bool
) -> dict[str, Tensor]:
    """Return the tensors that a network starts with, by name.

    tensors: of a trained network whose layers are the same but for the number of input channels
    and classes. fresh: of the new network, just initialised; it keeps its head unless ``with_head``
    (the classes are then the same).
    """
    taken = {
        name: tensor for name, tensor in tensors.items() if with_head or not name.startswith(HEAD)
    }
    channels = fresh[FIRST_LAYER].shape[1]
    taken[FIRST_LAYER] = spread_over_channels(taken[FIRST_LAYER], channels)
    return {**fresh, **taken}


def spread_over_channels(kernels: Tensor, channels: int) -> Tensor:
    """Return the kernels (out, in, *kernel) of a first layer for another number of input channels.

    Each channel gets the mean kernel times old / new channels: an image that is the same in all
    channels has the response that it had in all channels of the old network.
    """
    if kernels.shape[1] == channels:
        return kernels
    each = kernels.sum(dim=1, keepdim=True) / channels
    return each.expand(-1, channels, *kernels.shape[2:]).contiguous()
