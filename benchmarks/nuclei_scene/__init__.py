"""Synthetic fluorescence images of nuclei, drawn from a seed, with their labels.

Each image has a separate appearance (sizes, crowding, blur, noise, grey values), drawn from wide
ranges, so that a network meets more kinds of images than one microscope makes. No image of anybody
is used. ``appearance`` has the ranges, ``bodies`` the nuclei, ``labels`` their voxels, ``light``
what reaches the camera, and ``camera`` what is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .appearance import Appearance
from .bodies import Body, draw_bodies
from .camera import detected
from .labels import Ids, drawn_labels, with_gaps
from .light import light_of

__all__ = ["Appearance", "Body", "draw_bodies", "draw_nuclei", "with_gaps"]


def draw_nuclei(
    shape: Sequence[int], appearance: Appearance, rng: np.random.Generator
) -> tuple[NDArray[Any], Ids]:
    """Return grey values (uint8 or uint16) and ids of nuclei (0: none) of one image or volume."""
    steps = np.array((appearance.z_step, 1.0, 1.0)[-len(shape) :])
    bodies = draw_bodies(shape, steps, appearance, rng)
    ids, depth = drawn_labels(shape, steps, bodies, appearance, rng)
    light = light_of(ids, depth, bodies, steps, appearance, rng)
    return detected(light, appearance, rng), ids
