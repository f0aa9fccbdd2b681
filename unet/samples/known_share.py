"""Which parts of patches of sparse labels are known on average, by their survey.

A loss is divided by all voxels of a patch, so that ranks agree. Of a few painted strokes, a patch
knows a hundredth of its voxels or less, and its gradients are as much smaller, besides the decay of
the weights and the clipping of gradients, which are not. So weights are divided by the share of
a patch that is known on average, a constant of each volume of a training.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from .known_voxels import unpacked
from .sampling import PatchSampler, Shape, Survey

PATCHES: Final = 256
"""The share is the mean of so many patches of a volume."""


def expected_known_shares(sampler: PatchSampler) -> tuple[float, ...]:
    """Return the mean share of known voxels in a patch's core, by volume; 1.0 of one not sparse.

    Of patches at known voxels, not of those that ``rare_share`` centres on a class. It follows from
    the surveys, the core and the seed, so it is the same on every rank. Known voxels are those of
    the surveyed cells; what is mirrored past an edge is not counted.
    """
    return tuple(
        _mean_share(sampler, volume) if survey.is_sparse and survey.known_voxels else 1.0
        for volume, survey in enumerate(sampler.surveys)
    )


def _mean_share(sampler: PatchSampler, volume: int) -> float:
    rng = np.random.default_rng([sampler.seed, volume, 3])
    places = [sampler.at_a_known_voxel(rng, volume) for _ in range(PATCHES)]
    return float(np.mean([_known_share(sampler, volume, start) for start in places]))


def known_in(survey: Survey, start: tuple[int, ...], stop: tuple[int, ...]) -> float:
    """Return how many voxels of a box are known, by a survey; an estimate in cells of many."""
    known = 0.0
    starts, stops = (np.array([getattr(c, end) for c in survey.cells]) for end in ("start", "stop"))
    low, high = np.maximum(starts, start), np.minimum(stops, stop)
    for number in np.flatnonzero((low < high).all(axis=1)):
        cell = survey.cells[number]
        if not cell.known:
            known += math.prod(high[number] - low[number]) if cell.known_voxels else 0
            continue
        voxels = unpacked(cell.known, cell.shape) + cell.start
        inside = ((voxels >= start) & (voxels < stop)).all(axis=1)
        known += float(inside.mean()) * cell.known_voxels
    return known


def _known_share(sampler: PatchSampler, volume: int, start: Shape) -> float:
    """Return the known share of a patch's core, as far as it lies in the volume."""
    stop = tuple(a + n for a, n in zip(start, sampler.core, strict=True))
    known = known_in(sampler.surveys[volume], start, stop)
    return max(known, 1.0) / math.prod(sampler.core)  # one is: there the patch was drawn
