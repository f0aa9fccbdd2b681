"""What is stored of a tile, computed on the host from a predictor's float32 scores.

The path of predictors that do not take raw planes themselves, and the reference for those that do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

import numpy as np
from numpy.typing import NDArray

from ..base.choices import OutputName
from ..base.tile_request import StoredPlanes, TileRequest
from ..output.kinds import OUTPUT_KINDS
from ..volume.intensity import Intensity
from .protocol import Predictor, ReadRaw, Sweeps


def stored_of(
    scores_czyx: NDArray[np.float32], outputs: Sequence[tuple[OutputName, str]]
) -> StoredPlanes:
    """Return what is stored of scores (class, z, y, x)."""
    classes_zyx = np.argmax(scores_czyx, axis=0).astype(np.uint8)
    return StoredPlanes(
        classes_zyx,
        tuple(
            OUTPUT_KINDS[name].stored(scores_czyx, classes_zyx, dtype) for name, dtype in outputs
        ),
    )


def planes_on_host(
    predictor: Predictor,
    read: ReadRaw,
    request: TileRequest,
    *,
    input_shape: Sequence[int],
    core_shape: Sequence[int],
    turn: Callable[[], AbstractContextManager[None]],
) -> Iterator[StoredPlanes]:
    """Yield what is stored of a tile's core; see :func:`~pipeline.models.stored.stored_planes`."""
    intensity = Intensity(request.offset, request.scale)
    planes, *sides = core_shape
    core = (slice(None), slice(planes), *map(slice, sides))
    if request.traversal == "tiles":
        x_czyx = intensity.apply(read(0, input_shape[0]))
        with turn():
            scores = predictor(x_czyx[None])[0]
        yield stored_of(scores[core], request.outputs)
        return
    assert isinstance(predictor, Sweeps), "a plan of sweeps has a predictor that can sweep"
    with turn():
        for scores in predictor.sweep(lambda a, b: intensity.apply(read(a, b)), input_shape):
            kept = scores[(slice(None), slice(planes), *core[2:])]
            yield stored_of(kept, request.outputs)
            planes -= kept.shape[1]
            if not planes:
                return
