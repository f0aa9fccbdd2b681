"""How good a network in training is: confusion counts over held-out volumes, and a picture.

Tiles are laid side by side from the volume's first voxel on, and shared out over the ranks; what
they count is summed, so every rank learns the same scores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray

from .config import UNetConfig
from .label_rules import IGNORED
from .learner import Learner, sum_over_ranks
from .sampling import LabelledVolume, Shape, classes_of
from .training_config import LabelConfig

MOST_TILES = 64
"""Of a larger volume, this many tiles are looked at, spread evenly: always the same ones."""


@dataclass(frozen=True, slots=True)
class Scores:
    """What validation came to."""

    loss: float
    """Mean cross-entropy per voxel, without weights."""
    pixel_error: float
    iou: tuple[float, ...]
    dice: tuple[float, ...]
    mean_iou: float
    """Over those classes that are in truth or prediction."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One tile's middle slice, (y, x): raw (c, y, x), true classes, scores (c, y, x)."""

    raw_cyx: NDArray[np.float32]
    truth_yx: NDArray[np.int64]
    scores_cyx: NDArray[np.float32]


def validate(
    learner: Learner,
    volumes: Sequence[LabelledVolume],
    *,
    labels: LabelConfig,
    core: Shape,
    rank: int = 0,
    meet: Callable[[], None] = lambda: None,
) -> tuple[Scores, Picture | None]:
    """Return scores over all volumes, and on rank 0 the picture of a tile in the middle.

    meet: waits for all ranks, which have tiles of different number and cost.
    """
    network = learner.model.config
    tiles = _tiles(volumes, core)
    model = learner.best()
    counts = np.zeros((network.classes, network.classes), np.int64)
    entropy, picture = 0.0, None
    for number in range(rank, len(tiles), learner.world_size):
        volume, start = tiles[number]
        stop = tuple(min(a + n, s) for a, n, s in zip(start, core, volume.shape_zyx, strict=True))
        truth = classes_of(volume, start, stop, labels, dims=network.dims)
        raw = _raw(volume, start, core, network)
        scores = learner.probabilities(model, torch.from_numpy(raw)).cpu().numpy()
        scores_czyx = scores[0] if network.dims == 3 else np.moveaxis(scores, 0, 1)
        scores_czyx = scores_czyx[(slice(None), *(slice(0, n) for n in truth.shape))]
        known = truth != IGNORED
        right = np.take_along_axis(scores_czyx, np.where(known, truth, 0)[None], axis=0)[0]
        entropy -= float(np.log(np.maximum(right[known], 1e-12)).sum())
        pairs = truth[known] * network.classes + scores_czyx.argmax(axis=0)[known]
        counts += np.bincount(pairs, minlength=counts.size).reshape(counts.shape)
        if number == 0:
            picture = _picture(raw, truth, scores_czyx, network)
    meet()
    totals = sum_over_ranks(
        [entropy, *counts.ravel().astype(float)],
        device=learner.device,
        world_size=learner.world_size,
    )
    return scores_of(totals[0], np.asarray(totals[1:]).reshape(counts.shape)), picture


def _tiles(volumes: Sequence[LabelledVolume], core: Shape) -> list[tuple[LabelledVolume, Shape]]:
    """Return the tiles to look at, the middle one first (rank 0 draws it)."""
    tiles = [
        (volume, start)
        for volume in volumes
        for start in product(
            *(range(0, size, step) for size, step in zip(volume.shape_zyx, core, strict=True))
        )
    ]
    chosen = sorted({round(i) for i in np.linspace(0, len(tiles) - 1, MOST_TILES)})
    middle = chosen.pop(len(chosen) // 2)
    return [tiles[i] for i in (middle, *chosen)]


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


def _picture(
    raw: NDArray[np.float32],
    truth: NDArray[np.int64],
    scores_czyx: NDArray[np.float32],
    network: UNetConfig,
) -> Picture:
    z = truth.shape[0] // 2
    image_cyx = raw[0][:, z + network.halo[0]] if network.dims == 3 else raw[z]
    place = tuple(slice(h, h + n) for h, n in zip(network.halo[-2:], truth.shape[1:], strict=True))
    return Picture(image_cyx[(slice(None), *place)], truth[z], scores_czyx[:, z])


def scores_of(entropy: float, counts: NDArray[np.float64]) -> Scores:
    """Return the scores of voxels counted as ``counts[truth, prediction]``.

    They are those of ``pipeline.metrics.ConfusionMatrix``, 0 / 0 included. entropy: summed over
    the voxels.
    """
    both = np.diag(counts)
    truth, predicted, voxels = counts.sum(axis=1), counts.sum(axis=0), counts.sum()
    either = truth + predicted - both

    def ratios(part: NDArray[np.float64], whole: NDArray[np.float64]) -> tuple[float, ...]:
        filled = np.where(whole > 0, part / np.maximum(whole, 1), 1.0)
        return tuple(float(value) for value in filled)

    iou = ratios(both, either)
    present = [value for value, count in zip(iou, either, strict=True) if count > 0]
    return Scores(
        loss=float(entropy / max(1.0, voxels)),
        pixel_error=float((voxels - both.sum()) / max(1.0, voxels)),
        iou=iou,
        dice=ratios(2 * both, truth + predicted),
        mean_iou=sum(present) / len(present) if present else 1.0,
    )
