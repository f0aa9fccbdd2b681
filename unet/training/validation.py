"""Validation of a network in training: its scores over held-out volumes, and a picture.

Tiles lie side by side from the volume's first voxel on and are divided among the ranks. Their
sums are added, so every rank has the same scores.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..network.config import UNetConfig
from ..network.model import UNet
from ..recipe.training_config import LabelConfig
from ..samples.known_tiles import known_tiles
from ..samples.rules.rule import Learnt
from ..samples.sampling import LabelledVolume, Shape, Survey
from ..samples.truth import truth_of
from ..scoring.scores import Scores
from ..scoring.tallies import tally_of
from .learner import Learner
from .parallel.sums import sum_over_ranks

MAX_TILES, MAX_VOXELS = 64, 2**23
"""Of larger volumes so many tiles, or tiles of so many voxels in all, whichever are more, are
validated: spread evenly, always the same ones."""
PICTURE_SIDE, PICTURE_TILES = 512, {2: 64, 3: 3}
"""A picture's side has at most so many voxels and so many tiles, but at least one tile."""


@dataclass(frozen=True, slots=True)
class Picture:
    """The middle of a slice: raw (c, y, x), truth and scores (c, y, x).

    truth_yx: classes (y, x) or, where the network learns none, its targets (channel, y, x).
    """

    raw_cyx: NDArray[np.float32]
    truth_yx: NDArray[Any]
    scores_cyx: NDArray[np.float32]


def validate(
    learner: Learner,
    volumes: Sequence[LabelledVolume],
    *,
    labels: LabelConfig,
    core: Shape,
    surveys: Sequence[Survey] = (),
    rank: int = 0,
    barrier: Callable[[], None] = lambda: None,
) -> tuple[Scores, Picture | None]:
    """Return the scores over all volumes, and on rank 0 a picture of a middle slice.

    surveys: of the volumes' labels; of many tiles, those of sparse labels are chosen where
    something is known. barrier: waits for all ranks, whose tiles differ in number and cost.
    """
    network = learner.model.config
    tiles = _tiles(volumes, core, surveys)
    predict = _TilePredictor(learner, learner.best(), labels, core)
    tally = tally_of(learner.model.outputs, network.classes)
    for number in range(rank, len(tiles), learner.world_size):
        _, truth, scores_czyx = predict(*tiles[number])
        tally.add(truth, scores_czyx)
    picture = _picture(predict, *tiles[len(tiles) // 2]) if rank == 0 else None
    barrier()
    totals = sum_over_ranks(
        tally.sums.tolist(),
        device=learner.device,
        world_size=learner.world_size,
    )
    return tally.scores(np.asarray(totals)), picture


def _tiles(
    volumes: Sequence[LabelledVolume], core: Shape, surveys: Sequence[Survey]
) -> list[tuple[LabelledVolume, Shape]]:
    """Return the tiles to validate."""
    starts: list[list[Shape]] = [_side_by_side(volume.shape_zyx, core) for volume in volumes]
    most = max(MAX_TILES, MAX_VOXELS // math.prod(core))
    if sum(map(len, starts)) > most:
        for number, survey in enumerate(surveys):
            if survey.is_sparse:
                starts[number] = known_tiles(survey.cells, core)
    tiles = [(volume, at) for volume, some in zip(volumes, starts, strict=True) for at in some]
    return [tiles[i] for i in sorted({round(i) for i in np.linspace(0, len(tiles) - 1, most)})]


def _side_by_side(shape: Shape, core: Shape) -> list[Shape]:
    ranges = (range(0, size, step) for size, step in zip(shape, core, strict=True))
    return [(z, y, x) for z, y, x in product(*ranges)]


@dataclass(frozen=True, slots=True)
class _TilePredictor:
    """Reads a tile of a volume and predicts it."""

    learner: Learner
    model: UNet
    labels: LabelConfig
    core: Shape

    def __call__(
        self, volume: LabelledVolume, start: Shape
    ) -> tuple[NDArray[np.float32], Learnt, NDArray[np.float32]]:
        """Return grey values (c, z, y, x), the truth and scores (c, z, y, x) of a tile's core.

        The core is cut at the volume's edge.
        """
        network = self.model.config
        ends = zip(start, self.core, volume.shape_zyx, strict=True)
        stop = tuple(min(a + n, size) for a, n, size in ends)
        truth = truth_of(volume, start, stop, self.labels, dims=network.dims)
        shape = truth.targets.shape[-3:]
        raw = _raw(volume, start, self.core, network)
        scores = self.learner.probabilities(self.model, torch.from_numpy(raw)).cpu().numpy()
        if network.dims == 3:
            raw_czyx, scores_czyx = raw[0], scores[0]
        else:
            raw_czyx, scores_czyx = np.moveaxis(raw, 0, 1), np.moveaxis(scores, 0, 1)
        halo = (0,) * (3 - network.dims) + network.halo
        inner = tuple(slice(h, h + n) for h, n in zip(halo, shape, strict=True))
        place = tuple(slice(0, n) for n in shape)
        return raw_czyx[(slice(None), *inner)], truth, scores_czyx[(slice(None), *place)]


def _raw(
    volume: LabelledVolume, start: Shape, core: Shape, network: UNetConfig
) -> NDArray[np.float32]:
    """Return the network's input (n, c, *input) for a core that starts at ``start``."""
    dims = network.dims
    halo = (0,) * (3 - dims) + network.halo
    size = core[: 3 - dims] + network.input_shape(core[3 - dims :])
    begin = tuple(a - h for a, h in zip(start, halo, strict=True))
    end = tuple(b + n for b, n in zip(begin, size, strict=True))
    raw = volume.read_raw(begin, end)
    return raw[None] if dims == 3 else np.ascontiguousarray(np.moveaxis(raw, 1, 0))


def _picture(predict: _TilePredictor, volume: LabelledVolume, start: Shape) -> Picture:
    """Return the middle slice of a tile and of its neighbours around the volume's middle."""
    dims = predict.model.config.dims
    rows, columns = (
        _around_the_middle(size, step, most=PICTURE_TILES[dims])
        for size, step in zip(volume.shape_zyx[1:], predict.core[1:], strict=True)
    )
    parts = []
    for y in rows:
        tiles = [predict(volume, (start[0], y, x)) for x in columns]
        z = tiles[0][0].shape[1] // 2
        slices = [
            (raw[:, z], truth.targets[..., z, :, :], scores[:, z]) for raw, truth, scores in tiles
        ]
        parts.append([np.concatenate(part, axis=-1) for part in zip(*slices, strict=True)])
    raw, truth, scores = (np.concatenate(part, axis=-2) for part in zip(*parts, strict=True))
    return Picture(raw, truth, scores)


def _around_the_middle(size: int, step: int, *, most: int) -> list[int]:
    """Return the first voxels of as many neighbouring tiles along an axis as a picture holds."""
    starts = list(range(0, size, step))
    count = min(max(1, PICTURE_SIDE // step), most, len(starts))
    first = (len(starts) - count) // 2
    return starts[first : first + count]
