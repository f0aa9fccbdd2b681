"""The gradients of a rank's patches, a part after the other where they do not fit at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...samples.maker import Batch

CPU_VOXELS: Final = 2**18
"""Input voxels that go through the network at once on a CPU; more at once would not be faster."""


class Parts:
    """Adds up the gradients of a batch, in parts as large as the memory allows.

    The sum is that of the whole batch, up to rounding. A rank that takes over the patches of a lost
    one needs no more memory for it. With batch norm the batch is one part: all of its patches
    decide the statistics.
    """

    def __init__(self, model: nn.Module, *, device: torch.device) -> None:
        self._model = model
        self._is_cpu = device.type == "cpu"
        self._most: int | None = None
        """Patches that fit the memory; None: no step was too large yet."""

    def gradients(self, batch: Batch, loss_of: Callable[[Batch], Tensor]) -> Tensor:
        """Add the gradients of all patches to the parameters, and return the sum of the losses.

        loss_of: the loss of a part; those of all parts add up to the batch's. Raises
        torch.OutOfMemoryError for a patch that does not fit, or a batch that cannot be divided.
        """
        while True:
            together = self._together(batch)
            try:
                return self._sum(batch, together, loss_of)
            except torch.OutOfMemoryError:
                if together == 1 or self._is_whole():
                    raise
                self._most = together // 2
            # Outside the handler: as long as the error is handled, its frames keep the activations.
            self._model.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()

    def _sum(self, batch: Batch, together: int, loss_of: Callable[[Batch], Tensor]) -> Tensor:
        losses = []
        for start in range(0, len(batch.x), together):
            loss = loss_of(batch.part(start, start + together))
            loss.backward()
            losses.append(loss.detach())
        return torch.stack(losses).sum()

    def _together(self, batch: Batch) -> int:
        """Return how many patches go through the network at once."""
        patches = len(batch.x)
        if self._is_whole():
            return patches
        if self._is_cpu:
            patches = min(patches, max(1, CPU_VOXELS // batch.x[0, 0].numel()))
        return min(patches, self._most or patches)

    def _is_whole(self) -> bool:
        layers = self._model.modules()
        return any(isinstance(layer, _BatchNorm) and layer.training for layer in layers)
