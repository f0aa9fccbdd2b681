"""Verifies a model's stated halo, divisor and input sizes.

On one small image, in one process: tiled scores must equal those of the whole image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base.errors import ConfigError, OvertileError
from ..base.geometry import Box, Halo, Shape, round_up
from ..base.text import shape_text
from ..planning.blocks import BlockPlan, tile_input
from ..planning.network import sweep_memory_bytes
from ..volume.mirror import read_mirrored
from .protocol import Predictor, Sweeps

LEAST_SPREAD = 0.02
"""Scores with a smaller standard deviation would hide seams."""
SMALLEST_SIDE = 13


def check_predictor(
    predictor: Predictor, *, image: NDArray[np.float32] | None = None, tolerance: float = 1e-5
) -> float:
    """Return the largest difference of tiled, swept and whole scores; at most ``tolerance``.

    image: (c, z, y, x), normalised for the network, larger than the divisor in y and x (and in z
    for a 3-D network); by default smooth noise from 0 to 1. The whole image is predicted at once,
    so a few hundred voxels per side are enough. Raises ConfigError that names the wrong statement,
    also if the scores hardly vary, which would prove nothing.
    """
    _check_members(predictor)
    predictor = _pickled(predictor).settled()
    _check_statements(predictor)
    x_czyx = _noise(predictor) if image is None else _checked_image(image, predictor)
    shape = x_czyx.shape[1:]
    core = tuple(
        _odd_multiple(-(-n // 2), d) for n, d in zip(shape, predictor.divisor, strict=True)
    )
    whole = _scores(x_czyx, predictor, core=_rounded(shape, predictor.divisor))
    _check_scores(whole)
    tiled = _scores(x_czyx, predictor, core=core)
    difference = np.abs(tiled - whole).max(axis=0)
    worst = float(difference.max())
    if worst > tolerance:
        worst_zyx = ", ".join(map(str, np.unravel_index(difference.argmax(), difference.shape)))
        raise ConfigError(
            f"tiled scores differ from whole ones by {worst:.3g} (tolerance {tolerance:g}), most "
            f"at z, y, x = {worst_zyx}, in tiles of {shape_text(core)}: halo "
            f"{shape_text(predictor.halo)} is too small, divisor {shape_text(predictor.divisor)} "
            "is not the product of the poolings, or a layer uses the whole tile"
        )
    return max(worst, _check_sweep(predictor, x_czyx, whole, tolerance=tolerance))


def _check_members(predictor: object) -> None:
    named = [name for name in dir(Predictor) if not name.startswith("_")]
    missing = [name for name in (*named, "__call__") if not hasattr(predictor, name)]
    if missing:
        raise ConfigError(
            f"{type(predictor).__name__} is not a Predictor: it lacks {', '.join(missing)}; "
            "see pipeline/models/protocol.py"
        )


def _pickled(predictor: Predictor) -> Predictor:
    """Return the predictor as a worker receives it."""
    from distributed.protocol.pickle import dumps, loads

    try:
        received: Predictor = loads(dumps(predictor))
    except Exception as error:
        raise ConfigError(
            f"the predictor cannot be pickled for a worker ({type(error).__name__}: {error}): "
            "store paths and numbers in it, and load the model on the first call"
        ) from error
    return received


def _check_statements(predictor: Predictor) -> None:
    """Raise ConfigError for statements that are invalid whatever the scores."""
    for name, least in (("halo", 0), ("divisor", 1)):
        sizes = getattr(predictor, name)
        if len(sizes) != 3 or any(not isinstance(n, int) or n < least for n in sizes):
            raise ConfigError(
                f"{name} {sizes!r}: expected three integers (z, y, x) of at least {least}"
            )
    if predictor.tile_dependent_layers:
        raise ConfigError(
            f"layers use statistics of the whole tile "
            f"({', '.join(predictor.tile_dependent_layers)}): tiled scores differ from whole ones, "
            "whatever the halo"
        )
    if not isinstance(predictor.settings(), Mapping):
        raise ConfigError("settings() does not return a mapping of names to JSON values")
    for out in _some_outputs(predictor.divisor):
        size = predictor.input_shape(out)
        least_size = tuple(n + 2 * h for n, h in zip(out, predictor.halo, strict=True))
        if len(size) != 3 or any(n < m for n, m in zip(size, least_size, strict=True)):
            raise ConfigError(
                f"input_shape({out}) is {size}: expected at least output + 2 halo, {least_size}"
            )
        for name in ("flops", "memory_bytes"):
            if getattr(predictor, name)(out) <= 0:
                raise ConfigError(f"{name}({out}) is not above 0: the planner compares tiles by it")


def _some_outputs(divisor: Shape) -> list[tuple[int, int, int]]:
    z, y, x = divisor
    return [(1, 1, 1), (z, y, x), (z, 2 * y + 1, 3 * x), (3 * z, y, 2 * x)]


def _checked_image(image: NDArray[np.float32], predictor: Predictor) -> NDArray[np.float32]:
    channels, sizes = predictor.in_channels, predictor.divisor
    if image.ndim != 4 or len(image) != channels:
        raise ConfigError(f"image of shape {image.shape}: expected ({channels}, z, y, x)")
    planar = predictor.halo[0] == 0 and predictor.divisor[0] == 1
    cut = [n > d for n, d in zip(image.shape[1:], sizes, strict=True)]
    if not all(cut[planar:]):
        raise ConfigError(
            f"image of shape {image.shape} is too small for tiles: expected more than the divisor "
            f"{shape_text(sizes)} in {'y and x' if planar else 'z, y and x'}"
        )
    return np.asarray(image, np.float32)


def _noise(predictor: Predictor) -> NDArray[np.float32]:
    """Return noise of many scales between 0 and 1, large enough for several tiles."""
    planar = predictor.halo[0] == 0 and predictor.divisor[0] == 1
    sides = [max(SMALLEST_SIDE, d + d // 2 + 1) for d in predictor.divisor]
    shape = (predictor.in_channels, 2 if planar else sides[0], *sides[1:])
    random = np.random.default_rng(0)
    x_czyx = np.zeros(shape)
    for scale in (1, 2, 4, 8):
        coarse = random.normal(size=(shape[0], *(-(-n // scale) for n in shape[1:])))
        for axis in (1, 2, 3):
            coarse = np.repeat(coarse, scale, axis=axis)
        x_czyx += coarse[(slice(None), *(slice(n) for n in shape[1:]))]
    return ((x_czyx - x_czyx.min()) / np.ptp(x_czyx)).astype(np.float32)


def _odd_multiple(least: int, divisor: int) -> int:
    """Return the smallest odd multiple of at least ``least``: not a multiple of ``2 * divisor``.

    >>> _odd_multiple(7, 4), _odd_multiple(8, 8)
    (12, 8)
    """
    times = -(-least // divisor)
    return divisor * (times + (times % 2 == 0))


def _rounded(shape: Shape, divisor: Shape) -> Shape:
    return tuple(round_up(n, d) for n, d in zip(shape, divisor, strict=True))


class _Array:
    """An array (c, z, y, x) that is read by boxes."""

    def __init__(self, x_czyx: NDArray[np.float32]) -> None:
        self._x_czyx = x_czyx
        z, y, x = x_czyx.shape[1:]
        self.shape_zyx = (z, y, x)

    def read(self, box: Box) -> NDArray[Any]:
        return self._x_czyx[(slice(None), *box.slices)]


def _scores(x_czyx: NDArray[np.float32], predictor: Predictor, *, core: Shape) -> NDArray[Any]:
    """Return the scores of all tiles, read with mirrored edges as in a run."""
    plan = BlockPlan(
        shape=x_czyx.shape[1:], core=core, halo=Halo.same_on_both_sides(predictor.halo),
        divisor=predictor.divisor,
    )  # fmt: skip
    scores = np.full((len(predictor.class_names), *plan.shape), np.nan, np.float32)
    for block in plan.blocks():
        box = tile_input(block.core, plan.halo, predictor.input_shape)
        tile = _of_tile(predictor, read_mirrored(_Array(x_czyx), box))
        if any(n < c for n, c in zip(tile.shape[1:], block.core.shape, strict=True)):
            raise ConfigError(
                f"an input of {shape_text(box.shape)} gave scores of {shape_text(tile.shape[1:])}: "
                f"expected at least {shape_text(block.core.shape)}, as input_shape states"
            )
        scores[(slice(None), *block.core.slices)] = tile[
            (slice(None), *Box.of_shape(block.core.shape).slices)
        ]
    return scores


def _check_sweep(
    predictor: Predictor, x_czyx: NDArray[np.float32], whole: NDArray[Any], *, tolerance: float
) -> float:
    """Return the largest difference of a sweep's scores from whole ones, 0 without sweeps."""
    core = _rounded(whole.shape[1:], predictor.divisor)
    if not isinstance(predictor, Sweeps) or sweep_memory_bytes(predictor, core) is None:
        return 0.0
    halo = Halo.same_on_both_sides(predictor.halo)
    box = tile_input(Box.of_shape(core), halo, predictor.input_shape)
    x_czyx = read_mirrored(_Array(x_czyx), box)
    parts = list(predictor.sweep(lambda a, b: x_czyx[:, a:b], box.shape))
    swept = np.concatenate(parts, axis=1)[(slice(None), *map(slice, whole.shape[1:]))]
    worst = float(np.abs(swept - whole).max()) if swept.shape == whole.shape else math.inf
    if worst > tolerance:
        raise ConfigError(
            f"the scores of sweep differ from those of a call by {worst:.3g} (tolerance "
            f"{tolerance:g}): a plan may use either"
        )
    return worst


