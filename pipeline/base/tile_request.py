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


@dataclass(frozen=True, slots=True)
class View:
    """A tile in one orientation, and which channels of its scores count."""

    orientation: Orientation = Orientation()
    sources: tuple[int | None, ...] | None = None
    """Per channel of the mean, the channel of this view's scores that is added to it, or None if
    none is. Without a tuple, each channel is added to itself."""

    def add(self, scores: Any, total: Any) -> None:
        """Add scores of this view, turned back, to sums (channel, …), in place."""
        if self.sources is None:
            total += scores
            return
        for channel, source in enumerate(self.sources):
            if source is not None:
                total[channel] += scores[source]

    def gives(self, channel: int) -> bool:
        """Return whether the view has scores for a channel."""
        return self.sources is None or self.sources[channel] is not None


def divide_by_views(total: Any, views: Sequence[View]) -> None:
    """Divide sums (channel, …) by the number of views that gave each channel, in place."""
    for channel, sums in enumerate(total):
        sums /= sum(view.gives(channel) for view in views)


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
    views: tuple[View, ...] = (View(),)
    """Scores are the mean over these, of which the first gives all channels."""
    on_share: Callable[[float], None] = field(default=no_report, compare=False)
    """Called, between planes that are given, with the share of the tile's work that is done: a mean
    over views gives its planes late."""


@dataclass(frozen=True, slots=True)
class StoredPlanes:
    """Some planes of a tile's core, as they are stored."""

    classes_zyx: NDArray[np.uint8]
    """The first class of the highest probability."""
    outputs: tuple[NDArray[Any], ...]
    """One array (z, y, x) or (class, z, y, x) per output of the request."""
