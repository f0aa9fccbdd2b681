"""Laws of the exact sums: they are those of Python's integers, modulo their size."""

from math import inf, isclose

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.objects.table.exact import (
    as_float,
    as_int64,
    carried,
    exact,
    minus,
    plus,
    sums_of_groups,
    times,
)

SIZE = 2**128
whole_64 = st.integers(-(2**63), 2**63 - 1)
whole_128 = st.integers(-(2**127), 2**127 - 1)
lists_of_128 = st.lists(whole_128, min_size=1, max_size=5)


def limbs_of(values):
    """Return Python integers as limbs, by Python's own arithmetic."""
    digits = [
        [(value % SIZE) >> 32 * place & (2**32 - 1) for place in range(4)] for value in values
    ]
    return np.array(digits, np.uint32)


def integers_of(limbs):
    values = [sum(int(limb) << 32 * place for place, limb in enumerate(row)) for row in limbs]
    return [value - SIZE if value >= SIZE // 2 else value for value in values]


def wrapped(value):
    return (value + SIZE // 2) % SIZE - SIZE // 2


@given(st.lists(whole_64, min_size=1))
def test_64_bit_integers_become_limbs_and_come_back(values):
    assert integers_of(exact(values)) == values
    returned, fits = as_int64(exact(values))
    assert returned.tolist() == values
    assert fits.all()


@given(lists_of_128)
def test_an_integer_that_does_not_fit_64_bits_is_noticed(values):
    _, fits = as_int64(limbs_of(values))
    assert fits.tolist() == [-(2**63) <= value < 2**63 for value in values]


@given(st.lists(st.tuples(whole_128, whole_128), min_size=1), st.integers(0, 2**32 - 1))
def test_sums_differences_and_products_are_those_of_integers(pairs, factor):
    ones, others = (list(values) for values in zip(*pairs, strict=True))
    a, b = limbs_of(ones), limbs_of(others)
    assert integers_of(plus(a, b)) == [wrapped(x + y) for x, y in pairs]
    assert integers_of(minus(a, b)) == [wrapped(x - y) for x, y in pairs]
    assert integers_of(times(a, factor)) == [wrapped(x * factor) for x in ones]
    many = np.arange(len(ones)) * 1_000_003
    assert integers_of(times(a, many)) == [
        wrapped(x * k) for x, k in zip(ones, many.tolist(), strict=True)
    ]


@given(lists_of_128, st.data())
def test_sums_of_groups_are_those_of_integers(values, data):
    cuts = data.draw(st.sets(st.integers(1, len(values)), max_size=3)) - {len(values)}
    starts = sorted({0, *cuts})
    groups = [values[a:b] for a, b in zip(starts, [*starts[1:], len(values)], strict=True)]
    found = sums_of_groups(limbs_of(values), np.array(starts))
    assert integers_of(found) == [wrapped(sum(group)) for group in groups]


@given(st.lists(st.integers(-(2**62), 2**62), min_size=4, max_size=4))
def test_digits_of_any_sign_are_carried(digits):
    value = sum(digit << 32 * place for place, digit in enumerate(digits))
    assert integers_of(carried(np.array([digits], np.int64))) == [wrapped(value)]


@given(lists_of_128)
def test_floats_are_the_integers_to_two_units_of_the_last_place(values):
    for found, value in zip(as_float(limbs_of(values)).tolist(), values, strict=True):
        assert abs(found) < inf
        assert isclose(found, value, rel_tol=2**-51)
