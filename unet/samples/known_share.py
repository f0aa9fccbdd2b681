"""Which parts of sparse labels are known, by their survey: of patches on average, and of tiles.

A loss is divided by all voxels of a patch, so that ranks agree. Of a few painted strokes, a patch
knows a hundredth of its voxels or less, and its gradients are as much smaller, besides the decay of
the weights and the clipping of gradients, which are not. So weights are divided by the share of
a patch that is known on average, a constant of a training.
"""

from __future__ import annotations

import math
from itertools import product
from typing import Final

import numpy as np

from .known_voxels import unpacked
from .sampling import PatchSampler, Place, Shape, Survey

PATCHES: Final = 256
"""The share is the mean of so many patches: the first ones of as many steps."""


def expected_known_share(sampler: PatchSampler) -> float:
    """Return the mean share of known voxels in a patch's core; 1.0 if no volume is sparse.

    It follows from the surveys, the core and the seed, so it is the same on every rank. Known
    voxels are those of the surveyed cells; what is mirrored past an edge is not counted.
    """
    if not any(survey.is_sparse for survey in sampler.surveys):
        return 1.0
    places = [sampler.place(step, 0) for step in range(PATCHES)]
    return float(np.mean([_known_share(sampler, place) for place in places]))


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
    if not survey.is_sparse:
        return 1.0
    stop = tuple(a + n for a, n in zip(place.start, core, strict=True))
    return known_in(survey, place.start, stop) / math.prod(core)


def known_tiles(survey: Survey, tile: Shape) -> list[Shape]:
    """Return the starts of the tiles with known voxels; tiles lie side by side from voxel 0 on."""
    found: set[Shape] = set()
    for cell in survey.cells:
        if cell.known:
            voxels = unpacked(cell.known, cell.shape) + cell.start
            places = np.unique(voxels // tile, axis=0)
            found |= {(int(z), int(y), int(x)) for z, y, x in places * tile}
        elif cell.known_voxels:
            first = (a // size * size for a, size in zip(cell.start, tile, strict=True))
            ranges = map(range, first, cell.stop, tile)
            found |= {(z, y, x) for z, y, x in product(*ranges)}
    return sorted(found)
