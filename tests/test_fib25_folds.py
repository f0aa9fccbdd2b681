"""The cross-validation of bodies: its places, its choice of options, its figures."""

from __future__ import annotations

import json
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.body_scores import SMALL, bodies, by_majority, figures, majority, of_most
from benchmarks.fib25_folds import KEYS, PLACES, box_of, chosen, summary

sides = st.integers(4, 31)


@given(shape=st.tuples(sides, sides, sides))
def test_places_are_separate_and_make_up_the_volume(shape: tuple[int, int, int]) -> None:
    times = np.zeros(shape, int)
    for place in PLACES:
        times[box_of(place, shape)] += 1
    assert (times == 1).all()


def found_at(voi: dict[str, float]) -> dict[str, Any]:
    """Return figures of a place where each candidate has this variation of information, or 9."""
    errors = {"adapted_rand_error": 0.5, "voi_split": 0.0, "voi_merge": 0.0}
    return {
        "of": {key: {**errors, "voi": voi.get(key, 9.0), "basins_by_majority": {}} for key in KEYS},
        "bodies": 3,
    }


def test_the_options_of_a_place_do_not_depend_on_its_own_figures() -> None:
    first, second = KEYS[1], KEYS[2]
    places = {name: found_at({first: 1.0, second: 2.0}) for name in PLACES}
    for name in PLACES:
        places_but = {**places, name: found_at({second: 0.0})}
        assert chosen(places_but, but=name) == first
        assert chosen({**places, name: found_at({second: -9.0})}, but=None) == second


def test_means_leave_out_the_place_on_which_the_recipe_was_chosen() -> None:
    places = {name: found_at({KEYS[1]: float(n)}) for n, name in enumerate(PLACES)}
    found = summary(places)
    assert found["means without low-z-low-y"]["voi"] == 2.0
    assert found["options of all places"] == json.loads(KEYS[1])


@pytest.mark.parametrize("one", PLACES)
def test_a_candidate_without_figures_is_an_error(one: str) -> None:
    places = {name: found_at({}) for name in PLACES}
    del places[one]["of"][KEYS[3]]
    with pytest.raises(KeyError):
        summary(places)


TRUTH = np.array([1, 1, 1, 2, 2, 2, 2, 0])


def test_each_object_becomes_the_body_that_most_of_it_belongs_to() -> None:
    found = np.array([5, 5, 7, 7, 7, 9, 9, 9])
    assert majority(TRUTH, found).tolist() == [1, 1, 2, 2, 2, 2, 2, 2]


def test_objects_that_are_parts_of_bodies_have_no_error_by_majority() -> None:
    found = np.array([5, 6, 6, 7, 8, 9, 9, 3])
    assert by_majority(TRUTH, found)["voi"] == 0
    assert figures(TRUTH, found)["voi_merge"] == 0
    assert figures(TRUTH, found)["voi_split"] > 0.5


def test_figures_count_objects_where_the_truth_has_a_body() -> None:
    found = np.array([0, 5, 5, 5, 7, 7, 7, 8])
    counted = figures(TRUTH, found)
    assert counted["objects"] == 2
    assert counted["in_no_object"] == pytest.approx(1 / 7, abs=1e-4)
    assert counted["in_small_objects"] == pytest.approx(6 / 7, abs=1e-4)


def test_bodies_are_counted_by_size() -> None:
    truth = np.repeat([0, 1, 2, 3], [50, 9 * SMALL, SMALL, SMALL - 1])
    counted = bodies(truth)
    assert (counted["bodies"], counted["bodies_of_1000_voxels"]) == (3, 2)
    assert counted["bodies_of_90_percent"] == 2
    assert counted["largest_body"] == pytest.approx(9 / 11, abs=1e-3)
    assert 0 < counted["as_one"] < 0.5


@given(sizes=st.lists(st.integers(1, 99), min_size=1, max_size=6))
def test_the_fewest_that_have_most_of_the_voxels(sizes: list[int]) -> None:
    least = min(
        count
        for count in range(1, len(sizes) + 1)
        if any(sum(some) >= 0.9 * sum(sizes) for some in combinations(sizes, count))
    )
    assert of_most(np.array(sizes)) == least
