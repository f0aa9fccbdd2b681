"""All losses by the name that a recipe states, and the one that is used where it states none."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pipeline.base.errors import ConfigError
from pipeline.base.network_outputs import OutputsKind

from ..recipe.choices import LossName
from .binary_cross_entropy import BINARY_CROSS_ENTROPY
from .boundary import CROSS_ENTROPY_AND_BOUNDARY
from .cross_entropy import CROSS_ENTROPY
from .dice import BINARY_CROSS_ENTROPY_AND_DICE, CROSS_ENTROPY_AND_DICE
from .focal import FOCAL
from .loss import Loss
from .smooth_l1 import SMOOTH_L1
from .squared_error import SQUARED_ERROR

LOSSES: Mapping[LossName, Loss] = MappingProxyType(
    {
        "cross-entropy": CROSS_ENTROPY,
        "cross-entropy+dice": CROSS_ENTROPY_AND_DICE,
        "cross-entropy+boundary": CROSS_ENTROPY_AND_BOUNDARY,
        "focal": FOCAL,
        "binary-cross-entropy": BINARY_CROSS_ENTROPY,
        "binary-cross-entropy+dice": BINARY_CROSS_ENTROPY_AND_DICE,
        "squared-error": SQUARED_ERROR,
        "smooth-l1": SMOOTH_L1,
    }
)
DEFAULT: Mapping[OutputsKind, LossName] = MappingProxyType(
    {
        "classes": "cross-entropy",
        "affinities": "binary-cross-entropy",
        "distance": "squared-error",
        "centre": "binary-cross-entropy",
    }
)
"""By the kind of the network's outputs."""


def loss_of(name: LossName | None, outputs: OutputsKind) -> Loss:
    """Return a loss for outputs of this kind; None: their default.

    Raises ConfigError for a loss that does not suit them; the message lists those that do.
    """
    found = LOSSES[name or DEFAULT[outputs]]
    if outputs not in found.outputs:
        suited = ", ".join(other for other, loss in LOSSES.items() if outputs in loss.outputs)
        raise ConfigError(
            f"training.loss ({name}): it takes {' or '.join(found.outputs)}, and the network "
            f"learns {outputs}; use one of {suited}, or another labels.rule"
        )
    return found
