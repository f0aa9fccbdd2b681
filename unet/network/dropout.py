"""Dropout by counter: the mask of a patch depends neither on its batch nor on the process.

An activation is kept where a hash of its index and of the patch's key is at least ``p``, as a share
of 2**32. The key follows from (seed, step, number of the patch, number of the layer), and the hash
is integer arithmetic: a patch has one mask, whatever rank and whatever device computes it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

Key: TypeAlias = tuple[int, int]
"""Two integers below 2**32."""

_WORD = 2**32 - 1
_MULTIPLIERS = 0x21F0AAAD, 0x735A2D97
"""Of the 32-bit hash with shifts 16, 15, 15 (C. Wellons, "hash-prospector", 2018). Both are below
2**31, so that no product of a 32-bit word overflows int64."""


class PatchDropout(nn.Module):
    """Dropout with a key per patch of the batch; the identity in inference. It has no state.

    Without keys (:func:`key_dropout`), as in a training loop that is not overtile's, its random
    numbers are those of torch's generator.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.keys: Sequence[Key] | None = None
        """One per patch of the next batch."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, c, *space) with a share ``p`` set to 0 and the rest scaled by 1 / (1 - p)."""
        if not self.training:
            return x
        if self.keys is None:
            return F.dropout(x, self.p)
        if len(self.keys) != len(x):
            raise ValueError(f"{len(self.keys)} dropout keys: expected one per patch, {len(x)}")
        kept = [kept_elements(x.shape[1:], p=self.p, key=key, device=x.device) for key in self.keys]
        return x * torch.stack(kept) * (1 / (1 - self.p))

    def extra_repr(self) -> str:
        """Return the settings for torch's printed form of a network."""
        return f"p={self.p}"


def key_dropout(model: nn.Module, *, seed: int, step: int, numbers: Sequence[int]) -> None:
    """Set the masks of a network's next batch, whose patches have these numbers in the step."""
    layers = [module for module in model.modules() if isinstance(module, PatchDropout)]
    for layer, module in enumerate(layers):
        module.keys = [mask_key(seed, step, number, layer) for number in numbers]


def mask_key(seed: int, step: int, number: int, layer: int) -> Key:
    """Return the key of the mask of one patch in one layer."""
    words = np.random.SeedSequence([seed, step, number, 3, layer]).generate_state(2, np.uint32)
    return int(words[0]), int(words[1])


def kept_elements(shape: Sequence[int], *, p: float, key: Key, device: torch.device) -> Tensor:
    """Return which activations of a patch are kept: bool of this shape, in C order of its index."""
    first, second = _MULTIPLIERS
    word = torch.arange(math.prod(shape), dtype=torch.int64, device=device)
    word ^= key[0]
    word ^= word >> 16
    word *= first
    word &= _WORD
    word ^= key[1]
    word ^= word >> 15
    word *= second
    word &= _WORD
    word ^= word >> 15
    return (word >= round(p * 2**32)).view(tuple(shape))
