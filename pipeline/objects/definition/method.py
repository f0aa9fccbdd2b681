"""What objects are: the parameters that, with the stored scores, decide every label."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...base.geometry import Shape
from .lengths import distance_halo
from .neighbourhood import neighbour_offsets

Role: TypeAlias = Literal["foreground", "boundary"]
Agglomerate: TypeAlias = Literal["none", "threshold", "mean"]
Flood: TypeAlias = Literal["score", "distance"]

HIGHEST: Final = 65535
"""The largest height."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """When two fragments may not be joined: both are ``depth`` deep, or, with 0, both have a seed.

    Fragments of connected components all count as seeded.
    """

    depth: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A definition of objects; scores are stored integers, lengths are integer steps.

    role: whether the scores are those of the objects themselves, or of what lies between them.
    threshold: where objects can be: at or above it for foreground, below it for boundaries; None:
    everywhere. Without ``seeds`` and ``depth``, objects are connected components.
    """

    role: Role
    threshold: int | None
    connectivity: int
    per_slice: bool
    seed_threshold: int | None = None
    """Of seeds; objects have one each. Chosen like ``threshold``."""
    seed_distance: int = 0
    """Seeds lie further than this from every voxel whose score is not beyond the threshold."""
    depth: int = 0
    """Objects are the basins that are at least this deep."""
    flood: Flood = "score"
    """What the watershed floods: the scores, or the distances to the outside up to
    ``seed_distance``."""
    agglomerate: Agglomerate = "none"
    """How objects of the watershed are merged where their common face has low scores."""
    merge_threshold: int = 0
    """Faces of a lower mean score are merged, or of at least this mean affinity."""
    spacing: Shape = (1000, 1000, 1000)
    """Size of a voxel, in steps (see lengths.py)."""
    edge_axes: tuple[int, ...] = ()
    """Where edges have scores of their own, affinities, the axes along which they connect voxels;
    ``threshold`` and ``seed_threshold`` are then those of edges. Empty: an edge takes its height
    from the scores of its two voxels."""

    @property
    def has_seeds(self) -> bool:
        """Whether objects grow from seeds."""
        return self.seed_threshold is not None

    @property
    def is_watershed(self) -> bool:
        """Whether objects meet on ridges, and are not only what hangs together."""
        return self.has_seeds or self.depth > 0

    @property
    def rule(self) -> Rule:
        """When two fragments may not be joined."""
        return Rule(depth=self.depth)

    @property
    def offsets(self) -> NDArray[np.int64]:
        """Offsets of a voxel's neighbours."""
        return neighbour_offsets(self.connectivity, per_slice=self.per_slice)

    @property
    def spacing_of_distance(self) -> Shape:
        """Sizes of a voxel for distances; across slices nothing is near where slices are apart."""
        return (10**9, *self.spacing[1:]) if self.per_slice else self.spacing

    @property
    def halo(self) -> Shape:
        """Voxels around a block that its labelling needs, per axis."""
        if not self.is_watershed and not self.edge_axes:
            return (0, 0, 0)
        if not self.seed_distance:
            return (1, 1, 1)
        reach = distance_halo(self.seed_distance, self.spacing_of_distance)
        return tuple(n + 1 for n in reach)

    @property
    def halo_before(self) -> Shape:
        """The same, on the side of lower indices: a voxel has the affinities with those before."""
        return (0, 0, 0) if self.edge_axes and not self.seed_distance else self.halo

    def merge_below(self, highest: int) -> float:
        """Return the mean height below which two objects are merged; highest: of a score of 1.

        The heights of affinities are ``highest`` minus them, and objects are merged at a mean
        affinity of ``merge_threshold`` or above.
        """
        if not self.edge_axes:
            return self.merge_threshold
        return math.nextafter(highest - self.merge_threshold, math.inf)

    def is_inside(self, scores: NDArray[Any], threshold: int) -> NDArray[np.bool_]:
        """Return where scores are on the objects' side of a threshold."""
        inside: NDArray[np.bool_] = (
            scores >= threshold if self.role == "foreground" else scores < threshold
        )
        return inside

    def job_parts(self) -> Mapping[str, Any]:
        """Return what identifies the definition, as JSON values."""
        return {
            "role": self.role,
            "threshold": self.threshold,
            "connectivity": self.connectivity,
            "per_slice": self.per_slice,
            "seed_threshold": self.seed_threshold,
            "seed_distance": self.seed_distance,
            "depth": self.depth,
            "flood": self.flood if self.is_watershed else None,
            "agglomerate": self.agglomerate,
            "merge_threshold": self.merge_threshold,
            "spacing": list(self.spacing) if self.seed_distance else None,
            **({"edge_axes": list(self.edge_axes)} if self.edge_axes else {}),
        }
