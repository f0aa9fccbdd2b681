"""The nuclei of an image: ellipsoids, some of them bent, and those of dividing cells.

A dividing nucleus is compact and bright: a metaphase plate, the two bars of an anaphase (two
bodies, because each becomes a nucleus), or a condensed ball.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .appearance import Appearance

CONDENSED = 0.7
"""Radius of a dividing nucleus over that of the same nucleus before."""
DIVIDING_BRIGHTNESS = (2.0, 5.0)
"""Over that of a median nucleus."""
DIMMEST = 0.25
"""Least brightness of a nucleus. Light that is not labelled, far from focus, is dimmer."""
STAGES = ("metaphase", "anaphase", "ball")
STAGE_SHARES = (0.45, 0.35, 0.2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """One nucleus. Lengths are in voxels of y and x, except the centre."""

    centre: NDArray[Any]
    """In voxels."""
    radii: NDArray[Any]
    """Longest first."""
    rotation: NDArray[Any]
    """Its rows are the directions of the radii."""
    bend: float
    brightness: float
    dividing: int = 0
    """Number of the dividing cell, from 1; 0: not dividing. The bars of an anaphase share it."""

    @property
    def reach(self) -> float:
        """Return the distance from the centre to the farthest voxel that it may have."""
        return float(1.4 * self.radii[0] * (1 + 0.7 * abs(self.bend)))

    def distances(self, offsets: NDArray[Any]) -> NDArray[Any]:
        """Return the distance of positions from the centre, where 1 is the smooth outline.

        offsets: positions less the centre, (…, axes), in voxels of y and x.
        """
        inner = offsets @ self.rotation.T / self.radii
        if self.bend:  # the longest axis becomes a parabola
            inner[..., 1] += self.bend * (inner[..., 0] ** 2 - 1 / 3)
        return np.asarray(np.linalg.norm(inner, axis=-1))


def draw_bodies(
    shape: Sequence[int], steps: NDArray[Any], appearance: Appearance, rng: np.random.Generator
) -> list[Body]:
    """Return the bodies of one image, in the order of their ids, which start at 1."""
    centres, radii = _centres_and_radii(shape, steps, appearance, rng)
    share = rng.uniform(0, appearance.dividing)
    count = int(share * len(centres) + rng.random())
    numbers = dict(zip(rng.permutation(len(centres))[:count], range(1, count + 1), strict=True))
    contrast = rng.uniform(0.1, max(appearance.contrast, 0.1))
    bodies: list[Body] = []
    for index, (centre, radius) in enumerate(zip(centres, radii, strict=True)):
        if index in numbers:
            bodies += _dividing(centre, radius, steps, numbers[index], rng)
        else:
            brightness = float(np.clip(np.exp(rng.normal(0, contrast)), DIMMEST, 3))
            bodies.append(_resting(centre, radius, brightness, appearance, rng))
    return bodies


def _resting(
    centre: NDArray[Any], radius: float, brightness: float, appearance: Appearance,
    rng: np.random.Generator,
) -> Body:  # fmt: skip
    """Return a nucleus of an undivided cell."""
    dims = len(centre)
    ratios = np.exp(rng.uniform(-0.5, 0.5, dims) * np.log(appearance.elongation))
    ratios = np.sort(ratios)[::-1] / np.prod(ratios) ** (1 / dims)
    return Body(
        centre=centre, radii=radius * ratios, rotation=_rotation(dims, rng),
        bend=float(rng.uniform(0, appearance.bend)), brightness=brightness,
    )  # fmt: skip


def _dividing(
    centre: NDArray[Any], radius: float, steps: NDArray[Any], number: int,
    rng: np.random.Generator,
) -> list[Body]:  # fmt: skip
    """Return the one or two bodies of a dividing cell."""
    dims, radius = len(centre), CONDENSED * radius
    stage = rng.choice(STAGES, p=STAGE_SHARES)
    thin = {"metaphase": (0.3, 0.5), "anaphase": (0.25, 0.4), "ball": (0.7, 1.0)}[str(stage)]
    wide = {"metaphase": (1.0, 1.3), "anaphase": (0.7, 1.1), "ball": (1.0, 1.1)}[str(stage)]
    radii = np.sort([*rng.uniform(*wide, dims - 1), rng.uniform(*thin)])[::-1] * radius
    rotation, brightness = _rotation(dims, rng), float(rng.uniform(*DIVIDING_BRIGHTNESS))
    apart = radius * rng.uniform(0.55, 1.2) * (stage == "anaphase")
    bends = rng.uniform(0, 0.5) * (dims == 2) * np.array((1, -1) if apart else (0,))
    shifts = [side * apart * rotation[-1] for side in ((-1, 1) if apart else (0,))]
    return [
        Body(
            centre=centre + shift / steps, radii=radii, rotation=rotation, bend=float(bend),
            brightness=brightness, dividing=number,
        )
        for shift, bend in zip(shifts, bends, strict=True)
    ]  # fmt: skip


def _centres_and_radii(
    shape: Sequence[int], steps: NDArray[Any], appearance: Appearance, rng: np.random.Generator
) -> tuple[list[NDArray[Any]], list[float]]:
    """Return centres in voxels and radii of nuclei that keep their distance, in clusters."""
    extent = np.array(shape) * steps
    body = np.pi * appearance.radius**2 if len(shape) == 2 else 4 / 3 * np.pi * appearance.radius**3
    tries = max(3, int(appearance.crowding * np.prod(extent) / body))
    clusters = rng.uniform(0, 1, (max(1, tries // 12), len(shape))) * extent
    kept: list[NDArray[Any]] = []
    radii: list[float] = []
    for _ in range(tries):
        if rng.random() < 0.5:
            place = clusters[rng.integers(len(clusters))] + rng.normal(
                0, 3 * appearance.radius, len(shape)
            )
        else:
            place = rng.uniform(-appearance.radius, extent + appearance.radius)
        radius = float(appearance.radius * np.exp(rng.normal(0, appearance.size_spread)))
        if kept:
            gaps = np.linalg.norm(np.array(kept) - place, axis=1)
            if (gaps < appearance.separation * (np.array(radii) + radius)).any():
                continue
        kept.append(place)
        radii.append(radius)
    return [place / steps for place in kept], radii


def _rotation(dims: int, rng: np.random.Generator) -> NDArray[Any]:
    rotation, _ = np.linalg.qr(rng.normal(size=(dims, dims)))
    return np.asarray(rotation)
