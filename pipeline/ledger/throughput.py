"""Voxels over the time of a run, in a bounded number of equal intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

MOST_INTERVALS: Final = 120
_FIRST_INTERVAL_S: Final = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """Voxels computed in each interval since the start of a run."""

    interval_s: float = _FIRST_INTERVAL_S
    voxels: tuple[float, ...] = ()

    def with_block(self, *, start_s: float, stop_s: float, voxels: int) -> Throughput:
        """Return these figures plus a block, spread evenly over the time that it took.

        Intervals double in length while there are more than ``MOST_INTERVALS`` of them.
        """
        interval, values = self.interval_s, list(self.voxels)
        while stop_s > interval * MOST_INTERVALS:
            interval, values = 2 * interval, _paired(values)
        stop_s = max(stop_s, start_s + 1e-6)
        first, last = int(start_s / interval), int(stop_s / interval)
        values += [0.0] * (last + 1 - len(values))
        for number in range(first, last + 1):
            inside = min(stop_s, (number + 1) * interval) - max(start_s, number * interval)
            values[number] += voxels * max(0.0, inside) / (stop_s - start_s)
        return Throughput(interval_s=interval, voxels=tuple(values))

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return {"interval_s": self.interval_s, "voxels": [round(one) for one in self.voxels]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any] | None) -> Throughput:
        """Return the figures that :meth:`to_json` wrote; no interval for None."""
        if not value:
            return cls()
        return cls(interval_s=value["interval_s"], voxels=tuple(value["voxels"]))


def _paired(values: list[float]) -> list[float]:
    return [sum(values[at : at + 2]) for at in range(0, len(values), 2)]
