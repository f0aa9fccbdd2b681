"""The planes of a skip that the expanding path has not reached yet."""

from __future__ import annotations

from torch import Tensor

from pipeline.base.geometry import Shape


class SkipQueue:
    """Planes of a skip (1, channels, planes, *rest) in their order, cropped as its join wants them.

    crops: per side and axis; the planes of the first axis are dropped once, at the front. (Those at
    the end are never taken.) ring: room for the most planes that wait at once.
    """

    def __init__(self, crops: Shape, ring: Tensor) -> None:
        self._to_drop, *self._cuts = crops
        self._ring = ring
        self._limit = ring.shape[2]
        self._first = 0
        self.planes = 0

    def put(self, x: Tensor) -> None:
        """Append planes; what is kept is copied."""
        dropped = min(self._to_drop, x.shape[2])
        self._to_drop -= dropped
        index = [slice(None), slice(None), slice(dropped, None)]
        index += [slice(cut, size - cut) for cut, size in zip(self._cuts, x.shape[3:], strict=True)]
        kept = x[tuple(index)]
        count = kept.shape[2]
        assert self.planes + count <= self._limit, "the limit follows from the network and the slab"
        for place, start, stop in self._runs(self._first + self.planes, count):
            self._ring[:, :, place : place + stop - start] = kept[:, :, start:stop]
        self.planes += count

    def move_to(self, target: Tensor) -> None:
        """Fill ``target`` (1, channels, planes, *rest) with the first planes and forget them."""
        count = target.shape[2]
        for place, start, stop in self._runs(self._first, count):
            target[:, :, start:stop] = self._ring[:, :, place : place + stop - start]
        self._first = (self._first + count) % self._limit
        self.planes -= count

    def _runs(self, first: int, count: int) -> list[tuple[int, int, int]]:
        """Return (place in the ring, start, stop) of the runs that planes from ``first`` take."""
        place = first % self._limit
        before_end = min(count, self._limit - place)
        runs = [(place, 0, before_end), (0, before_end, count)]
        return [run for run in runs if run[1] < run[2]]
