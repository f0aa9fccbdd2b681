"""Which normalisation a run uses: the requested one, or that of the weights."""

from __future__ import annotations

from typing import Any

from ..base.errors import IntensityError
from ..models.protocol import Predictor
from ..volume.intensity import MEASURED_KINDS, check_record, record_text
from ..volume.volume import VolumeSource
from .request import SegmentRequest


def choose_record(
    request: SegmentRequest, predictor: Predictor, source: VolumeSource
) -> tuple[dict[str, Any], list[str]]:
    """Return the complete record, and notes for the user. Raises IntensityError, VolumeError."""
    requested, trained = request.normalisation, predictor.normalisation
    try:
        record = check_record(requested if requested is not None else trained, source.dtype)
    except IntensityError as error:
        origin = "" if requested is not None else "the weights state a wrong "
        raise IntensityError(f"{origin}{error}") from error
    if record["kind"] in MEASURED_KINDS and "level" in record:
        request.find_source(level=record["level"])
    notes = []
    if requested is None and trained is None:
        notes.append(
            f"the weights state no normalisation, using {record['kind']}; "
            "set --normalisation to override"
        )
    elif requested is not None and trained is not None:
        if trained.get("kind") != "dtype":
            trained = check_record(trained, source.dtype)
        if trained != record:
            notes.append(
                f"the weights were trained with normalisation {record_text(trained)}; this run "
                f"uses {record_text(record)}"
            )
    return record, notes
