"""What all images of one volume share: sizes, crowding, optics, camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RADII = (5.5, 17.0)
"""Range of the median radius of a volume: diameters of 11 to 34 voxels."""
LARGEST_DIVIDING_SHARE = 0.1
"""Of the nuclei of one image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Appearance:
    """What all images of one volume share. Lengths are in voxels of y and x."""

    radius: float
    """Median radius of a nucleus."""
    size_spread: float
    """Standard deviation of the logarithm of the radius."""
    elongation: float
    """Largest ratio of a nucleus' radii."""
    bend: float
    """Largest curvature of a nucleus; kidney-shaped from 0.5."""
    lobes: float
    """Amplitude of the outline's deviation from an ellipse."""
    crowding: float
    """Nuclei tried per volume of a nucleus."""
    separation: float
    """Distance of two centres over the sum of their radii; below 1 they touch and are squeezed."""
    dividing: float
    """Largest share of dividing nuclei in an image."""
    contrast: float
    """Standard deviation of the logarithm of a nucleus' brightness."""
    texture: float
    nucleoli: int
    central_nucleolus: float
    """Radius of one dark nucleolus in the centre over that of the nucleus; 0: without."""
    chromocentres: float
    """Brightness of bright spots (chromocentres) over that of their nucleus; 0: without."""
    haze: float
    defocused: float
    """Brightness of nuclei far out of focus, which are not labelled; 2-D."""
    background: float
    gradient: float
    vignette: float
    """Loss of light in the corners."""
    decay: float
    """Logarithm of the loss of light from the first slice to the last, or the reverse; 3-D."""
    blur: float
    """Sigma of the optics in y and x."""
    axial: float
    """Sigma along z over that in y and x; 3-D."""
    photons: float
    """Of a nucleus of brightness 1."""
    read_noise: float
    full: float
    """Largest value that is stored: 255 or that of a camera."""
    offset: float
    """Value of no light, over ``full``."""
    headroom: float
    """Light of the largest value over that of a bright nucleus; below 1 nuclei are saturated."""
    specks: float
    """Bright specks beside the nuclei, per nucleus."""
    debris: float
    """Fragments of up to a quarter of a nucleus' radius, per nucleus."""
    fibres: int
    """Faint straight lines; 2-D."""
    z_step: float
    """Distance of two slices in voxels of y and x; for 3-D."""

    @classmethod
    def drawn(cls, rng: np.random.Generator, *, dims: int) -> Appearance:
        """Return an appearance from wide ranges."""
        flat = dims == 2
        radius = _log_uniform(rng, *RADII)
        return cls(
            radius=radius,
            size_spread=float(rng.uniform(0.08, 0.3)),
            elongation=float(rng.uniform(1.1, 2.6)),
            bend=float(rng.choice((0.0, rng.uniform(0.0, 0.8)))),
            lobes=float(rng.uniform(0.05, 0.25)),
            crowding=_log_uniform(rng, 0.15, 2.0),
            separation=float(rng.uniform(0.7, 1.1)),
            dividing=float(rng.uniform(0.02, LARGEST_DIVIDING_SHARE)) * _present(rng, 0.7),
            contrast=float(rng.uniform(0.1, 0.6)),
            texture=float(rng.uniform(0.05, 0.35)),
            nucleoli=int(rng.integers(0, 5)),
            central_nucleolus=float(rng.uniform(0.25, 0.5)) * _present(rng, 0.25),
            chromocentres=float(rng.uniform(0.3, 1.5)) * _present(rng, 0.25),
            haze=float(rng.uniform(0.0, 0.5)),
            defocused=float(rng.uniform(0.0, 0.1)) * _present(rng, 0.5) * flat,
            background=float(rng.uniform(0.02, 0.3)),
            gradient=float(rng.uniform(0.0, 0.5)),
            vignette=float(rng.uniform(0.0, 0.6)),
            decay=float(rng.uniform(-1.2, 1.2)) * (not flat),
            blur=float(rng.uniform(0.5, min(0.14 * radius, 1.8) + 0.8)),
            axial=float(rng.uniform(1.3, 2.6)),
            photons=_log_uniform(rng, 15, 800),
            read_noise=float(rng.uniform(0.0, 0.05)),
            full=255.0 if rng.random() < 0.5 else float(np.exp(rng.uniform(6.4, 11))),
            offset=float(rng.uniform(0.0, 0.1)),
            headroom=_log_uniform(rng, 0.4, 2.0),
            specks=float(rng.choice((0.0, 0.0, 0.1, 0.4))),
            debris=float(rng.choice((0.0, 0.0, 0.1, 0.3))),
            fibres=int(rng.choice((0, 0, 0, 1, 3))) * flat,
            z_step=1.0 if flat else float(rng.uniform(1.0, 3.0)),
        )


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _present(rng: np.random.Generator, share: float) -> bool:
    """Return whether an appearance is among this share of all."""
    return bool(rng.random() < share)
