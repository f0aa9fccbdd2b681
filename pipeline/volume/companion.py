"""Arrays beside a volume: labels, truth, a prediction; they share its axes and its time point."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Literal

from ..base.errors import VolumeError
from ..base.location import Location
from .known_formats import format_of
from .volume import VolumeSource, find_volume


def find_companion(
    location: Location,
    *,
    level: int | str | None = None,
    channel: int | str | Sequence[int | str] | None = None,
    time: int | None = None,
    axes: str | None = None,
    holds: Literal["grey values", "labels"] = "labels",
) -> VolumeSource:
    """Return an array that belongs to a volume whose time point and axes the user selected.

    time: ignored by an array without a time axis. axes: used by an array that does not state its
    own (or states unknown ones), without c and t where it lacks them. Raises VolumeError.
    """
    chosen = _axes_of(location, level, axes) if axes else None
    image = format_of(location).describe(location, level=level, axes=chosen)
    return find_volume(
        location,
        level=level,
        channel=channel,
        time=time if "t" in image.axes else None,
        axes=chosen,
        holds=holds,
    )


def _axes_of(location: Location, level: int | str | None, axes: str) -> str | None:
    """Return the axes to read an array with; None for its own."""
    image_format = format_of(location)
    with suppress(VolumeError):
        if image_format.describe(location, level=level, axes=None).axes_are_stated:
            return None
    for candidate in _candidates(axes.strip().lower()):
        with suppress(VolumeError):
            image_format.describe(location, level=level, axes=candidate)
            return candidate
    return None


def _candidates(axes: str) -> Iterator[str]:
    """Yield the axes, then without c, without t, and without both."""
    yield axes
    yield from dict.fromkeys(
        shorter
        for missing in ("c", "t", "ct")
        if (shorter := "".join(axis for axis in axes if axis not in missing)) != axes
    )
