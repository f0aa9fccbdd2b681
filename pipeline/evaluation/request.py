"""What an evaluation is asked for: checked once, where it is made."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from ..base.choices import DEFAULT_THRESHOLDS, Objects
from ..base.errors import PlanError
from ..base.geometry import Box
from ..base.location import Location


class EvaluateSettings(TypedDict, total=False):
    """The optional fields of EvaluateRequest, as keyword arguments of ``evaluate_volume``."""

    scores: int | str | None
    objects: Objects | None
    truth_objects: Literal["ids"] | int
    per_slice: bool
    slices: tuple[int, int] | None
    box: Box | None
    ignore: int | None
    thresholds: tuple[float, ...]
    seed_distance: float
    seed_voxels: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateRequest:
    """A prediction, the truth, and how to compare them. Raises PlanError for what cannot be.

    By default classes are compared with classes. ``scores`` names a class whose scores are compared
    at every threshold instead. ``objects`` says what the objects of the prediction are.
    ``prediction`` and ``truth`` may be given as text, which is parsed here.
    """

    prediction: Location
    """An output of overtile, or any Zarr array of its classes, ids or scores."""
    truth: Location
    """Zarr array (or OME-Zarr labels) of classes or of ids, of the same shape."""
    scores: int | str | None = None
    """The class (a boundary, where there are objects) whose scores are taken: name or number."""
    objects: Objects | None = None
    """``ids``: as stored. ``components``: connected voxels where the score is below the threshold,
    or, without scores, where the class is that of the true objects. ``watershed``: see
    objects.seeded_watershed."""
    truth_objects: Literal["ids"] | int = "ids"
    """``ids``: the truth's integers, 0 is none. A class: its connected components."""
    per_slice: bool = False
    """Every z is an image of its own; figures of objects are means over them."""
    slices: tuple[int, int] | None = None
    """First z, and the first that is left out."""
    box: Box | None = None
    """(z, y, x); only what is inside is read."""
    ignore: int | None = None
    """Label of the truth whose voxels do not count."""
    thresholds: tuple[float, ...] = DEFAULT_THRESHOLDS
    seed_distance: float = 2.0
    """Of ``watershed``: how deep inside a seed lies, in voxels of the finest axis."""
    seed_voxels: int = 0
    """Of ``watershed``: what a seed has at least."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "prediction", Location.parse(self.prediction))
        object.__setattr__(self, "truth", Location.parse(self.truth))
        _check_thresholds(self.thresholds)
        if self.objects == "ids" and self.scores is not None:
            raise PlanError(
                "ids are stored integers and have no scores: leave --scores out, or take "
                "--objects components or watershed"
            )
        if self.objects == "watershed" and self.scores is None:
            raise PlanError("a watershed floods a score: name the boundary's class with --scores")
        if self.objects is None and (self.per_slice or self.truth_objects != "ids"):
            option = "--per-slice" if self.per_slice else "--truth-objects"
            raise PlanError(
                f"{option} is about objects: say what those of the prediction are, with "
                "--objects components, watershed or ids"
            )
        if self.slices is not None and self.box is not None:
            raise PlanError("--slices and --box both say where: give one of them")
        if self.slices is not None and not 0 <= self.slices[0] < self.slices[1]:
            raise PlanError(f"--slices {self.slices[0]}:{self.slices[1]} holds no slice")
        if self.box is not None and not self.box.voxels:
            raise PlanError(f"--box from {self.box.start} to {self.box.stop} holds no voxel")
        if not self.seed_distance >= 0 or self.seed_voxels < 0:
            raise PlanError("a seed's distance and its voxels are 0 or more")

    @property
    def has_class_truth(self) -> bool:
        """Whether truth and prediction hold classes, so that voxels can be right or wrong."""
        return self.objects is None or (self.objects != "ids" and self.truth_objects != "ids")

    def settings(self) -> dict[str, Any]:
        """Return what shapes the figures, as JSON values."""
        scored = {"scores": self.scores, "thresholds": list(self.thresholds)}
        seeded = {"seed_distance": self.seed_distance, "seed_voxels": self.seed_voxels}
        return {
            "objects": self.objects,
            "truth_objects": self.truth_objects if self.objects else None,
            "per_slice": self.per_slice,
            "ignore": self.ignore,
            **(scored if self.scores is not None else {}),
            **(seeded if self.objects == "watershed" else {}),
        }


def _check_thresholds(thresholds: tuple[float, ...]) -> None:
    rises = all(a < b for a, b in itertools.pairwise(thresholds))
    if not thresholds or not rises or not (thresholds[0] > 0 and thresholds[-1] <= 1):
        shown = ", ".join(f"{threshold:g}" for threshold in thresholds[:4]) or "none"
        raise PlanError(f"thresholds rise, above 0 and up to 1, like 0.25, 0.5: these are {shown}")
