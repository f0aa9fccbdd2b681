"""Names of label rules and of losses, which a recipe may state and the shell lists.

Each has one module: in ``unet/samples/rules`` and in ``unet/losses``, whose registries hold the
same names.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

Rule: TypeAlias = Literal["classes", "foreground", "boundary", "affinities", "distance", "centre"]

LossName: TypeAlias = Literal[
    "cross-entropy",
    "cross-entropy+dice",
    "cross-entropy+boundary",
    "focal",
    "binary-cross-entropy",
    "binary-cross-entropy+dice",
    "squared-error",
    "smooth-l1",
]
