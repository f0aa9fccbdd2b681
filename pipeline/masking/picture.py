"""The picture of a proposed mask: the image, what is kept of it, and the threshold."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion

from ..report import pictures
from ..report.histogram import Mark, histogram_picture
from ..report.pictures import Rgb
from .coarse import CoarseImage
from .tissue import Tissued

MOST_PLANES: Final = 3
_OUTSIDE, _OUTLINE = (30, 34, 42), (0, 158, 115)


def mask_picture(
    image: CoarseImage, found: Tissued, mask_zyx: NDArray[np.bool_], *, um_per_voxel: float | None
) -> Rgb:
    """Return up to three planes of the image beside what is kept, and the signal's histogram."""
    depth = len(mask_zyx)
    planes = sorted({round((depth - 1) * part) for part in (0.5, 0.1, 0.9)[:MOST_PLANES]})
    titled = [pair for z in planes for pair in _titled(image, mask_zyx, z)]
    size = max(mask_zyx.shape[1:])
    um = None if um_per_voxel is None else pictures.displayed_um(um_per_voxel, size=size)
    sheet = pictures.panel(titled, columns=2, um_per_px=um)
    sides = {"saturated": "saturation", "dark": "grey values", "bright": "grey values"}
    histogram = histogram_picture(
        found.signal_zyx, title=f"{sides[found.kind]}; tissue is {found.text}",
        marks=[Mark(found.threshold, f"threshold {found.threshold:.4g}")], band=None,
        width=sheet.shape[1],
    )  # fmt: skip
    return np.concatenate([sheet, histogram])


def _titled(image: CoarseImage, mask_zyx: NDArray[np.bool_], z: int) -> list[tuple[str, Rgb]]:
    raw = image.values_czyx[:, z]
    shown: NDArray[Any] = raw.round().astype(np.uint8) if image.is_rgb else raw
    picture = pictures.grey_picture(shown)
    name = f" at z {z}" if len(mask_zyx) > 1 else ""
    kept = f"kept: {mask_zyx[z].mean():.1%}"
    return [(f"input{name}", picture), (f"{kept}{name}", _kept(picture, mask_zyx[z]))]


def _kept(picture: Rgb, mask_yx: NDArray[np.bool_]) -> Rgb:
    """Return the picture, dark outside the mask, with a green line around it."""
    inside = pictures.nearest(mask_yx, picture.shape[:2])
    faded = np.rint(0.25 * picture + 0.75 * np.array(_OUTSIDE)).astype(np.uint8)
    shown = np.where(inside[..., None], picture, faded)
    line = inside & ~binary_erosion(inside, iterations=2, border_value=1)
    return np.where(line[..., None], np.array(_OUTLINE, np.uint8), shown)
