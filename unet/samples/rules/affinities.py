"""Whether a voxel and its neighbour at some offset belong to one object: a channel per offset.

Nearest neighbours show where objects end (Turaga et al. 2010), far ones that objects are apart even
where a gap of their boundary is seen (Lee et al. 2017; Wolf et al. 2018). Objects are made from
them by ``overtile objects``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from pipeline.base.network_outputs import NetworkOutputs, nearest_offsets

from ...recipe.training_config import LabelConfig
from .boundary import is_boundary
from .rule import Ids, Integers, Learnt


class Affinities:
    """1 where a voxel and its partner have the same id, which is not 0; else 0."""

    class_names: tuple[str, ...] | None = None

    def outputs(self, labels: LabelConfig, *, dims: int) -> NetworkOutputs:
        """Return affinities at the offsets of the recipe, or to the nearest neighbours."""
        offsets = nearest_offsets(dims) if labels.offsets is None else labels.offsets
        return NetworkOutputs(kind="affinities", offsets=offsets)

    def reach(self, labels: LabelConfig, *, spacing: Sequence[float]) -> tuple[int, ...]:
        """Return the longest step of an offset along each axis."""
        offsets = self.outputs(labels, dims=len(spacing)).offsets
        return tuple(max(map(abs, steps)) for steps in zip(*offsets, strict=True))

    def classes(self, stored: Ids, *, dims: int) -> Integers:
        """Return 1 at boundaries and in background, where affinities are 0."""
        return is_boundary(stored, dims=dims).astype(np.int64)

    def learn(self, stored: Ids, labels: LabelConfig, *, spacing: Sequence[float]) -> Learnt:
        """Return an affinity per voxel and offset.

        Unknown where the voxel or its partner is, or the partner lies outside of the box.
        """
        offsets = self.outputs(labels, dims=len(spacing)).in_zyx().offsets
        ids, known_voxels = stored.ids, stored.known
        targets = np.zeros((len(offsets), *ids.shape), np.float32)
        known = np.zeros(targets.shape, np.bool_)
        for channel, offset in enumerate(offsets):
            for here, there in _pairs(ids.shape, offset):
                one, other = ids[here], ids[there]
                both = known_voxels[here] & known_voxels[there]
                known[channel][here] = both
                targets[channel][here] = (one == other) & (one > 0) & both
        return Learnt(targets=targets, known=known)


def _pairs(
    shape: tuple[int, ...], offset: Sequence[int]
) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Yield the voxels whose partner lies in the array, and the partners; nothing if none does."""
    if all(abs(step) < size for step, size in zip(offset, shape, strict=True)):
        ends = [(max(0, -step), size - max(0, step), step)
                for step, size in zip(offset, shape, strict=True)]  # fmt: skip
        yield (
            tuple(slice(a, b) for a, b, _ in ends),
            tuple(slice(a + step, b + step) for a, b, step in ends),
        )
