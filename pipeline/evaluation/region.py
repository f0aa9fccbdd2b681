"""One box of truth and prediction, read once: its classes, scores and objects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base.geometry import Box
from ..volume.volume import VolumeSource, read_box
from .contingency import ContingencyTable, count_pairs
from .objects import components, seeded_watershed
from .plan import EvaluatePlan
from .thresholds import as_scores

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class EvaluatedRegion:
    """The compared arrays inside a box, (z, y, x); each is read when it is first used."""

    plan: EvaluatePlan
    box: Box
    slab: EvaluatedRegion | None = None
    """The region of which this is a part, whose arrays have been read."""

    def slices(self) -> Iterator[EvaluatedRegion]:
        """Yield every z as a separate region; all are read at once."""
        for z in range(self.box.start[0], self.box.stop[0]):
            start, stop = (z, *self.box.start[1:]), (z + 1, *self.box.stop[1:])
            yield EvaluatedRegion(self.plan, Box(start, stop), slab=self)

    @cached_property
    def truth(self) -> NDArray[Any]:
        """The truth as stored."""
        if self.slab is not None:
            return self._cut(self.slab.truth)
        return self._read(self.plan.truth, self.box)

    @cached_property
    def classes(self) -> NDArray[Any]:
        """The prediction's integers as stored."""
        assert self.plan.classes is not None
        if self.slab is not None:
            return self._cut(self.slab.classes)
        return self._read(self.plan.classes, self._predicted_box)

    @cached_property
    def scores(self) -> NDArray[np.float32]:
        """The scores, 0..1, of the chosen class."""
        assert self.plan.scores is not None
        if self.slab is not None:
            return self._cut(self.slab.scores)
        return as_scores(
            self._read(self.plan.scores, self._predicted_box), where=str(self.plan.scores.store)
        )

    @cached_property
    def kept(self) -> Mask:
        """Where voxels count: not ignored."""
        ignore = self.plan.request.ignore
        kept: Mask = np.ones(self.truth.shape, np.bool_) if ignore is None else self.truth != ignore
        return kept

    @property
    def positive(self) -> Mask:
        """Where the truth has the class whose scores are used.

        If true objects are the components of a class, the boundary is everything else.
        """
        chosen = self.plan.request.truth_objects
        positive: Mask = (
            self.truth == self.plan.score_class if chosen == "ids" else self.truth != chosen
        )
        return positive

    @cached_property
    def true_objects(self) -> NDArray[Any]:
        """Ids as stored, or the components of a class; 0 is background."""
        chosen = self.plan.request.truth_objects
        return self.truth if chosen == "ids" else components(self.truth == chosen)[0]

    @property
    def has_objects(self) -> bool:
        """Whether the truth has an object here."""
        return bool((self.kept & (self.true_objects != 0)).any())

    @property
    def class_mask(self) -> Mask:
        """Where predicted classes are objects: the true objects' class, or every class except 0."""
        chosen = self.plan.request.truth_objects
        mask: Mask = self.classes != 0 if chosen == "ids" else self.classes == chosen
        return mask

    def masks(self) -> Iterator[Mask]:
        """Yield the masks of objects that are not stored ids: the truth's, then each layer's."""
        request = self.plan.request
        if request.truth_objects != "ids":
            yield self.truth == request.truth_objects
        for layer in self.plan.layers if request.objects != "ids" else ():
            yield self.class_mask if layer is None else self.scores < layer

    def predicted_objects(self, threshold: float | None) -> NDArray[Any]:
        """Return the objects of one layer, as if the image ended at the box."""
        request, plan = self.plan.request, self.plan
        if request.objects == "ids":
            return self.classes
        if threshold is None:
            return components(self.class_mask)[0]
        if request.objects == "components":
            return components(self.scores < threshold)[0]
        flat = request.per_slice
        objects = seeded_watershed(
            self.scores[0] if flat else self.scores,
            threshold=threshold,
            seed_distance=request.seed_distance,
            seed_voxels=request.seed_voxels,
            spacing=plan.spacing[1:] if flat else plan.spacing,
        )
        return objects[None] if flat else objects

    def table(
        self, predicted: NDArray[Any], *, truth: NDArray[Any] | None = None
    ) -> ContingencyTable:
        """Count predicted against true objects (by default those of this region)."""
        true = self.true_objects if truth is None else truth
        return count_pairs(true[self.kept], predicted[self.kept])

    def _cut(self, array: NDArray[Any]) -> NDArray[Any]:
        assert self.slab is not None
        return array[self.box.relative_to(self.slab.box.start).slices]

    @property
    def _predicted_box(self) -> Box:
        """The box in voxels of the prediction."""
        return self.box.relative_to(self.plan.placement.start)

    def _read(self, source: VolumeSource, box: Box) -> NDArray[Any]:
        stored: NDArray[Any] = read_box(source, box)[0]
        return stored
