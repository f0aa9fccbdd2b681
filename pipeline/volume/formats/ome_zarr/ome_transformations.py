"""Coordinate transformations of OME-Zarr 0.6 that keep the axes: a scale and a translation.

Transformations may be nested (``sequence``, ``byDimension``, ``bijection``) and written as matrices
(``affine``, ``rotation``). Those that turn, shear or bend the image cannot be expressed by a voxel
size and an origin, and are rejected. Source: RFC 5 of the NGFF community.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final


class UnsupportedTransformationError(ValueError):
    """A transformation that is more than a scale and a translation."""


@dataclass(frozen=True, slots=True)
class Placement:
    """``x * scale + translation``, one number each per axis."""

    scale: tuple[float, ...]
    translation: tuple[float, ...]

    @classmethod
    def identity(cls, ndim: int) -> Placement:
        """Return the placement that changes nothing."""
        return cls((1.0,) * ndim, (0.0,) * ndim)

    def then(self, other: Placement) -> Placement:
        """Return this placement followed by another one."""
        rows = zip(self.translation, other.scale, other.translation, strict=True)
        return Placement(
            tuple(a * b for a, b in zip(self.scale, other.scale, strict=True)),
            tuple(t * s + u for t, s, u in rows),
        )


def placement_of(entries: Sequence[Mapping[str, Any]], axes: Sequence[str]) -> Placement:
    """Return the placement of transformations that follow each other.

    axes: names, in the order of the numbers. Raises UnsupportedTransformationError for what is more
    than a scale and a translation, ValueError, KeyError or TypeError for what is invalid.
    """
    total = Placement.identity(len(axes))
    for entry in entries:
        kind = str(entry["type"])
        if kind not in _KINDS:
            raise UnsupportedTransformationError(f"transformation {kind!r}")
        total = total.then(_KINDS[kind](entry, axes))
    return total


def _numbers(entry: Mapping[str, Any], key: str, axes: Sequence[str]) -> tuple[float, ...]:
    if key not in entry:
        raise UnsupportedTransformationError(f"{key} whose numbers are in an array")
    if len(entry[key]) != len(axes):
        raise ValueError(f"{key} {entry[key]} does not fit {len(axes)} axes")
    return tuple(float(number) for number in entry[key])


def _identity(entry: Mapping[str, Any], axes: Sequence[str]) -> Placement:
    return Placement.identity(len(axes))


def _scale(entry: Mapping[str, Any], axes: Sequence[str]) -> Placement:
    return Placement(_numbers(entry, "scale", axes), (0.0,) * len(axes))


def _translation(entry: Mapping[str, Any], axes: Sequence[str]) -> Placement:
    return Placement((1.0,) * len(axes), _numbers(entry, "translation", axes))


def _sequence(entry: Mapping[str, Any], axes: Sequence[str]) -> Placement:
    return placement_of(entry["transformations"], axes)


def _bijection(entry: Mapping[str, Any], axes: Sequence[str]) -> Placement:
    return placement_of([entry["forward"]], axes)


def _matrix(entry: Mapping[str, Any], axes: Sequence[str]) -> Placement:
    """Return the placement of a diagonal matrix, with or without a last column of offsets."""
    kind, ndim = str(entry["type"]), len(axes)
    if kind not in entry:
        raise UnsupportedTransformationError(f"{kind} whose numbers are in an array")
    rows = [[float(number) for number in row] for row in entry[kind]]
    if rows[ndim:] == [[0.0] * ndim + [1.0]]:  # a homogeneous matrix
        rows = rows[:ndim]
    widths = {len(row) for row in rows}
    if len(rows) != ndim or widths != {ndim + (kind == "affine")}:
        raise ValueError(f"{kind} of {len(rows)} rows does not fit {ndim} axes")
    if any(rows[i][j] != 0 for i in range(ndim) for j in range(ndim) if i != j):
        raise UnsupportedTransformationError(f"{kind} that turns or shears")
    scale = tuple(rows[axis][axis] for axis in range(ndim))
    return Placement(scale, tuple(row[ndim] if len(row) > ndim else 0.0 for row in rows))


def _map_axis(entry: Mapping[str, Any], axes: Sequence[str]) -> Placement:
    mapped = entry["mapAxis"]
    pairs = mapped.items() if isinstance(mapped, Mapping) else enumerate(mapped)
    if any(a != b for a, b in pairs):
        raise UnsupportedTransformationError("mapAxis that exchanges axes")
    return Placement.identity(len(axes))


def _by_dimension(entry: Mapping[str, Any], axes: Sequence[str]) -> Placement:
    """Return the placement of transformations that each concern some of the axes."""
    total = Placement.identity(len(axes))
    for part in entry["transformations"]:
        inner = part.get("transformation", part)
        into = part.get("input_axes", part.get("inputAxes", part.get("input")))
        out = part.get("output_axes", part.get("outputAxes", part.get("output")))
        if list(into) != list(out):
            raise UnsupportedTransformationError("byDimension that exchanges axes")
        places = [one if isinstance(one, int) else list(axes).index(one) for one in into]
        found = placement_of([inner], [axes[place] for place in places])
        scale, translation = [1.0] * len(axes), [0.0] * len(axes)
        for place, s, t in zip(places, found.scale, found.translation, strict=True):
            scale[place], translation[place] = s, t
        total = total.then(Placement(tuple(scale), tuple(translation)))
    return total


_KINDS: Final[dict[str, Callable[[Mapping[str, Any], Sequence[str]], Placement]]] = {
    "identity": _identity,
    "scale": _scale,
    "translation": _translation,
    "sequence": _sequence,
    "bijection": _bijection,
    "affine": _matrix,
    "rotation": _matrix,
    "mapAxis": _map_axis,
    "byDimension": _by_dimension,
}
