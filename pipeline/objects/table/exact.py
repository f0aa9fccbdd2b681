"""Exact sums beyond 64 bits, as arrays of limbs of 32 bits.

A number is its digits to the base 2**32, the lowest first, along the last axis, in two's
complement. Sums are taken modulo 2**(32 limbs), so they do not depend on the order of their parts.
Four limbs (128 bits) hold every sum of coordinates, of their products and of 64-bit integers over
fewer than 2**63 voxels.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Limbs: TypeAlias = NDArray[np.uint32]
Integers: TypeAlias = NDArray[np.int64]

INTEGER_LIMBS: Final = 4
_BITS: Final = 32
_MASK: Final = 2**_BITS - 1


def carried(digits: Integers) -> Limbs:
    """Return the number whose digits may be negative, or larger than the base, as limbs.

    digits: (…, limbs), the lowest first; absolute values below 2**63 - 2**32.
    """
    limbs = np.empty(digits.shape, np.uint32)
    carry = np.zeros(digits.shape[:-1], np.int64)
    for place in range(digits.shape[-1]):
        digit = digits[..., place] + carry
        limbs[..., place] = digit & _MASK
        carry = digit >> _BITS
    return limbs


def exact(values: Integers | list[int]) -> Limbs:
    """Return 64-bit integers as limbs: (…) becomes (…, 4)."""
    given = np.asarray(values, np.int64)
    digits = np.zeros((*given.shape, INTEGER_LIMBS), np.int64)
    digits[..., 0] = given & _MASK
    digits[..., 1] = given >> _BITS
    return carried(digits)


def plus(one: Limbs, other: Limbs) -> Limbs:
    """Return the sums, element by element."""
    return carried(one.astype(np.int64) + other.astype(np.int64))


def minus(one: Limbs, other: Limbs) -> Limbs:
    """Return the differences, element by element."""
    return carried(one.astype(np.int64) - other.astype(np.int64))


def times(limbs: Limbs, factor: NDArray[Any] | int) -> Limbs:
    """Return the products with integers from 0 to 2**32 - 1, element by element."""
    by = np.asarray(factor).astype(np.uint64)
    product = np.empty(limbs.shape, np.uint32)
    carry = np.zeros(limbs.shape[:-1], np.uint64)
    for place in range(limbs.shape[-1]):
        digit = limbs[..., place].astype(np.uint64) * by + carry  # at most 2**64 - 2**32
        product[..., place] = digit & np.uint64(_MASK)
        carry = digit >> np.uint64(_BITS)
    return product


def sums_of_groups(limbs: Limbs, starts: NDArray[np.intp]) -> Limbs:
    """Return the sum over the first axis of each group of rows; each starts where the last ends.

    A group has fewer than 2**31 rows.
    """
    return carried(np.add.reduceat(limbs.astype(np.int64), starts, axis=0))


def as_float(limbs: Limbs) -> NDArray[np.float64]:
    """Return the numbers as floats, to within two units of the last place."""
    is_negative = limbs[..., -1] >> np.uint32(_BITS - 1) == 1
    size = np.where(is_negative[..., None], carried(-limbs.astype(np.int64)), limbs)
    value = np.zeros(limbs.shape[:-1], np.float64)
    for place in reversed(range(limbs.shape[-1])):
        value = value * 2.0**_BITS + size[..., place]
    return np.where(is_negative, -value, value)


def as_int64(limbs: Limbs) -> tuple[Integers, NDArray[np.bool_]]:
    """Return the numbers as 64-bit integers, and whether each of them fits."""
    low = limbs[..., 0].astype(np.uint64) | limbs[..., 1].astype(np.uint64) << np.uint64(_BITS)
    values = low.view(np.int64)
    fits = (exact(values) == limbs).all(axis=-1)
    return values, fits
