"""Which outputs a run stores: what is requested, or what suits the outputs of the network."""

from __future__ import annotations

from dataclasses import replace

from ..base.choices import OutputName
from ..base.errors import PlanError
from ..base.network_outputs import NetworkOutputs
from ..models.protocol import Predictor, outputs_of
from .request import SegmentRequest


def with_outputs(request: SegmentRequest, predictor: Predictor) -> SegmentRequest:
    """Return the request with its outputs decided. Raises PlanError for those that mean nothing."""
    meaning = outputs_of(predictor)
    if "classes" in request.outputs and not meaning.has_classes:
        raise PlanError(
            f"--outputs {','.join(request.outputs)} of a network of {meaning.kind}: its channels "
            "are not classes, of which each voxel has one; use --outputs scores"
        )
    if request.outputs:
        return request
    return replace(request, outputs=_suited(meaning, for_objects=request.for_objects))


def _suited(meaning: NetworkOutputs, *, for_objects: bool) -> tuple[OutputName, ...]:
    if not meaning.has_classes:
        return ("scores",)
    return ("classes", "scores") if for_objects else ("classes",)
