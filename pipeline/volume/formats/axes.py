"""The axes of a stored array, from its metadata or from the user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ...base.errors import VolumeError
from ...base.text import brief, shortened

KNOWN_AXES: Final = "tczyx"
_FULL_NAMES: Final = {
    "time": "t",
    "channel": "c",
    "channels": "c",
    "depth": "z",
    "height": "y",
    "width": "x",
}
_BY_RANK: Final = {2: "yx", 3: "zyx", 4: "czyx", 5: "tczyx"}


def spatial_axes(axes: str) -> str:
    """Return the spatial axes of ``axes`` in the order z y x.

    >>> spatial_axes("xyc")
    'yx'
    """
    return "".join(axis for axis in "zyx" if axis in axes)


def as_slices(axes: str) -> str | None:
    """Return axes in which planes that are channels are slices; None where there are no such ones.

    >>> as_slices("cyx"), as_slices("tcyx"), as_slices("yxc"), as_slices("czyx")
    ('zyx', 'tzyx', None, None)
    """
    return axes.replace("c", "z") if "cy" in axes and "z" not in axes else None


def slices_advice(axes: str) -> str:
    """Return what to do where the channels of an image are its slices, to end a message with.

    >>> slices_advice("cyx"), slices_advice("zyx")
    ('; if its channels are slices, pass --axes zyx', '')
    """
    other = as_slices(axes)
    return f"; if its channels are slices, pass --axes {other}" if other else ""


def checked_axes(axes: str, *, ndim: int, where: str) -> str:
    """Return ``axes`` if they fit an array of ``ndim`` axes; raise VolumeError otherwise."""
    advice = _advice(ndim)
    if unknown := sorted(set(axes) - set(KNOWN_AXES)):
        raise VolumeError(
            f"{where}: axis {unknown[0]!r} of {brief(axes)} is not one of t c z y x; {advice}"
        )
    if len(set(axes)) != len(axes):
        raise VolumeError(f"{where}: axes {brief(axes)} name one axis twice; {advice}")
    if len(axes) != ndim:
        raise VolumeError(
            f"{where}: axes {brief(axes)} are {len(axes)}, but the array has {ndim}; {advice}"
        )
    if not {"y", "x"} <= set(axes):
        raise VolumeError(
            f"{where}: axes {brief(axes)} lack y or x, so there is no plane to segment; {advice}"
        )
    return axes


def unknown_axes(names: object, *, ndim: int, where: str) -> VolumeError:
    """Return the error for axes whose stated names are unknown."""
    shown = [
        str(axis.get("name") if isinstance(axis, Mapping) else axis)
        for axis in (names if isinstance(names, Sequence) else [names])
    ]
    names = shortened(" ".join(shown[:12]), most=80)
    return VolumeError(f"{where}: axes {names} are not among t c z y x; {_advice(ndim)}")


def _advice(ndim: int) -> str:
    return f"pass them with --axes, e.g. --axes {_BY_RANK.get(ndim, 'czyx')}"


def letters(names: object) -> str | None:
    """Return axis names as letters, or None if they are not names of known axes.

    names: a str, a list of str, or OME-Zarr's list of ``{"name": …, "type": …}``.

    >>> letters([{"name": "c", "type": "channel"}, {"name": "y"}, {"name": "x"}])
    'cyx'
    >>> letters(["lat", "lon"]) is None
    True
    """
    if not isinstance(names, str | Sequence) or not names:
        return None
    found = [_letter(name) for name in names]
    return "".join(found) if all(found) else None


def _letter(axis: object) -> str:
    name = axis.get("name") if isinstance(axis, Mapping) else axis
    if not isinstance(name, str):
        return ""
    name = _FULL_NAMES.get(name.lower(), name.lower())
    if len(name) != 1 and isinstance(axis, Mapping):
        name = _FULL_NAMES.get(str(axis.get("type")), name)
    return name if len(name) == 1 and name in KNOWN_AXES else ""


def stated_axes(
    document: Mapping[str, Any],
    attributes: Mapping[str, Any],
    above: Mapping[str, Any],
    *,
    ndim: int,
    where: str,
) -> str | None:
    """Return the axes that a plain array states, or None.

    Read from the v3 document's ``dimension_names``, then from ``axes`` and xarray's
    ``_ARRAY_DIMENSIONS`` in the attributes of the array, then in those of the group above it (if
    their number fits). Unknown dimension names (``dim_0``, ``lat``) are ignored; unknown ``axes``
    raise VolumeError.
    """
    for key, names, own in (
        ("dimension_names", document.get("dimension_names"), True),
        *((key, attributes.get(key), True) for key in ("axes", "_ARRAY_DIMENSIONS")),
        *((key, above.get(key), False) for key in ("axes", "_ARRAY_DIMENSIONS")),
    ):
        if not names or not isinstance(names, str | Sequence) or (not own and len(names) != ndim):
            continue
        if (found := letters(names)) is not None:
            return checked_axes(found, ndim=ndim, where=where)
        if key == "axes":
            raise unknown_axes(names, ndim=ndim, where=where)
    return None


def assumed_axes(ndim: int, *, where: str) -> tuple[str, str]:
    """Return the axes assumed for an array that states none, and a note for the user."""
    if ndim not in _BY_RANK:
        raise VolumeError(f"{where}: an array of {ndim} axes is not an image: expected 2 to 5 axes")
    axes = _BY_RANK[ndim]
    return axes, f"axes are not stated: assumed {' '.join(axes)}; override with --axes"