def _of_tile(predictor: Predictor, x_czyx: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the scores (class, z, y, x) of one input."""
    try:
        scores = predictor(x_czyx[None])
    except (OvertileError, MemoryError):
        raise
    except Exception as error:
        raise ConfigError(
            f"the predictor failed for {shape_text(x_czyx.shape)}, a size from its input_shape "
            f"({type(error).__name__}: {' '.join(str(error).split())[:200]})"
        ) from error
    classes = len(predictor.class_names)
    if scores.ndim != 5 or scores.shape[:2] != (1, classes):
        raise ConfigError(
            f"the predictor returned {scores.shape}: expected (1, {classes}, z, y, x) for one tile "
            f"of {classes} classes"
        )
    return scores[0]


def _check_scores(whole: NDArray[Any]) -> None:
    low, high = float(whole.min()), float(whole.max())
    if not (math.isfinite(low) and math.isfinite(high) and low >= -1e-6 and high <= 1 + 1e-6):
        raise ConfigError(
            f"scores from {low:g} to {high:g} are not probabilities: end with softmax or sigmoid"
        )
    spread = float(whole.std(axis=(1, 2, 3)).max())
    if spread < LEAST_SPREAD:
        raise ConfigError(
            f"the scores hardly vary (standard deviation {spread:.2g}), which would hide seams: "
            "pass image= with grey values like those of the training"
        )
