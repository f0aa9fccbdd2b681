"""Laws of the contingency table: counts are exact, however a volume is cut, whatever its ids."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.base.errors import GeometryError, LabelError, OvertileError
from pipeline.evaluation.confusion import confusion
from pipeline.evaluation.contingency import ContingencyTable, RunningTotal, count_pairs

relaxed = settings(deadline=None)  # a busy machine is no broken law

IDS = np.array([0, 1, 2, 255, 2**53 + 1, 2**53 + 2, 2**64 - 1], np.uint64)
"""Neighbours that a float64 cannot tell apart, and the largest that there is."""


@st.composite
def id_pairs(draw):
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=7))
    labels = hnp.arrays(np.intp, shape, elements=st.integers(0, len(IDS) - 1))
    return IDS[draw(labels)], IDS[draw(labels)]


def counted(table):
    rows = zip(
        table.truth_ids.tolist(), table.predicted_ids.tolist(), table.counts.tolist(), strict=True
    )
    return [((truth, predicted), count) for truth, predicted, count in rows]


@relaxed
@given(id_pairs())
def test_every_pair_of_ids_is_counted_once_and_rows_are_sorted(pair):
    truth, prediction = pair
    expected = Counter(zip(truth.ravel().tolist(), prediction.ravel().tolist(), strict=True))
    table = count_pairs(truth, prediction)
    assert counted(table) == sorted(expected.items())
    assert table.voxels == truth.size


@relaxed
@given(id_pairs(), st.lists(st.integers(0, 6), max_size=5), st.randoms())
def test_sums_over_parts_equal_the_whole_in_any_order(pair, cuts, random):
    truth, prediction = (labels.ravel() for labels in pair)
    parts = [
        count_pairs(t, p)
        for t, p in zip(np.split(truth, sorted(cuts)), np.split(prediction, sorted(cuts)),
                        strict=True)
    ]  # fmt: skip
    random.shuffle(parts)
    whole = count_pairs(*pair)
    total = RunningTotal()
    for part in parts:
        total.add(part)
    assert sum(parts, start=ContingencyTable.empty()) == whole
    assert ContingencyTable.total(parts) == whole
    assert total.table() == whole


def test_a_running_total_that_merges_on_its_way_loses_nothing():
    random = np.random.default_rng(0)
    pairs = [random.integers(0, 500, (2, 4000)) for _ in range(12)]
    total = RunningTotal()
    for truth, prediction in pairs:
        total.add(count_pairs(truth, prediction))
    assert total.table() == count_pairs(*np.concatenate(pairs, axis=1))
    assert total.table().voxels == 48000


@relaxed
@given(id_pairs(), st.sampled_from([-1, *IDS.tolist()]))
def test_what_the_truth_ignores_counts_nowhere(pair, ignore):
    truth, prediction = pair
    kept = truth != ignore
    assert count_pairs(truth, prediction, ignore=ignore) == count_pairs(
        truth[kept], prediction[kept]
    )


@relaxed
@given(id_pairs())
def test_foreground_drops_the_truths_background_and_objects_drops_both(pair):
    truth, prediction = pair
    table = count_pairs(truth, prediction)
    kept = truth != 0
    assert table.foreground() == count_pairs(truth[kept], prediction[kept])
    kept &= prediction != 0
    assert table.objects() == count_pairs(truth[kept], prediction[kept])


@relaxed
@given(id_pairs())
def test_sizes_and_matrix_hold_the_same_counts(pair):
    table = count_pairs(*pair)
    matrix = table.matrix().toarray()
    for labels, (ids, sizes), sums in (
        (pair[0], table.truth_sizes, matrix.sum(axis=1)),
        (pair[1], table.predicted_sizes, matrix.sum(axis=0)),
    ):
        found, counts = np.unique(labels, return_counts=True)
        assert np.array_equal(ids, found)
        assert np.array_equal(sizes, counts)
        assert np.array_equal(sums, counts)


@relaxed
@given(hnp.arrays(np.uint8, (2, 5, 6), elements=st.integers(0, 3)))
def test_its_confusion_matrix_is_the_one_of_classes(pair):
    table = count_pairs(*pair)
    assert table.confusion() == confusion(*pair, classes=int(pair.max()) + 1)


def test_ids_of_objects_are_no_classes():
    with pytest.raises(LabelError, match=r"label 256 is not a class.*--objects ids"):
        count_pairs(np.array([0, 256]), np.array([0, 1])).confusion()


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8, ">i4", np.uint64])
def test_every_integer_type_counts_the_same(dtype):
    truth, prediction = np.array([[0, 1], [1, 1]]), np.array([[0, 1], [0, 1]])
    table = count_pairs(truth.astype(dtype), prediction.astype(dtype))
    assert counted(table) == [((0, 0), 1), ((1, 0), 1), ((1, 1), 2)]


@pytest.mark.parametrize(
    ("truth", "prediction", "error", "words"),
    [
        (np.zeros((2, 3), int), np.zeros((3, 2), int), GeometryError, r"\(2, 3\).*\(3, 2\)"),
        (np.zeros(3), np.zeros(3, int), LabelError, "the truth is float64"),
        (np.zeros(3, int), np.zeros(3), LabelError, "the prediction is float64"),
        (np.array([0, -7]), np.zeros(2, int), LabelError, "the truth has the label -7.*--ignore"),
        (np.zeros(2, int), np.array([0, -1]), LabelError, "the prediction has the label -1"),
    ],
)
def test_arrays_that_are_no_labels_are_refused_by_name(truth, prediction, error, words):
    with pytest.raises(error, match=words) as caught:
        count_pairs(truth, prediction)
    assert isinstance(caught.value, OvertileError)
