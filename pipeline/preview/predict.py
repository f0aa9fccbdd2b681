"""The scores of one box, with the context that it has in the volume."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..base.errors import VolumeError
from ..base.geometry import Box, round_up
from ..base.store_errors import explained
from ..models.protocol import Predictor
from ..planning.make_plan import make_plan
from ..segmentation.engines.tile import StageClock, tile_scores
from ..volume.intensity import Intensity
from ..volume.mirror import read_mirrored
from ..volume.volume import VolumeSource, open_volume


def box_scores(
    source: VolumeSource,
    box: Box,
    *,
    predictor: Predictor,
    intensity: Intensity,
    memory_bytes: int,
) -> NDArray[np.float32]:
    """Return the scores (class, z, y, x) of a box inside the volume, equal to the whole volume's.

    The core that is computed starts at a multiple of the divisor, as the blocks of a run do::

        |.......ccbbbbbbbbbcc......|    volume: b box, c the rest of the core

    It gets its halo from the volume, mirrored at the volume's edge. memory_bytes: for one tile.
    """
    divisor = predictor.divisor
    start = tuple(a - a % d for a, d in zip(box.start, divisor, strict=True))
    stop = tuple(round_up(b, d) for b, d in zip(box.stop, divisor, strict=True))
    block = Box(start, stop).shape
    plan = make_plan(source.shape_zyx, predictor, block=block, memory_bytes=memory_bytes)
    core = Box(start, stop).clipped_to(Box.of_shape(source.shape_zyx))
    outer = plan.outer(core, predictor.input_shape)
    with explained(VolumeError, source.location):
        raw = read_mirrored(open_volume(source), outer)
    scores = np.empty((len(predictor.class_names), *core.shape), np.float32)
    for tile in plan.tiles(core):
        scores[(slice(None), *tile.relative_to(core.start).slices)] = tile_scores(
            lambda part: raw[(slice(None), *part.relative_to(outer.start).slices)],
            tile, predictor=predictor, plan=plan, intensity=intensity, clock=StageClock(),
        )  # fmt: skip
    return scores[(slice(None), *box.relative_to(core.start).slices)]
