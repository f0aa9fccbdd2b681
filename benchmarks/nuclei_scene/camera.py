"""What a camera stores: photon noise, read noise, gain, offset, saturation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .appearance import Appearance
from .noise import Floats


def detected(light: Floats, appearance: Appearance, rng: np.random.Generator) -> NDArray[Any]:
    """Return what a camera stores, uint8 or uint16; light beyond its range is cut off."""
    seen = rng.poisson(light * appearance.photons) / appearance.photons
    seen = seen + rng.normal(0, appearance.read_noise, seen.shape)
    top = appearance.headroom * (1.8 + appearance.background)
    offset = appearance.full * appearance.offset
    stored = np.clip(offset + seen * (appearance.full - offset) / top, 0, appearance.full)
    return stored.astype(np.uint8 if appearance.full == 255 else np.uint16)
