"""Which voxels of a coarse image are tissue: a signal, and a threshold of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage import filters

from ..base.choices import ThresholdMethod, Tissue
from ..base.errors import VolumeError
from .coarse import CoarseImage

Kind = Literal["saturated", "dark", "bright"]

GLASS: Final = 0.7
"""In a bright-field image, the brightest tenth of the voxels is at least this white (of 1)."""
BLACK: Final = 0.3
"""At least half of a fluorescence image is darker than this (of 1)."""
DARKEST: Final = 0.1
"""Colour of voxels darker than this (of 1) is noise: their saturation is that of grey."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tissued:
    """The voxels taken for tissue, before they are cleaned."""

    mask_zyx: NDArray[np.bool_]
    signal_zyx: NDArray[np.float32]
    kind: Kind
    threshold: float

    @property
    def text(self) -> str:
        """The rule in words.

        >>> Tissued(mask_zyx=None, signal_zyx=None, kind="dark", threshold=81.25).text
        'darker than 81.25'
        """
        words = {"saturated": "more saturated", "dark": "darker", "bright": "brighter"}
        return f"{words[self.kind]} than {self.threshold:.4g}"


def find_tissue(image: CoarseImage, *, tissue: Tissue, method: ThresholdMethod) -> Tissued:
    """Return the voxels of tissue.

    tissue ``auto``: in a bright-field RGB image, what is more saturated than the glass; in others,
    what is brighter than the border of the image, or darker if the border is bright. Raises
    VolumeError for an image of one value.
    """
    is_bright_field = image.is_rgb and _is_bright_field(image.values_czyx)
    kind = tissue if tissue != "auto" else "saturated" if is_bright_field else None
    if kind == "saturated" and not image.is_rgb:
        raise VolumeError(
            f"tissue saturated: expected an RGB image, three channels of uint8; this one has "
            f"{len(image.values_czyx)} channel(s): use bright or dark"
        )
    signal = _saturation(image.values_czyx) if kind == "saturated" else _grey(image.values_czyx)
    sizes = np.array(image.voxel_size)
    signal = gaussian_filter(signal, sizes.min() / sizes)
    if signal.min() == signal.max():
        raise VolumeError(
            f"all grey values are equal in {image.where}: there is no tissue to tell from the rest"
        )
    threshold = float(_THRESHOLDS[method](signal))
    if kind is None:
        kind = "dark" if np.mean(_border(signal) > threshold) > 0.5 else "bright"
    mask = signal < threshold if kind == "dark" else signal > threshold
    return Tissued(mask_zyx=mask, signal_zyx=signal, kind=kind, threshold=threshold)


_THRESHOLDS: Final[dict[ThresholdMethod, Any]] = {
    "otsu": filters.threshold_otsu,
    "triangle": filters.threshold_triangle,
    "li": filters.threshold_li,
}


def _is_bright_field(rgb_czyx: NDArray[np.float32]) -> bool:
    """Return whether an RGB image shows stain on white glass, rather than on black."""
    whitest = np.percentile(rgb_czyx.min(axis=0), 90)
    return bool(whitest >= GLASS * 255 and np.median(rgb_czyx.max(axis=0)) >= BLACK * 255)


def _saturation(rgb_czyx: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the saturation of HSV, from 0 to 1."""
    most, least = rgb_czyx.max(axis=0), rgb_czyx.min(axis=0)
    return (most - least) / np.maximum(most, DARKEST * 255)


def _grey(values_czyx: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean of the channels; of several, each is divided by its 99th percentile first."""
    if len(values_czyx) == 1:
        return values_czyx[0]
    high = np.percentile(values_czyx, 99, axis=(1, 2, 3), keepdims=True)
    scaled: NDArray[np.float32] = (values_czyx / np.where(high > 0, high, 1)).mean(axis=0)
    return scaled.astype(np.float32)


def _border(signal_zyx: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the values at the border in y and x."""
    sides = (signal_zyx[:, 0], signal_zyx[:, -1], signal_zyx[..., 0], signal_zyx[..., -1])
    return np.concatenate([side.ravel() for side in sides])
