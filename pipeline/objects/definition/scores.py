"""The scores that objects are made from: which class, and as which integers.

Labels are a function of stored integers. Scores of uint8 and uint16 are used as they are; floats
from 0 to 1 are rounded to one of 65,536 values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ...base.errors import VolumeError
from ...base.geometry import Box
from ...base.stores import read_node
from ...output.guard import RUN_GROUP
from ...volume.volume import VolumeSource, find_volume, open_volume
from .method import Role
from .request import ObjectsRequest

_CLASSES: Final = "labels/classes"
_BOUNDARIES: Final = (
    "boundary", "boundaries", "membrane", "membranes", "border", "borders", "edge", "edges",
    "wall", "walls", "cell wall", "contour", "outline",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Scores of one class. Small, picklable."""

    source: VolumeSource
    class_name: str
    role: Role
    all_classes: VolumeSource | None = None
    """Where only a part was segmented, the scores of all classes: all are 0 outside of it."""

    def is_segmented(self, box: Box) -> NDArray[np.bool_] | None:
        """Return which voxels of a box were segmented; None: all."""
        if self.all_classes is None:
            return None
        segmented: NDArray[np.bool_] = (open_volume(self.all_classes).read(box) != 0).any(axis=0)
        return segmented

    @property
    def highest(self) -> int:
        """The integer that stands for a score of 1."""
        return 255 if self.source.dtype == "uint8" else 65535

    def read(self, box: Box) -> NDArray[Any]:
        """Return the integers (z, y, x) of a box. Raises VolumeError for other values."""
        values: NDArray[Any] = open_volume(self.source).read(box)[0]
        if values.dtype.kind == "u":
            return values
        is_score = (values >= 0) & (values <= 1)  # False for NaN
        if not is_score.all():
            worst = values[~is_score].ravel()[0]
            raise VolumeError(
                f"{self.source.location} holds {worst:g}: expected scores from 0 to 1 as floats, "
                "or as uint8 or uint16"
            )
        return np.rint(values.astype(np.float64) * self.highest).astype(np.uint16)

    def at_least(self, score: float) -> int:
        """Return the lowest integer that is not below a score."""
        return math.ceil(round(score * self.highest, 6))


def find_scores(request: ObjectsRequest) -> Scores:
    """Return the scores of the requested class. Reads metadata only.

    Raises VolumeError for what holds no scores, for an unknown class, and where more than
    one class could be meant.
    """
    everything = source = _stored(request, None)
    names = source.channel_names if "c" in source.axes else ()
    count = source.channel_count
    number = choose_class(request.score_class, names, count)
    if "c" in source.axes:
        source = _stored(request, number)
    if source.dtype not in ("uint8", "uint16", "float16", "float32", "float64"):
        raise VolumeError(
            f"{source.location} holds {source.dtype}: expected scores as uint8, uint16, or floats "
            "from 0 to 1"
        )
    name = names[number] if number < len(names) else str(number)
    role = request.role or role_of(name)
    is_partial = role == "boundary" and count > 1 and _is_of_a_part(request)
    return Scores(
        source=source, class_name=name, role=role, all_classes=everything if is_partial else None
    )


def _is_of_a_part(request: ObjectsRequest) -> bool:
    """Return whether the scores are an output of overtile of a part of a volume."""
    run = read_node(request.scores, path=RUN_GROUP)
    job = run.attributes.get("job", {}) if run else {}
    return any(name in job for name in ("mask", "skip")) or job.get("frame") == "volume"


def role_of(class_name: str) -> Role:
    """Return what the name of a class says that it is.

    >>> role_of("Membrane"), role_of("nucleus")
    ('boundary', 'foreground')
    """
    return "boundary" if class_name.strip().lower() in _BOUNDARIES else "foreground"


def _stored(request: ObjectsRequest, channel: int | None) -> VolumeSource:
    node = read_node(request.scores)
    is_output = node is not None and read_node(request.scores, path=_CLASSES) is not None
    source = find_volume(
        request.scores, level=request.level, channel=channel, time=request.time, axes=request.axes
    )
    inside = source.path.startswith(f"{_CLASSES}/") or "image-label" in str(
        node.attributes if node else ""
    )
    if inside or (is_output and "c" not in source.axes):
        raise VolumeError(
            f"{request.scores} holds classes and no scores: segment with --outputs classes,scores"
        )
    return source


def choose_class(chosen: int | str | None, names: Sequence[str], count: int) -> int:
    """Return the number of the class that makes objects. Raises VolumeError if it is unknown.

    chosen: its name or number; None where there is only one that can be meant.
    """
    listed = ", ".join(names) or f"0 to {count - 1}"
    if chosen is None:
        return _only_class(names, count, listed)
    matches = [i for i, name in enumerate(names) if name.lower() == str(chosen).strip().lower()]
    if len(matches) == 1:
        return matches[0]
    if str(chosen).isdecimal() and int(chosen) < count:
        return int(chosen)
    raise VolumeError(f"the scores have no class {chosen!r}: expected one of {listed}")


def _only_class(names: Sequence[str], count: int, listed: str) -> int:
    """Return the class that is meant where none is named: one of one, or the second of two."""
    if count == 1:
        return 0
    boundaries = [i for i, name in enumerate(names) if role_of(name) == "boundary"]
    if count == 2:
        return boundaries[0] if boundaries else 1
    raise VolumeError(f"{count} classes ({listed}): choose the one that makes objects with --class")
