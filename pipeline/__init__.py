"""Arrays, Zarr and Dask: volumes in overlapping blocks. No torch, no prefect.

Names are loaded when they are first used: a plan needs no cluster.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .base.errors import OvertileError, RunError
    from .base.geometry import Box, Halo
    from .base.location import Location
    from .evaluation.confusion import ConfusionMatrix, confusion
    from .evaluation.request import EvaluateRequest
    from .evaluation.result import Evaluation
    from .evaluation.run import evaluate_volume
    from .finding import find_objects
    from .models.check import check_predictor
    from .models.protocol import Predictor
    from .models.same_padded import SamePadded
    from .models.tta import with_tta
    from .planning.blocks import BlockPlan
    from .preview.preview import preview_volume
    from .segment import segment_volume
    from .segmentation.engines.overlap import map_overlap
    from .segmentation.request import SegmentRequest
    from .segmentation.run import SegmentRun
    from .volume.find_labels import ReadAs
    from .volume.labelled_volumes import LabelledVolumes, open_labelled
    from .volume.measure_intensity import measure_intensity
    from .volume.volume import find_volume, open_volume

_HOME = {
    "BlockPlan": "planning.blocks",
    "Box": "base.geometry",
    "ConfusionMatrix": "evaluation.confusion",
    "EvaluateRequest": "evaluation.request",
    "Evaluation": "evaluation.result",
    "Halo": "base.geometry",
    "LabelledVolumes": "volume.labelled_volumes",
    "Location": "base.location",
    "OvertileError": "base.errors",
    "Predictor": "models.protocol",
    "ReadAs": "volume.find_labels",
    "RunError": "base.errors",
    "SamePadded": "models.same_padded",
    "SegmentRequest": "segmentation.request",
    "SegmentRun": "segmentation.run",
    "check_predictor": "models.check",
    "confusion": "evaluation.confusion",
    "evaluate_volume": "evaluation.run",
    "find_objects": "finding",
    "find_volume": "volume.volume",
    "map_overlap": "segmentation.engines.overlap",
    "measure_intensity": "volume.measure_intensity",
    "open_labelled": "volume.labelled_volumes",
    "open_volume": "volume.volume",
    "preview_volume": "preview.preview",
    "segment_volume": "segment",
    "with_tta": "models.tta",
}
__all__ = [
    "BlockPlan",
    "Box",
    "ConfusionMatrix",
    "EvaluateRequest",
    "Evaluation",
    "Halo",
    "LabelledVolumes",
    "Location",
    "OvertileError",
    "Predictor",
    "ReadAs",
    "RunError",
    "SamePadded",
    "SegmentRequest",
    "SegmentRun",
    "check_predictor",
    "confusion",
    "evaluate_volume",
    "find_objects",
    "find_volume",
    "map_overlap",
    "measure_intensity",
    "open_labelled",
    "open_volume",
    "preview_volume",
    "segment_volume",
    "with_tta",
]


def __getattr__(name: str) -> object:
    """Load ``name`` from its module (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
