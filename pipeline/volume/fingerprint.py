"""A small sample of a volume, to detect changed contents and unsuitable grey values.

Nine small boxes are read, spread over the volume; usually a chunk each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base.errors import VolumeError
from ..base.geometry import Box
from ..base.sample_digest import UNREAD
from ..base.store_errors import explained, one_line
from .intensity import Intensity
from .volume import VolumeSource, open_volume

BOX = (1, 64, 64)
POSITIONS = (0.5, 0.1, 0.9)
"""Relative positions of the boxes along each axis: the centre, and the corners of an inner box."""
FAR_OUTSIDE = 1.0
"""Network input was 0..1 in training; values further outside count as out of range."""
ALMOST_CONSTANT = 0.02
"""Least extent of network input that is not suspicious."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Voxels of the boxes (c, voxel), and a short digest of each box, or UNREAD."""

    values: NDArray[Any]
    digest: str
    unreadable: str = ""
    """Why a box could not be read; usually a damaged chunk."""


def read_sample(source: VolumeSource) -> Sample:
    """Return the sample of a volume. Raises VolumeError where the volume cannot be opened.

    A box that cannot be read is left out: its blocks will be set aside, and the rest is segmented.
    """
    volume = open_volume(source)
    parts, digests, why = [np.empty((source.channel_count, 0), source.dtype)], [], ""
    for box in sample_boxes(source.shape_zyx):
        try:
            part = volume.read(box)
        except Exception as error:  # codecs raise errors of their own kinds
            why = one_line(f"{type(error).__name__}: {error}")
            digests.append(UNREAD)
        else:
            parts.append(part.reshape(len(part), -1))
            digests.append(hashlib.sha256(np.ascontiguousarray(part).tobytes()).hexdigest()[:8])
    return Sample(np.concatenate(parts, axis=1), " ".join(digests), why)


def check_labels(source: VolumeSource) -> None:
    """Raise LabelError if labels that are stored as floats are not whole numbers in the sample."""
    if np.dtype(source.dtype).kind == "f":
        volume = open_volume(source)
        for box in sample_boxes(source.shape_zyx):
            with explained(VolumeError, source.location):
                volume.read(box)


def sample_boxes(shape: tuple[int, int, int]) -> list[Box]:
    """Return the boxes, all inside the volume; in a small volume they may overlap."""
    corners = [(z, y, x) for z in POSITIONS[1:] for y in POSITIONS[1:] for x in POSITIONS[1:]]
    boxes = []
    for position in ((POSITIONS[0],) * 3, *corners):
        size = tuple(min(n, s) for n, s in zip(shape, BOX, strict=True))
        start = tuple(round((n - s) * p) for n, s, p in zip(shape, size, position, strict=True))
        boxes.append(Box(start, tuple(a + s for a, s in zip(start, size, strict=True))))
    return boxes


def intensity_note(
    sample: Sample, intensity: Intensity | None, record: Mapping[str, Any]
) -> str | None:
    """Return a warning if grey values are far outside the range of the weights, else None."""
    if intensity is None or record["kind"] not in ("range", "dtype") or not sample.values.size:
        return None
    x = intensity.apply(sample.values)
    far = float(((x < -FAR_OUTSIDE) | (x > 1 + FAR_OUTSIDE)).mean())
    finite = sample.values[np.isfinite(sample.values)]
    if not finite.size:
        return None
    least, largest = float(finite.min()), float(finite.max())  # int8 would overflow below
    expected = f"{intensity.offset[0]:g} to {intensity.offset[0] + 1 / intensity.scale[0]:g}"
    if far > 0.05:
        return (
            f"grey values are outside the range of the weights: a sample spans {least:g} to "
            f"{largest:g}, expected {expected}; set --normalisation"
        )
    if largest - least > 0 and (x.max() - x.min()) < ALMOST_CONSTANT:
        return (
            f"grey values are almost constant for the weights: a sample spans {least:g} to "
            f"{largest:g}, expected {expected}; set --normalisation"
        )
    return None


def measured_note(
    source: VolumeSource, intensity: Intensity, record: Mapping[str, Any]
) -> str | None:
    """Return a warning if outliers dominate a measured standard deviation, else None."""
    if record["kind"] != "zscore":
        return None
    values = read_sample(source).values
    finite = values[np.isfinite(values)]
    spread = np.ptp(intensity.apply(values)) if finite.size else 0.0
    if not finite.size or finite.min() == finite.max() or spread >= ALMOST_CONSTANT:
        return None
    return (
        f"grey values are almost constant after zscore: a sample spans {finite.min():g} to "
        f"{finite.max():g}, which becomes {spread:.2g} standard deviations; if outliers dominate "
        "the standard deviation, use --normalisation percentile or range:LOW:HIGH"
    )
