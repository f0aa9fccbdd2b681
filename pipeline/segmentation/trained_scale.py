"""Whether a volume has the voxel size that the weights were trained at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from ..models.protocol import Predictor, StatesTraining
from ..volume.image_levels import levels_of
from ..volume.micrometres import SizesUm, voxel_size_um
from ..volume.volume import VolumeSource

LARGEST_RATIO: Final = 1.5
"""Voxel sizes that differ by more than this factor, in any axis, are noted."""


def voxel_size_note(predictor: Predictor, source: VolumeSource) -> str | None:
    """Return a warning if the voxel size is not stated, or not that of the training, else None.

    It names the level of the image that fits best, if one fits. Axes are compared where both the
    weights and the volume state a size.
    """
    trained = predictor.voxel_size_um if isinstance(predictor, StatesTraining) else None
    if trained is None:
        return None
    axes = [axis for axis, size in enumerate(trained) if size is not None]
    sizes_um = voxel_size_um(source)
    own, known = (_text([sizes[a] for a in axes]) for sizes in (sizes_um, trained))
    if axes and not any(sizes_um[a] for a in axes):
        return (
            "the volume states no voxel size in µm: pass it as --voxel-size, or check that it is "
            f"about that of the training, {known} µm"
        )
    if not has_other_scale(predictor, source):
        return None
    return (
        f"the voxel size, {own} µm, differs from that of the training, {known} µm, by more than "
        f"a factor of {LARGEST_RATIO:g}{_advice(trained, source)}. Ignore this if your objects are "
        "as many voxels wide as those of the training"
    )


def has_other_scale(predictor: Predictor, source: VolumeSource) -> bool:
    """Return whether the voxel size is stated, and differs too much from that of the training."""
    trained = predictor.voxel_size_um if isinstance(predictor, StatesTraining) else None
    return trained is not None and _distance(trained, voxel_size_um(source)) > math.log(
        LARGEST_RATIO
    )


def _advice(trained: SizesUm, source: VolumeSource) -> str:
    distances = {
        number: _distance(trained, voxel_size_um(level)) for number, level in levels_of(source)
    }
    best = min(distances, key=lambda number: distances[number], default=None)
    if best is None or distances[best] > math.log(LARGEST_RATIO):
        is_given = source.given_size_um is not None
        correct = "" if is_given else "; if the file is wrong, pass the true size as --voxel-size"
        how = _resampling(trained, voxel_size_um(source))
        return f", and no level of the image fits: {how}{correct}"
    return f": level {best} of {source.image} fits best (--level {best})"


def _resampling(trained: SizesUm, sizes: SizesUm) -> str:
    """Return how to change an image so that it fits."""
    factors = [own / wanted for wanted, own in zip(trained, sizes, strict=True) if wanted and own]
    factor = math.prod(factors) ** (1 / len(factors))
    if all(one < 1 for one in factors):
        return (
            f"shrink it {_times(1 / factor)} (in Fiji: Image > Scale; overtile convert makes "
            "coarser levels of a large one, for --level), or use other weights"
        )
    if all(one > 1 for one in factors):
        return f"enlarge it {_times(factor)} (in Fiji: Image > Scale), or use other weights"
    return "resample it, or use other weights"


def _times(factor: float) -> str:
    return f"{factor:.2g} times" if factor < 10 else f"{factor:.0f} times"


def _distance(trained: SizesUm, sizes: SizesUm) -> float:
    """Return the largest difference of the sizes' logarithms; 0 if none can be compared."""
    pairs = zip(trained, sizes, strict=True)
    return max((abs(math.log(b / a)) for a, b in pairs if a and b), default=0.0)


def _text(sizes: Sequence[float | None]) -> str:
    return "×".join("?" if size is None else f"{size:.3g}" for size in sizes)
