"""What a loss is: a function of logits, targets and weights, and the outputs that it suits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

from pipeline.base.network_outputs import OutputsKind

Compute: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """A loss, for networks with outputs of some kinds.

    Of classes, it takes logits (n, class, *space), targets (n, *space) int64, IGNORED where they
    are unknown, and weights (n, *space), 0 there. Of other outputs, all three are
    (n, channel, *space), float, and a target where the weight is 0 is not known.

    Every loss is a mean over the patches of a batch of what each patch gives alone, and what is
    unknown adds nothing to it. So the mean over ranks with equal numbers of patches is that of one
    rank with all of them.
    """

    outputs: tuple[OutputsKind, ...]
    compute: Compute

    def __call__(self, logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """Return the loss, a scalar in float32."""
        return self.compute(logits, targets, weights)
