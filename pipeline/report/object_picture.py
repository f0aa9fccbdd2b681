"""Objects over a slice: each in a colour, with its border."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base.errors import GeometryError
from .pictures import Colour, Rgb, grey_picture, nearest

_FILL, _BORDER = 0.4, 0.95
"""How much of a pixel is the object's colour, inside and at its border."""


def objects_picture(
    image: NDArray[Any], labels_yx: NDArray[Any], *, colour: Callable[[int], Colour]
) -> Rgb:
    """Return the image, (y, x) or (c, y, x), under half-transparent objects with borders.

    labels_yx: ids, 0 is background and stays clear. colour: of an id. The border of an object is
    the pixels beside another one, or background; objects that touch have two lines.
    Raises GeometryError for arrays of different shapes.
    """
    if image.shape[-2:] != labels_yx.shape:
        raise GeometryError(
            f"image {image.shape[-2:]} and objects {labels_yx.shape}: expected one shape"
        )
    below = grey_picture(image)
    labels = nearest(labels_yx, below.shape[:2])
    ids, place = np.unique(labels, return_inverse=True)
    colours = np.array([colour(int(one)) if one else (0, 0, 0) for one in ids], np.float32)
    opacity = np.where(_borders(labels), _BORDER, _FILL) * (labels != 0)
    own = colours[place.reshape(labels.shape)]
    blended = below + opacity[..., None] * (own - below)
    return np.rint(blended).astype(np.uint8)


def _borders(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which pixels lie beside a pixel with another label."""
    found = np.zeros(labels.shape, np.bool_)
    down, right = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    found[1:] |= down
    found[:-1] |= down
    found[:, 1:] |= right
    found[:, :-1] |= right
    return found
