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
from .sampling import PatchSampler, Place, Survey

PATCHES: Final = 256
"""The share is the mean of so many patches of a volume: the first ones of as many steps or more."""
MOST_STEPS: Final = 16 * PATCHES


def expected_known_shares(sampler: PatchSampler) -> tuple[float, ...]:
    """Return the mean share of known voxels in a patch's core, by volume; 1.0 of one not sparse.

    It follows from the surveys, the core and the seed, so it is the same on every rank. Known
    voxels are those of the surveyed cells; what is mirrored past an edge is not counted. A volume
    of which no patch is drawn in MOST_STEPS has 1.0.
    """
    shares: list[list[float]] = [[] for _ in sampler.surveys]
    lacking = {number for number, survey in enumerate(sampler.surveys) if survey.is_sparse}
    for step in range(MOST_STEPS):
        if not lacking:
            break
        place = sampler.place(step, 0)
        if place.volume in lacking:
            shares[place.volume].append(_known_share(sampler, place))
            if len(shares[place.volume]) == PATCHES:
                lacking.remove(place.volume)
    return tuple(float(np.mean(found)) if found else 1.0 for found in shares)


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


def _known_share(sampler: PatchSampler, place: Place) -> float:
    """Return the known share of a patch's core, as far as it lies in the volume."""
    survey, core = sampler.surveys[place.volume], sampler.core
    stop = tuple(a + n for a, n in zip(place.start, core, strict=True))
    return known_in(survey, place.start, stop) / math.prod(core)
