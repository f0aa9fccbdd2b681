"""Smooth noise and wide blurs, which are computed on coarse grids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom

Floats: TypeAlias = NDArray[np.float32]


def smooth_noise(shape: Sequence[int], sigma: Any, rng: np.random.Generator) -> Floats:
    """Return smooth noise of mean 0 and standard deviation 1; sigma in voxels, per axis."""
    sigmas = np.maximum(np.broadcast_to(np.asarray(sigma, float), (len(shape),)), 0.3)
    factors = np.maximum(1, np.floor(sigmas / 1.5)).astype(int)  # drawn coarsely, then enlarged
    coarse = [-(-n // f) + 2 for n, f in zip(shape, factors, strict=True)]
    noise = gaussian_filter(rng.normal(size=coarse), sigmas / factors, mode="wrap")
    fine = zoom(noise, factors, order=1)[tuple(slice(0, n) for n in shape)]
    return ((fine - noise.mean()) / max(float(noise.std()), 1e-9)).astype(np.float32)


def wide_blur(light: Floats, sigma: Any) -> Floats:
    """Return light blurred by a Gaussian of many voxels, from its means over small boxes."""
    sigmas = np.broadcast_to(np.asarray(sigma, float), (light.ndim,))
    factors = np.maximum(1, np.floor(sigmas / 3)).astype(int)
    missing = [(0, -n % f) for n, f in zip(light.shape, factors, strict=True)]
    padded = np.pad(light, missing, mode="edge")
    boxes = [m for n, f in zip(padded.shape, factors, strict=True) for m in (n // f, f)]
    coarse = padded.reshape(boxes).mean(axis=tuple(range(1, 2 * light.ndim, 2)))
    blurred = zoom(gaussian_filter(coarse, sigmas / factors), factors, order=1)
    return np.asarray(blurred[tuple(slice(0, n) for n in light.shape)], np.float32)
