"""The light that reaches the camera: of nuclei, of what lies beside them, through the optics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from .appearance import Appearance
from .bodies import Body
from .labels import Ids
from .noise import Floats, smooth_noise, wide_blur

MOST_DEFOCUSED = 1.5
"""Largest light out of focus over ``Appearance.defocused``."""


def light_of(
    ids: Ids, depth: Floats, bodies: Sequence[Body], steps: NDArray[Any], appearance: Appearance,
    rng: np.random.Generator,
) -> Floats:  # fmt: skip
    """Return the light that reaches the camera, about 1 in a nucleus."""
    light = _of_nuclei(ids, depth, bodies, steps, appearance, rng)
    _add_debris(light, ids, steps, appearance, rng)
    light += appearance.haze * wide_blur(light, 2.5 * appearance.radius / steps)
    if appearance.defocused:
        far = smooth_noise(ids.shape, 1.2 * appearance.radius / steps, rng)
        light += appearance.defocused * np.clip(far - 0.8, 0, MOST_DEFOCUSED)
    widening = np.array((appearance.axial, 1.0, 1.0)[-len(steps) :])
    light = gaussian_filter(light, appearance.blur * widening / steps)
    return np.clip(
        (light + appearance.background) * _illumination(ids.shape, appearance, rng), 0, None
    )


def _of_nuclei(
    ids: Ids, depth: Floats, bodies: Sequence[Body], steps: NDArray[Any], appearance: Appearance,
    rng: np.random.Generator,
) -> Floats:  # fmt: skip
    """Return the light of the nuclei themselves: texture, nucleoli, bright spots, rim."""
    brightness = np.array([0, *(body.brightness for body in bodies)], np.float32)
    resting = (np.array([1, *(not body.dividing for body in bodies)], bool))[ids] & (ids > 0)
    rim = np.float32(rng.uniform(-0.3, 0.5))  # below 0 the rim is brighter than the centre
    profile = 1 - rim * resting * (1 - np.sqrt(np.clip(depth, 0, 1)))
    grain = 1 + appearance.texture * smooth_noise(ids.shape, rng.uniform(0.8, 2.5) / steps, rng)
    light = brightness[ids] * profile * np.clip(grain, 0.2, None)
    if appearance.nucleoli:
        spots = smooth_noise(ids.shape, 0.22 * appearance.radius / steps, rng)
        dark = (spots > 1.9 - 0.25 * appearance.nucleoli) & (depth > 0.25) & resting
        light[dark] *= np.float32(rng.uniform(0.3, 0.8))
    if appearance.central_nucleolus:
        light[(depth > 1 - appearance.central_nucleolus) & resting] *= np.float32(
            rng.uniform(0.2, 0.7)
        )
    if appearance.chromocentres:
        spots = smooth_noise(ids.shape, 0.12 * appearance.radius / steps, rng)
        light[(spots > 1.5) & (depth > 0.1) & resting] *= np.float32(1 + appearance.chromocentres)
    return np.asarray(light, np.float32)


def _add_debris(
    light: Floats, ids: Ids, steps: NDArray[Any], appearance: Appearance, rng: np.random.Generator
) -> None:
    """Add, in place, specks and fibres anywhere, and debris beside the nuclei."""
    shape, nuclei = ids.shape, int(ids.max())
    count = int(appearance.specks * nuclei)
    if count:
        at = tuple(rng.integers(0, n, count) for n in shape)
        light[at] += rng.uniform(1, 6, count).astype(np.float32)
    for _ in range(int(appearance.debris * nuclei)):
        radius = rng.uniform(0.8, min(3.5, max(1.2, 0.25 * appearance.radius)))
        centre = np.array([rng.integers(0, n) for n in shape])
        low = np.maximum(np.floor(centre - radius / steps), 0).astype(int)
        box = tuple(
            slice(a, b)
            for a, b in zip(low, np.ceil(centre + radius / steps).astype(int) + 1, strict=True)
        )
        positions = np.stack(np.indices(ids[box].shape), axis=-1) + low - centre
        inside = (np.linalg.norm(positions * steps, axis=-1) <= radius) & (ids[box] == 0)
        light[box][inside] = np.float32(np.exp(rng.uniform(np.log(0.3), np.log(3))))
    for _ in range(appearance.fibres):
        angle, width = rng.uniform(0, np.pi), rng.uniform(1, 4)
        normal, through = np.array((np.sin(angle), np.cos(angle))), rng.uniform(0, 1, 2) * shape
        away = np.tensordot(normal, np.indices(shape) - through[:, None, None], axes=1)
        line = rng.uniform(0.05, 0.4) * np.exp(-(away**2) / (2 * width**2))
        light += line.astype(np.float32)


def _illumination(shape: Sequence[int], appearance: Appearance, rng: np.random.Generator) -> Floats:
    """Return the factor of uneven illumination, vignetting and loss with depth."""
    slope = smooth_noise(shape, 0.4 * np.array(shape), rng)
    factor = np.clip(1 + appearance.gradient * slope, 0.15, None)
    y, x = (np.linspace(-1, 1, n, dtype=np.float32) - rng.uniform(-0.4, 0.4) for n in shape[-2:])
    factor *= 1 - appearance.vignette * np.clip((y[:, None] ** 2 + x**2) / 2, 0, 1)
    if appearance.decay:
        depths = np.linspace(0, 1, shape[0], dtype=np.float32)
        factor *= np.exp(min(appearance.decay, 0) - appearance.decay * depths)[:, None, None]
    return np.asarray(factor, np.float32)
