"""Arrays beside a volume: labels, truth, a prediction; they share its axes and its time point."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Literal

from ..base.errors import VolumeError
from ..base.location import Location
from .formats.image import StoredImage
from .known_formats import format_of
from .volume import VolumeSource, find_volume


def find_companion(
    location: Location,
    *,
    level: int | str | None = None,
    channel: int | str | Sequence[int | str] | None = None,
    time: int | None = None,
    axes: str | None = None,
    holds: Literal["grey values", "labels", "anything"] = "labels",
    overrides: bool = False,
) -> VolumeSource:
    """Return an array that belongs to a volume whose time point and axes the user selected.

    time: ignored by an array without a time axis. axes: used by an array that does not state its
    own (or states unknown ones), without c and t where it lacks them; also by one that cannot be
    read as it states: labels or a mask with channels, or with time points and none selected.
    overrides: also by an array that states others. Raises VolumeError.
    """
    stated = None if overrides else _stated(location, level)
    chosen = None
    if axes and not (stated and _is_readable(stated, holds=holds, time=time)):
        chosen = _fitting(location, level, axes)
    if chosen and stated:
        other = format_of(location).describe(location, level=level, axes=chosen)
        chosen = chosen if _is_readable(other, holds=holds, time=time) else None
    image = format_of(location).describe(location, level=level, axes=chosen)
    return find_volume(
        location,
        level=level,
        channel=channel,
        time=time if "t" in image.axes else None,
        axes=chosen,
        holds=holds,
    )


def states_axes(location: Location) -> bool:
    """Return whether an array states its own axes."""
    return _stated(location, None) is not None


def _stated(location: Location, level: int | str | None) -> StoredImage | None:
    """Return an array as it states its own axes; None where it states none, or unknown ones."""
    with suppress(VolumeError):
        image = format_of(location).describe(location, level=level, axes=None)
        return image if image.axes_are_stated else None
    return None


def _is_readable(image: StoredImage, *, holds: str, time: int | None) -> bool:
    """Return whether an array can be read with the axes that it states."""
    counts = dict(zip(image.axes, image.shape, strict=True))
    has_channels = holds != "grey values" and counts.get("c", 1) > 1
    return not has_channels and (time is not None or counts.get("t", 1) == 1)


def _fitting(location: Location, level: int | str | None, axes: str) -> str | None:
    """Return those of the given axes that an array has; None where they do not fit it."""
    image_format = format_of(location)
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
