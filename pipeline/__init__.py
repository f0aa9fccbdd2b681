"""Arrays, Zarr and Dask: volumes in overlapping blocks. No torch, no prefect.

Names are loaded when they are first used: a plan needs no cluster.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .errors import OvertileError, RunError
    from .evaluation.request import EvaluateRequest
    from .evaluation.result import Evaluation
    from .evaluation.run import evaluate_volume
    from .foreign import check_predictor
    from .geometry import Box, Halo
    from .measure import measure_intensity
    from .metrics import ConfusionMatrix, confusion
    from .overlap import map_overlap
    from .plan import BlockPlan
    from .predictor import Predictor
    from .prepare import SegmentRequest
    from .run import SegmentRun, segment_volume
    from .same_padded import SamePadded
    from .tta import with_tta
    from .volume import find_volume, open_volume

_HOME = {
    "BlockPlan": "plan",
    "Box": "geometry",
    "ConfusionMatrix": "metrics",
    "EvaluateRequest": "evaluation.request",
    "Evaluation": "evaluation.result",
    "Halo": "geometry",
    "OvertileError": "errors",
    "Predictor": "predictor",
    "RunError": "errors",
    "SamePadded": "same_padded",
    "SegmentRequest": "prepare",
    "SegmentRun": "run",
    "check_predictor": "foreign",
    "confusion": "metrics",
    "evaluate_volume": "evaluation.run",
    "find_volume": "volume",
    "map_overlap": "overlap",
    "measure_intensity": "measure",
    "open_volume": "volume",
    "segment_volume": "run",
    "with_tta": "tta",
}
__all__ = [
    "BlockPlan",
    "Box",
    "ConfusionMatrix",
    "EvaluateRequest",
    "Evaluation",
    "Halo",
    "OvertileError",
    "Predictor",
    "RunError",
    "SamePadded",
    "SegmentRequest",
    "SegmentRun",
    "check_predictor",
    "confusion",
    "evaluate_volume",
    "find_volume",
    "map_overlap",
    "measure_intensity",
    "open_volume",
    "segment_volume",
    "with_tta",
]


def __getattr__(name: str) -> object:
    """Load ``name`` from its module (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
