"""The normalisation of a preview: that of a run, measured on less where the volume is large."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from ..segmentation.request import SegmentRequest
from ..volume.intensity import (
    Intensity,
    check_percentiles,
    range_intensity,
    record_text,
    stated_intensity,
    zscore_intensity,
)
from ..volume.measure_intensity import measure_here
from ..volume.statistics import finite, moments_of
from ..volume.volume import VolumeSource
from .survey import Survey

EXACT_VALUES: Final = 2**25
"""A volume (or level) of at most this many values is measured completely, as a run measures it."""


def preview_intensity(
    request: SegmentRequest,
    source: VolumeSource,
    record: Mapping[str, Any],
    *,
    survey: Callable[[], Survey],
) -> tuple[Intensity, str | None]:
    """Return the Intensity of a complete record, and a note if it is not measured completely.

    survey: called if only a part of the volume is measured. Raises IntensityError as a run does.
    """
    stated = stated_intensity(record, source.dtype)
    if stated is not None:
        return stated, None
    measured = request.find_source(level=record["level"]) if "level" in record else source
    if measured.channel_count * math.prod(measured.shape_zyx) <= EXACT_VALUES:
        return measure_here(measured, record), None
    part = survey()
    note = (
        f"the normalisation, {record_text(record)}, is measured on {part.where} for the preview; "
        "segment measures all voxels, so its scores may differ slightly"
    )
    return _estimated(part, record), note


def _estimated(survey: Survey, record: Mapping[str, Any]) -> Intensity:
    """Return the Intensity that the values of a survey give."""
    if record["kind"] == "zscore":
        moments = moments_of(survey.values)
        return zscore_intensity(list(zip(moments.mean.tolist(), moments.std.tolist(), strict=True)))
    pairs, extremes = [], []
    for channel in survey.values:
        percents = (float(record["low"]), float(record["high"]), 0.0, 100.0)
        values = finite(channel)
        found = np.percentile(values, percents, method="inverted_cdf") if values.size else [0.0] * 4
        low, high, least, largest = map(float, found)
        pairs.append((low, high))
        extremes.append((least, largest))
    check_percentiles(record, pairs, extremes)
    return range_intensity(pairs)
