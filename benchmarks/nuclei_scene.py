"""Synthetic fluorescence images of nuclei, drawn from a seed, with their labels.

Each image has a separate appearance (sizes, crowding, blur, noise, grey values), drawn from wide
ranges, so that a network meets more kinds of images than one microscope makes. No image of anybody
is used. Physics as in any fluorescence simulation: bodies with a brightness, a texture and darker
nucleoli; haze; the blur of the optics; photon noise; read noise; gain and offset of a camera.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom

Floats: TypeAlias = NDArray[np.float32]
Ids: TypeAlias = NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Appearance:
    """What all images of one volume share. Lengths are in voxels of y and x."""

    radius: float
    """Median radius of a nucleus."""
    size_spread: float
    """Standard deviation of the logarithm of the radius."""
    elongation: float
    """Largest ratio of a nucleus' radii."""
    lobes: float
    """Amplitude of the outline's deviation from an ellipse."""
    crowding: float
    """Nuclei tried per volume of a nucleus."""
    separation: float
    """Distance of two centres over the sum of their radii; below 1 they touch and are squeezed."""
    texture: float
    nucleoli: int
    haze: float
    background: float
    gradient: float
    blur: float
    """Sigma of the optics."""
    photons: float
    """Of a nucleus of brightness 1."""
    read_noise: float
    full: float
    """Largest value that is stored: 255 or that of a camera."""
    offset: float
    """Value of no light, over ``full``."""
    headroom: float
    """Light of the largest value over that of a bright nucleus."""
    specks: float
    """Bright specks beside the nuclei, per nucleus."""
    z_step: float
    """Distance of two slices in voxels of y and x; for 3-D."""

    @classmethod
    def drawn(cls, rng: np.random.Generator, *, dims: int) -> Appearance:
        """Return an appearance from wide ranges."""
        radius = np.exp(rng.uniform(np.log(5.5), np.log(17.0 if dims == 2 else 13.0)))
        return cls(
            radius=float(radius),
            size_spread=float(rng.uniform(0.08, 0.3)),
            elongation=float(rng.uniform(1.1, 1.9)),
            lobes=float(rng.uniform(0.05, 0.25)),
            crowding=float(np.exp(rng.uniform(np.log(0.15), np.log(1.5)))),
            separation=float(rng.uniform(0.7, 1.1)),
            texture=float(rng.uniform(0.05, 0.35)),
            nucleoli=int(rng.integers(0, 5)),
            haze=float(rng.uniform(0.0, 0.35)),
            background=float(rng.uniform(0.02, 0.3)),
            gradient=float(rng.uniform(0.0, 0.5)),
            blur=float(rng.uniform(0.5, 0.14 * radius + 0.8)),
            photons=float(np.exp(rng.uniform(np.log(15), np.log(800)))),
            read_noise=float(rng.uniform(0.0, 0.05)),
            full=255.0 if rng.random() < 0.5 else float(np.exp(rng.uniform(6.4, 11))),
            offset=float(rng.uniform(0.0, 0.1)),
            headroom=float(rng.uniform(0.9, 2.0)),
            specks=float(rng.choice((0.0, 0.0, 0.1, 0.4))),
            z_step=float(rng.uniform(1.0, 3.0)) if dims == 3 else 1.0,
        )


def draw_nuclei(
    shape: Sequence[int], look: Appearance, rng: np.random.Generator
) -> tuple[NDArray[Any], Ids]:
    """Return grey values (uint8 or uint16) and ids of nuclei (0: none) of one image or volume."""
    steps = np.array((look.z_step, 1.0, 1.0)[-len(shape) :])
    ids, depth, brightness = _bodies(shape, steps, look, rng)
    light = _light(ids, depth, brightness, steps, look, rng)
    return _detected(light, look, rng), ids


def with_gaps(ids: Ids) -> NDArray[np.uint8]:
    """Return 1 in nuclei and 0 elsewhere; also 0 where a face neighbour is of another nucleus."""
    inside = (ids > 0).astype(np.uint8)
    for axis in range(ids.ndim):
        ahead = [slice(None)] * ids.ndim
        behind = list(ahead)
        ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
        one, other = ids[tuple(ahead)], ids[tuple(behind)]
        touch = (one != other) & (one > 0) & (other > 0)
        inside[tuple(ahead)][touch] = 0
        inside[tuple(behind)][touch] = 0
    return inside


def _bodies(
    shape: Sequence[int], steps: NDArray[Any], look: Appearance, rng: np.random.Generator
) -> tuple[Ids, Floats, Floats]:
    """Return ids, depth (1 at a centre, 0 at the outline), and the brightness of each id."""
    ids, depth = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
    outline = _smooth(shape, 0.6 * look.radius / steps, rng) * np.float32(look.lobes)
    centres, radii = _places(shape, steps, look, rng)
    for number, (centre, radius) in enumerate(zip(centres, radii, strict=True), start=1):
        matrix = _ellipsoid(radius, look.elongation, len(shape), rng)
        reach = 1.3 * radius * look.elongation / steps
        low = np.maximum(np.floor(centre - reach), 0).astype(int)
        high = np.minimum(np.ceil(centre + reach) + 1, shape).astype(int)
        if (high <= low).any():
            continue
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        axes = (np.arange(a, b) for a, b in zip(low, high, strict=True))
        grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
        distance = np.linalg.norm(((grid - centre) * steps) @ matrix.T, axis=-1)
        inner = (1 - distance - outline[box]).astype(np.float32)
        nearer = inner > depth[box]
        ids[box][nearer], depth[box][nearer] = number, inner[nearer]
    brightness = np.exp(rng.normal(0, rng.uniform(0.1, 0.45), len(centres) + 1)).astype(np.float32)
    brightness[0] = 0
    return ids, depth, brightness


