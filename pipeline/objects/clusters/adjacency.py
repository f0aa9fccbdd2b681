"""Which objects touch, over how many faces, and the scores there: sums that add up over blocks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Names: TypeAlias = NDArray[np.uint64]
Sums: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Adjacency:
    """Row k: the objects ``low[k]`` < ``high[k]`` touch at ``faces[k]`` pairs of voxels.

    total: sum over these pairs of the higher of both voxels' stored scores.
    Rows are sorted by (low, high) and each pair of objects occurs once, so the adjacencies of the
    same voxels are equal, whichever parts they were summed from. All sums are integers, and exact.
    """

    low: Names
    high: Names
    total: Sums
    faces: Sums

    @classmethod
    def empty(cls) -> Adjacency:
        """Return an adjacency without pairs."""
        none = np.empty(0, np.int64)
        return cls(low=none.astype(np.uint64), high=none.astype(np.uint64), total=none, faces=none)

    @classmethod
    def of_pairs(cls, one: Names, other: Names, *, total: Sums, faces: Sums) -> Adjacency:
        """Return the sum of pairs in any order, with repetitions; pairs of one object are dropped.

        one, other: names, neither of them 0.
        """
        low, high = np.minimum(one, other), np.maximum(one, other)
        order = np.lexsort((high, low))
        order = order[low[order] != high[order]]
        if not order.size:
            return cls.empty()
        low, high = low[order], high[order]
        is_first = np.ones(order.size, np.bool_)
        is_first[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
        first = np.flatnonzero(is_first)
        return cls(
            low=low[first], high=high[first],
            total=np.add.reduceat(total[order], first), faces=np.add.reduceat(faces[order], first),
        )  # fmt: skip

    @classmethod
    def merged(cls, parts: Iterable[Adjacency]) -> Adjacency:
        """Return the sum of adjacencies, each of other pairs of voxels."""
        parts = [cls.empty(), *parts]
        return cls.of_pairs(
            np.concatenate([part.low for part in parts]),
            np.concatenate([part.high for part in parts]),
            total=np.concatenate([part.total for part in parts]),
            faces=np.concatenate([part.faces for part in parts]),
        )

    def __len__(self) -> int:
        return len(self.low)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Adjacency):
            return NotImplemented
        return all(
            np.array_equal(getattr(self, name), getattr(other, name))
            for name in ("low", "high", "total", "faces")
        )

    __hash__ = None  # type: ignore[assignment]  # arrays are compared, not hashed

    @property
    def means(self) -> NDArray[np.float64]:
        """Mean score per pair, in units of the stored scores."""
        return self.total / self.faces

    def names(self) -> Names:
        """Return the names of all objects that touch another one, ascending."""
        # numpy's unique hashes 64-bit integers, which is slower than to sort them.
        return _distinct(
            np.sort(np.concatenate((_distinct(self.low), _distinct(np.sort(self.high)))))
        )

    def taken(self, rows: NDArray[np.bool_]) -> Adjacency:
        """Return some of the pairs."""
        return Adjacency(
            low=self.low[rows], high=self.high[rows], total=self.total[rows], faces=self.faces[rows]
        )

    def renamed(self, old: Names, new: Names) -> Adjacency:
        """Return the adjacency after the objects ``old`` took the names ``new``; see ``renamed``.

        Objects that take one name become one: the pairs between them are dropped, and their pairs
        with another object are summed.
        """
        return Adjacency.of_pairs(
            renamed(self.low, old, new), renamed(self.high, old, new),
            total=self.total, faces=self.faces,
        )  # fmt: skip


def contains(ascending: Names, names: Names) -> NDArray[np.bool_]:
    """Return which of ``names`` occur in ``ascending``, which is sorted."""
    if not ascending.size:
        return np.zeros(names.shape, np.bool_)
    place = np.minimum(np.searchsorted(ascending, names), ascending.size - 1)
    return ascending[place] == names


def _distinct(ascending: Names) -> Names:
    is_first = np.ones(ascending.size, np.bool_)
    is_first[1:] = ascending[1:] != ascending[:-1]
    return ascending[is_first]


def renamed(names: Names, old: Names, new: Names) -> Names:
    """Return ``names`` with each of ``old``, which may be in any order, replaced by its ``new``.

    Other names stay. All names are replaced at once: a new name is not looked up again.
    """
    if not old.size:
        return names
    order = np.argsort(old, kind="stable")
    place = order[np.minimum(np.searchsorted(old, names, sorter=order), old.size - 1)]
    return np.where(old[place] == names, new[place], names)
