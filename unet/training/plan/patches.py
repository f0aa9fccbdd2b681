"""The first patches of a training, as the network will see them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ...samples.maker import SampleMaker

PATCHES = 3


@dataclass(frozen=True, slots=True)
class Patch:
    """The middle slice of an augmented patch; of what it learns, without the context around it."""

    step: int
    number: int
    """In the batch of the step."""
    raw_cyx: NDArray[np.float32]
    targets_yx: NDArray[Any]
    """Classes (y, x), IGNORED where unknown; of other outputs float32 (channel, y, x)."""
    weights_yx: NDArray[np.float32]
    """Of the same shape."""

    @property
    def is_of_classes(self) -> bool:
        """Whether the network learns classes."""
        return self.targets_yx.ndim == 2


def first_patches(maker: SampleMaker, *, batch: int, count: int = PATCHES) -> tuple[Patch, ...]:
    """Return the first patches that a training with this batch takes."""
    return tuple(_patch(maker, *divmod(index, batch)) for index in range(count))


def _patch(maker: SampleMaker, step: int, number: int) -> Patch:
    x, targets, weights = (part[0].cpu() for part in maker.sample(step, number))
    halo, output = maker.network.halo, maker.output_shape
    inner = (slice(None), *(slice(h, h + n) for h, n in zip(halo, output, strict=True)))
    return Patch(
        step=step,
        number=number,
        raw_cyx=_middle(x[inner], dims=len(output)),
        targets_yx=_middle(targets, dims=len(output)),
        weights_yx=_middle(weights, dims=len(output)),
    )


def _middle(values: Tensor, *, dims: int) -> NDArray[Any]:
    """Return the middle slice along z of an array of a 3-D network; of a 2-D one, all of it."""
    array: NDArray[Any] = values.numpy()
    return array if dims == 2 else np.take(array, array.shape[-3] // 2, axis=-3)