def _places(
    shape: Sequence[int], steps: NDArray[Any], look: Appearance, rng: np.random.Generator
) -> tuple[list[NDArray[Any]], list[float]]:
    """Return centres in voxels and radii of nuclei that keep their distance, in clusters."""
    extent = np.array(shape) * steps
    body = np.pi * look.radius**2 if len(shape) == 2 else 4 / 3 * np.pi * look.radius**3
    tries = max(3, int(look.crowding * np.prod(extent) / body))
    clusters = rng.uniform(0, 1, (max(1, tries // 12), len(shape))) * extent
    kept: list[NDArray[Any]] = []
    radii: list[float] = []
    for _ in range(tries):
        if rng.random() < 0.5:
            place = clusters[rng.integers(len(clusters))] + rng.normal(
                0, 3 * look.radius, len(shape)
            )
        else:
            place = rng.uniform(-look.radius, extent + look.radius)
        radius = float(look.radius * np.exp(rng.normal(0, look.size_spread)))
        if kept:
            gaps = np.linalg.norm(np.array(kept) - place, axis=1)
            if (gaps < look.separation * (np.array(radii) + radius)).any():
                continue
        kept.append(place)
        radii.append(radius)
    return [place / steps for place in kept], radii


def _ellipsoid(
    radius: float, elongation: float, dims: int, rng: np.random.Generator
) -> NDArray[Any]:
    """Return the matrix that maps an ellipsoid of about this radius to the unit ball."""
    ratios = np.exp(rng.uniform(-0.5, 0.5, dims) * np.log(elongation))
    ratios /= np.prod(ratios) ** (1 / dims)
    rotation, _ = np.linalg.qr(rng.normal(size=(dims, dims)))
    return np.asarray(np.diag(1 / (radius * ratios)) @ rotation)


def _light(
    ids: Ids, depth: Floats, brightness: Floats, steps: NDArray[Any], look: Appearance,
    rng: np.random.Generator,
) -> Floats:  # fmt: skip
    """Return the light that reaches the camera, about 1 in a nucleus."""
    shape = ids.shape
    profile = 1 - rng.uniform(0, 0.5) * (1 - np.sqrt(np.clip(depth, 0, 1)))
    grain = 1 + look.texture * _smooth(shape, rng.uniform(0.8, 2.5) / steps, rng)
    light = brightness[ids] * profile * np.clip(grain, 0.2, None)
    if look.nucleoli:
        spots = _smooth(shape, 0.22 * look.radius / steps, rng)
        dark = (spots > 1.9 - 0.25 * look.nucleoli) & (depth > 0.25)
        light[dark] *= np.float32(rng.uniform(0.3, 0.8))
    count = int(look.specks * ids.max())
    if count:
        at = tuple(rng.integers(0, n, count) for n in shape)
        light[at] += rng.uniform(1, 6, count).astype(np.float32)
    haze = gaussian_filter(light, 2.5 * look.radius / steps)
    light += look.haze * haze
    widening = np.array((1.6, 1.0, 1.0)[-len(steps) :])  # the optics blur more along z
    light = gaussian_filter(light, look.blur * widening / steps)
    slope = _smooth(shape, 0.4 * np.array(shape), rng)
    return np.clip((light + look.background) * (1 + look.gradient * slope), 0, None)


def _detected(light: Floats, look: Appearance, rng: np.random.Generator) -> NDArray[Any]:
    """Return what a camera stores."""
    seen = rng.poisson(light * look.photons) / look.photons
    seen = seen + rng.normal(0, look.read_noise, seen.shape)
    top = look.headroom * (1.8 + look.background)
    offset = look.full * look.offset
    stored = np.clip(offset + seen * (look.full - offset) / top, 0, look.full)
    return stored.astype(np.uint8 if look.full == 255 else np.uint16)


def _smooth(shape: Sequence[int], sigma: Any, rng: np.random.Generator) -> Floats:
    """Return smooth noise of mean 0 and standard deviation 1; sigma in voxels, per axis."""
    sigmas = np.maximum(np.broadcast_to(np.asarray(sigma, float), (len(shape),)), 0.3)
    factors = np.maximum(1, np.floor(sigmas / 1.5)).astype(int)  # drawn coarsely, then enlarged
    coarse = [-(-n // f) + 2 for n, f in zip(shape, factors, strict=True)]
    noise = gaussian_filter(rng.normal(size=coarse), sigmas / factors, mode="wrap")
    fine = zoom(noise, factors, order=1)[tuple(slice(0, n) for n in shape)]
    return ((fine - noise.mean()) / max(float(noise.std()), 1e-9)).astype(np.float32)
