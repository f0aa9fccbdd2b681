"""The request for an evaluation, checked when it is created."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, TypedDict

from ..base.choices import DEFAULT_THRESHOLDS, Objects
from ..base.errors import PlanError
from ..base.geometry import Box
from ..base.location import Location


class EvaluateSettings(TypedDict, total=False):
    """The optional fields of EvaluateRequest, as keyword arguments of ``evaluate_volume``."""

    scores: int | str | None
    time: int | None
    axes: str | None
    objects: Objects | None
    truth_objects: int | str
    per_slice: bool
    slices: tuple[int, int] | None
    box: Box | None
    ignore: int | None
    thresholds: tuple[float, ...]
    seed_distance: float
    seed_voxels: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateRequest:
    """A prediction, the truth, and how to compare them. Raises PlanError for invalid settings.

    By default classes are compared with classes. ``scores`` names a class whose scores are compared
    at every threshold instead. ``objects`` defines the objects of the prediction.
    ``prediction`` and ``truth`` may be given as text, which is parsed here.
    """

    prediction: Location
    """An output of overtile, or any Zarr array of its classes, ids or scores."""
    truth: Location
    """Zarr array (or OME-Zarr labels) of classes or of ids, of the same shape."""
    scores: int | str | None = None
    """The class (for objects, a boundary) whose scores are used: name or number."""
    time: int | None = None
    """Time point of the arrays that have a time axis."""
    axes: str | None = None
    """Stored axes of arrays that do not state theirs."""
    objects: Objects | None = None
    """``ids``: as stored. ``components``: connected voxels where the score is below the threshold,
    or, without scores, where the class is the true objects' class. ``watershed``: see
    objects.seeded_watershed."""
    truth_objects: int | str = "ids"
    """``ids``: the truth's integers, 0 is background. A class, by number or name: its connected
    components."""
    per_slice: bool = False
    """Every z is a separate image; figures of objects are means over the slices."""
    slices: tuple[int, int] | None = None
    """First z, and the first z after the last one."""
    box: Box | None = None
    """(z, y, x); only voxels inside are read."""
    ignore: int | None = None
    """Label of the truth whose voxels do not count."""
    thresholds: tuple[float, ...] = DEFAULT_THRESHOLDS
    seed_distance: float = 2.0
    """For ``watershed``: depth of a seed inside its object, in voxels of the finest axis."""
    seed_voxels: int = 0
    """For ``watershed``: minimum size of a seed."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "prediction", Location.parse(self.prediction))
        object.__setattr__(self, "truth", Location.parse(self.truth))
        _check_thresholds(self.thresholds)
        if self.objects == "ids" and self.scores is not None:
            raise PlanError(
                "ids are stored integers and have no scores: omit --scores, or use "
                "--objects components or watershed"
            )
        if self.objects == "watershed" and self.scores is None:
            raise PlanError("a watershed floods a score: choose the boundary's class with --scores")
        if self.objects is None and (self.per_slice or self.truth_objects != "ids"):
            option = "--per-slice" if self.per_slice else "--truth-objects"
            raise PlanError(
                f"{option} needs objects: define those of the prediction with "
                "--objects components, watershed or ids"
            )
        if self.slices is not None and self.box is not None:
            raise PlanError("--slices and --box exclude each other: pass one of them")
        if self.slices is not None and not 0 <= self.slices[0] < self.slices[1]:
            raise PlanError(f"--slices {self.slices[0]}:{self.slices[1]} contains no slice")
        if self.box is not None and not self.box.voxels:
            raise PlanError(f"--box from {self.box.start} to {self.box.stop} contains no voxel")
        if not self.seed_distance >= 0 or self.seed_voxels < 0:
            raise PlanError("--seed-distance and --seed-voxels: expected 0 or more")

    @property
    def has_class_truth(self) -> bool:
        """Whether truth and prediction hold classes, so that voxels can be right or wrong."""
        return self.objects is None or (self.objects != "ids" and self.truth_objects != "ids")

    def settings(self) -> dict[str, Any]:
        """Return the settings that affect the figures, as JSON values."""
        is_number = str(self.scores).isdecimal()  # the same record, whether text or number
        scores = int(str(self.scores)) if is_number else self.scores
        scored = {"scores": scores, "thresholds": list(self.thresholds)}
        seeded = {"seed_distance": self.seed_distance, "seed_voxels": self.seed_voxels}
        return {
            "objects": self.objects,
            "truth_objects": self.truth_objects if self.objects else None,
            "per_slice": self.per_slice,
            "ignore": self.ignore,
            "time": self.time,
            "axes": self.axes,
            **(scored if self.scores is not None else {}),
            **(seeded if self.objects == "watershed" else {}),
        }


def _check_thresholds(thresholds: tuple[float, ...]) -> None:
    rises = all(a < b for a, b in itertools.pairwise(thresholds))
    if not thresholds or not rises or not (thresholds[0] > 0 and thresholds[-1] <= 1):
        shown = ", ".join(f"{threshold:g}" for threshold in thresholds[:4]) or "none"
        raise PlanError(
            f"thresholds {shown}: expected ascending values above 0 and up to 1, such as 0.25, 0.5"
        )
