"""Exact percentiles of any dtype, found digit by digit: bounded memory, any order of the parts.

A value is mapped to an unsigned integer that sorts like it, and this integer is read as digits of
16 bits. One pass over the volume counts the most significant digits; the rank of a percentile then
falls on one of them, and the next pass counts the next digits of the values that begin with it. So
a percentile of a 32-bit dtype takes two passes, whatever outliers the volume has (radix selection;
Knuth, The Art of Computer Programming 3, section 5.2.5).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .statistics import finite

DIGIT_BITS = 16
DIGITS = 2**DIGIT_BITS


@dataclass(frozen=True, slots=True)
class Search:
    """A value of which the first digits are known."""

    rank: int
    """Position of the value among all that begin with ``prefix``; the least has 1."""
    prefix: int = 0
    known: int = 0
    """Number of known digits."""

    def narrowed(self, counts: NDArray[np.int64]) -> Search:
        """Return the search with one more digit. counts: values per digit after the prefix."""
        up_to = np.cumsum(counts)
        digit = int(np.searchsorted(up_to, self.rank))
        below = int(up_to[digit - 1]) if digit else 0
        return Search(self.rank - below, self.prefix << DIGIT_BITS | digit, self.known + 1)


Searches: TypeAlias = Sequence[Sequence[Search]]
"""Per channel, the values that are searched in it; every channel has the same number."""


def keys_of(values: NDArray[Any]) -> NDArray[Any]:
    """Return unsigned integers that sort like ``values`` (finite; -0.0 before 0.0)."""
    stored = np.ascontiguousarray(values, values.dtype.newbyteorder("="))
    unsigned = np.dtype(f"u{stored.dtype.itemsize}")
    bits = stored.view(unsigned)
    sign = unsigned.type(1 << (8 * unsigned.itemsize - 1))
    if stored.dtype.kind == "u":
        return bits
    if stored.dtype.kind == "i":
        return bits ^ sign
    return np.where(bits & sign, ~bits, bits | sign)


def value_of_key(key: int, dtype: str) -> float:
    """Return the value whose key is ``key``."""
    kind = np.dtype(dtype)
    unsigned = np.dtype(f"u{kind.itemsize}")
    sign = 1 << (8 * kind.itemsize - 1)
    if kind.kind == "f":
        key = key & ~sign if key & sign else ~key & (2 * sign - 1)
    elif kind.kind == "i":
        key ^= sign
    return float(np.array(key, unsigned).view(kind)) + 0.0  # -0.0 becomes 0.0


def count_digits(values_czyx: NDArray[Any], searches: Searches) -> NDArray[np.int64]:
    """Return counts (channel, search, digit) of the next digit; NaN and infinities are ignored."""
    return np.stack(
        [
            np.stack([_next_digits(keys_of(finite(channel)), search) for search in wanted])
            for channel, wanted in zip(values_czyx, searches, strict=True)
        ]
    )


def _next_digits(keys: NDArray[Any], search: Search) -> NDArray[np.int64]:
    bits = 8 * keys.dtype.itemsize
    if search.known:
        keys = keys[keys >> (bits - search.known * DIGIT_BITS) == search.prefix]
    digits = keys >> (bits - (search.known + 1) * DIGIT_BITS) & (DIGITS - 1)
    return np.bincount(digits.astype(np.int64), minlength=DIGITS)


def values_at_ranks(
    ranks: Sequence[Sequence[int]],
    dtype: str,
    count: Callable[[Searches], NDArray[np.int64]],
) -> list[list[float]]:
    """Return the values at some ranks of each channel; rank 1 is the least value.

    count: :func:`count_digits` of the whole volume; called once per 16 bits of the dtype.
    """
    searches = [[Search(rank) for rank in channel] for channel in ranks]
    for _ in range(8 * np.dtype(dtype).itemsize // DIGIT_BITS):
        counts = count(searches)
        searches = [
            [search.narrowed(row) for search, row in zip(wanted, rows, strict=True)]
            for wanted, rows in zip(searches, counts, strict=True)
        ]
    return [[value_of_key(search.prefix, dtype) for search in wanted] for wanted in searches]
