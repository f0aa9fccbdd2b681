"""What is asked of a network for every tile of a run, and what a tile gives.

Small values that ``pipeline`` makes and ``unet`` reads, and the other way round.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from .choices import OutputName

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Orientation:
    """Mirrored in z and x, then turned by quarter turns from y towards x."""

    mirrored_z: bool = False
    mirrored_x: bool = False
    turns: int = 0

    def shape_of(self, shape_zyx: Sequence[int]) -> tuple[int, int, int]:
        """Return the shape of a tile in this orientation."""
        z, y, x = shape_zyx
        return (z, x, y) if self.turns % 2 else (z, y, x)

    def planes_of(self, start: int, stop: int, *, planes: int) -> tuple[int, int]:
        """Return where planes of the turned tile lie in the tile, of so many planes; or back."""
        return (planes - stop, planes - start) if self.mirrored_z else (start, stop)


def no_report(share: float) -> None:
    """Take the share of a tile that is done, and drop it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TileRequest:
    """What is asked for every tile of a run."""

    offset: tuple[float, ...]
    scale: tuple[float, ...]
    """A raw value becomes ``(value - offset) * scale``, per channel or, with one entry, the same
    for all, in :func:`~pipeline.base.grey_values.working_dtype`; then float32. NaN and infinite
    values become 0."""
    outputs: tuple[tuple[OutputName, str], ...]
    """Kind and dtype of each array that is stored; see ``pipeline.output.kinds``."""
    traversal: Literal["tiles", "sweep"] = "tiles"
    orientations: tuple[Orientation, ...] = (Orientation(),)
    """Probabilities are the mean over these."""
    on_share: Callable[[float], None] = field(default=no_report, compare=False)
    """Called, between planes that are given, with the share of the tile's work that is done: a mean
    over orientations gives its planes late."""


@dataclass(frozen=True, slots=True)
class StoredPlanes:
    """Some planes of a tile's core, as they are stored."""

    classes_zyx: NDArray[np.uint8]
    """The first class of the highest probability."""
    outputs: tuple[NDArray[Any], ...]
    """One array (z, y, x) or (class, z, y, x) per output of the request."""
