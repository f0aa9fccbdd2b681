"""The normalisation of a volume: grey values to network input, the same for every tile.

A record describes it. It is small JSON, stored with the weights and with the output:

    {"kind": "none"}
    {"kind": "dtype"}                                       the integer type's own range to 0..1
    {"kind": "range", "low": 0, "high": 255}                low..high to 0..1, nothing clipped
    {"kind": "percentile", "low": 1, "high": 99.8}          measured per channel, then as `range`
    {"kind": "zscore"}                                      measured per channel: (x - mean) / std

`percentile` and `zscore` may add ``"level": "s2"``: measured there instead of on the level that is
segmented. Applied to a volume, a record gives an :class:`Intensity`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base.errors import IntensityError
from ..base.grey_values import working_dtype
from ..base.text import brief, shortened

MEASURED_KINDS = ("percentile", "zscore")
KINDS = ("none", "dtype", "range", *MEASURED_KINDS)


@dataclass(frozen=True, slots=True)
class Intensity:
    """``(value - offset) * scale``, per channel or, with one entry, the same for all."""

    offset: tuple[float, ...] = (0.0,)
    scale: tuple[float, ...] = (1.0,)

    def apply(self, raw_czyx: NDArray[Any]) -> NDArray[np.float32]:
        """Return float32 network input; NaN and infinite values become 0."""
        working = working_dtype(raw_czyx.dtype.kind, raw_czyx.dtype.itemsize)
        x: NDArray[np.floating[Any]] = raw_czyx.astype(working)
        shape = (-1,) + (1,) * (x.ndim - 1)
        x -= np.asarray(self.offset, dtype=working).reshape(shape)
        x *= np.asarray(self.scale, dtype=working).reshape(shape)
        narrow = x.astype(np.float32, copy=False)
        if raw_czyx.dtype.kind == "f":
            narrow[~np.isfinite(narrow)] = 0
        return narrow

    def to_json(self) -> dict[str, list[float]]:
        """Return the numbers as a JSON value."""
        return {"offset": list(self.offset), "scale": list(self.scale)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Intensity:
        """Return what :meth:`to_json` wrote."""
        return cls(tuple(map(float, value["offset"])), tuple(map(float, value["scale"])))


def check_record(record: Mapping[str, Any] | None, dtype: str) -> dict[str, Any]:
    """Return a complete record for a volume of this dtype, or raise IntensityError.

    Without a record: the dtype's range for integers, none for floats.
    """
    if record is None:
        return {"kind": "none" if np.dtype(dtype).kind == "f" else "dtype"}
    kind = record.get("kind")
    if kind not in KINDS:
        raise IntensityError(
            f"normalisation kind {brief(kind)} is unknown: choose {', '.join(KINDS)}"
        )
    allowed = {"kind"} | ({"level"} if kind in MEASURED_KINDS else set())
    if kind in ("range", "percentile"):
        allowed |= {"low", "high"}
    if unknown := sorted(set(record) - allowed):
        names = shortened(", ".join(map(str, unknown)), most=80)
        raise IntensityError(f"normalisation {kind} does not take {names}")
    complete = dict(record)
    if not isinstance(record.get("level"), int | str | None):
        raise IntensityError(
            f"normalisation {kind}: level {brief(record['level'])}: expected a number or a name"
        )
    if kind == "percentile":
        complete = {"low": 1.0, "high": 99.8, **complete}
    if kind in ("range", "percentile"):
        _check_order(complete)
    if kind == "dtype" and np.dtype(dtype).kind == "f":
        raise IntensityError(
            f"normalisation dtype: {dtype} has no fixed range; "
            "use range:LOW:HIGH, percentile or zscore"
        )
    return complete


def _check_order(record: Mapping[str, Any]) -> None:
    kind, low, high = record["kind"], record.get("low"), record.get("high")
    if missing := [bound for bound in ("low", "high") if record.get(bound) is None]:
        raise IntensityError(
            f"normalisation {kind} without {' and '.join(missing)}: expected both, as "
            f"{kind}:LOW:HIGH, e.g. range:0:255"
        )
    if not all(map(_is_number, (low, high))) or low >= high:  # type: ignore[operator]
        raise IntensityError(
            f"normalisation {kind} from {brief(low)} to {brief(high)}: low must be below high"
        )
    if kind == "percentile" and not 0 <= low < high <= 100:  # type: ignore[operator]
        raise IntensityError(f"percentiles from {low} to {high} lie outside 0 to 100")


def _is_number(value: Any) -> bool:
    """Return whether a value is a number that float64 holds."""
    if not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer of hundreds of digits
        return False


def parse_record(text: str) -> dict[str, Any]:
    """Return the record for ``KIND[:LOW:HIGH][@LEVEL]``, the shell's notation.

    >>> parse_record("percentile:1:99@s2")
    {'kind': 'percentile', 'low': 1.0, 'high': 99.0, 'level': 's2'}
    """
    head, _, level = text.partition("@")
    kind, *numbers = head.split(":")
    record: dict[str, Any] = {"kind": kind}
    try:
        bounds = [float(n) for n in numbers]
    except ValueError:
        bounds = [math.nan]
    if len(bounds) not in (0, 2) or any(map(math.isnan, bounds)):
        raise IntensityError(
            f"normalisation {brief(text)}: expected KIND or KIND:LOW:HIGH, e.g. range:0:255"
        )
    if bounds:
        record |= {"low": bounds[0], "high": bounds[1]}
    if level:
        record["level"] = level
    return record


def record_text(record: Mapping[str, Any]) -> str:
    """Return a record in the shell's notation.

    >>> record_text({"kind": "range", "low": 0.0, "high": 255, "level": "s2"})
    'range:0:255@s2'
    """
    bounds = [f"{record[name]:g}" for name in ("low", "high") if name in record]
    level = f"@{record['level']}" if record.get("level") is not None else ""
    return ":".join([record["kind"], *bounds]) + level


def stated_intensity(record: Mapping[str, Any], dtype: str) -> Intensity | None:
    """Return the Intensity of a complete record, or None if the volume must be measured."""
    if record["kind"] == "none":
        return Intensity()
    if record["kind"] == "dtype":
        info = np.iinfo(dtype)
        return range_intensity([(float(info.min), float(info.max))])
    if record["kind"] == "range":
        return range_intensity([(float(record["low"]), float(record["high"]))])
    return None


def range_intensity(bounds: list[tuple[float, float]]) -> Intensity:
    """Return the map of ``low..high`` to 0..1, per channel.

    A channel whose bounds are equal is only moved: right for a channel of one value, which becomes
    0. :func:`check_percentiles` rejects any other.
    """
    return Intensity(
        tuple(low for low, _ in bounds),
        tuple(1.0 / (high - low) if high > low else 1.0 for low, high in bounds),
    )


def check_percentiles(
    record: Mapping[str, Any],
    bounds: Sequence[tuple[float, float]],
    extremes: Sequence[tuple[float, float]],
) -> None:
    """Raise IntensityError for a channel of several values whose two percentiles are one value.

    bounds: the percentiles per channel. extremes: the least and the largest value per channel.
    """
    for channel, ((low, high), (least, largest)) in enumerate(zip(bounds, extremes, strict=True)):
        if low == high and least < largest:
            first, last = f"{record['low']:g}", f"{record['high']:g}"
            raise IntensityError(
                f"normalisation percentile: percentiles {first} and {last} of channel {channel} "
                f"are both {low:g}, but its values reach from {least:g} to {largest:g}: use "
                f"--normalisation range:LOW:HIGH, or a higher percentile as percentile:{first}:100"
            )


def zscore_intensity(moments: list[tuple[float, float]]) -> Intensity:
    """Return the map to mean 0 and standard deviation 1, from (mean, std) per channel.

    Raises IntensityError where the values are so large that their variance overflows.
    """
    for channel, (_, std) in enumerate(moments):
        if not math.isfinite(std):
            raise IntensityError(
                f"normalisation zscore: the standard deviation of channel {channel} is {std}, its "
                "values are too large: use percentile or range:LOW:HIGH"
            )
    return Intensity(
        tuple(mean for mean, _ in moments),
        tuple(1.0 / std if std > 0 else 1.0 for _, std in moments),
    )
