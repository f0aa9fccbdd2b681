"""Settings of ``unet.train_unet`` that most trainings leave at their defaults."""

from __future__ import annotations

import os
from typing import TypedDict

from .start.weights import StartWeights


class TrainingSettings(TypedDict, total=False):
    """How a training begins, and how its weights are stored."""

    resume: bool
    """Continue from the last checkpoint, if there is one."""
    start_from: str | os.PathLike[str] | StartWeights | None
    """Weights whose layers are the start: a file, a URI or a bundled name; None: random ones."""
    dtype: str
    """Of the stored weights: float32 (default) or float16."""
