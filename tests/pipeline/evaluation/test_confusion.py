"""Laws of the figures: blocks add up to the whole, known cases come out, nothing is NaN."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.base.errors import GeometryError, OvertileError, VolumeError
from pipeline.evaluation.confusion import ConfusionMatrix, confusion

CLASSES = 3
shapes = hnp.array_shapes(min_dims=1, max_dims=3, max_side=7)


@st.composite
def label_pairs(draw):
    shape = draw(shapes)
    labels = hnp.arrays(np.uint8, shape, elements=st.integers(0, CLASSES - 1))
    return draw(labels), draw(labels)


def blocks_of(shape, core):
    return itertools.product(
        *[
            [slice(a, a + step) for a in range(0, size, step)]
            for size, step in zip(shape, core, strict=True)
        ]
    )


@given(label_pairs(), st.lists(st.integers(1, 4), min_size=3, max_size=3), st.randoms())
def test_sums_over_blocks_equal_the_whole_in_any_order(pair, core, random):
    truth, prediction = pair
    blocks = list(blocks_of(truth.shape, core[: truth.ndim]))
    random.shuffle(blocks)

    parts = [confusion(truth[b], prediction[b], classes=CLASSES) for b in blocks]

    whole = confusion(truth, prediction, classes=CLASSES)
    assert sum(parts, start=ConfusionMatrix.empty(classes=CLASSES)) == whole
    assert whole.voxels == truth.size


@given(label_pairs())
def test_figures_equal_their_definition_on_sets_of_voxels(pair):
    truth, prediction = pair
    matrix = confusion(truth, prediction, classes=CLASSES)
    for c in range(CLASSES):
        t, p = set(np.flatnonzero(truth == c)), set(np.flatnonzero(prediction == c))
        if t and p:
            assert matrix.iou[c] == len(t & p) / len(t | p)
            assert matrix.dice[c] == 2 * len(t & p) / (len(t) + len(p))
            assert matrix.precision[c] == len(t & p) / len(p)
            assert matrix.recall[c] == len(t & p) / len(t)
    assert matrix.pixel_error == np.mean(truth != prediction)
    assert matrix.accuracy + matrix.pixel_error == pytest.approx(1.0)


@given(label_pairs())
def test_every_figure_is_a_number_from_0_to_1(pair):
    matrix = confusion(*pair, classes=CLASSES + 1)  # the last class is in neither
    figures = (*matrix.iou, *matrix.dice, *matrix.precision, *matrix.recall)
    totals = (matrix.mean_iou, matrix.accuracy, matrix.pixel_error)
    assert all(math.isfinite(f) and 0 <= f <= 1 for f in (*figures, *totals))


@given(label_pairs())
def test_swapping_truth_and_prediction_swaps_precision_and_recall(pair):
    truth, prediction = pair
    matrix = confusion(truth, prediction, classes=CLASSES)
    swapped = confusion(prediction, truth, classes=CLASSES)
    assert matrix.precision == swapped.recall
    assert matrix.iou == swapped.iou
    assert matrix.dice == swapped.dice


def test_a_class_in_neither_is_perfect_and_one_in_only_one_of_them_scores_nothing():
    zeros, ones = np.zeros((4, 5), np.uint8), np.ones((4, 5), np.uint8)
    matrix = confusion(zeros, ones, classes=3)
    for figure in (matrix.iou, matrix.dice, matrix.precision, matrix.recall):
        assert figure == (0.0, 0.0, 1.0)
    assert matrix.mean_iou == 0.0


def test_no_voxel_is_no_error():
    nothing = ConfusionMatrix.empty(classes=2)
    assert nothing.iou == nothing.dice == nothing.precision == nothing.recall == (1.0, 1.0)
    assert (nothing.accuracy, nothing.pixel_error, nothing.mean_iou) == (1.0, 0.0, 1.0)


@given(label_pairs(), st.sampled_from([0, CLASSES - 1, 255]))
def test_what_the_truth_ignores_counts_nowhere_whatever_is_predicted_there(pair, ignore):
    truth, prediction = pair
    truth = np.where(truth == 1, ignore, truth)
    kept = truth != ignore
    disturbed = np.where(kept, prediction, 77)
    matrix = confusion(truth, disturbed, classes=CLASSES, ignore=ignore)
    assert matrix == confusion(truth[kept], prediction[kept], classes=CLASSES)


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8, np.int32, np.uint64, np.int64])
def test_every_integer_type_counts_the_same(dtype):
    truth, prediction = np.array([[0, 1], [1, 1]]), np.array([[0, 1], [0, 1]])
    matrix = confusion(truth.astype(dtype), prediction.astype(dtype), classes=2)
    assert matrix.counts == ((1, 0), (1, 2))


def test_counts_do_not_overflow_however_many_volumes_are_added():
    matrix = ConfusionMatrix(counts=((2**62, 0), (1, 2**62)))
    many = matrix + matrix + matrix
    assert many.voxels == 3 * 2**63 + 3
    assert many.iou == matrix.iou


@pytest.mark.parametrize(
    ("truth", "prediction", "error", "words"),
    [
        (np.zeros((2, 3), int), np.zeros((3, 2), int), GeometryError, r"\(2, 3\).*\(3, 2\)"),
        (np.zeros(3), np.zeros(3, int), VolumeError, "truth is float64"),
        (np.zeros(3, int), np.zeros(3), VolumeError, "prediction is float64"),
        (np.array([0, 255]), np.zeros(2, int), VolumeError, "truth has classes 0 to 255"),
        (np.zeros(2, int), np.array([-1, 0]), VolumeError, "prediction has classes -1 to 0"),
    ],
)
def test_labels_that_are_no_classes_are_refused_by_name(truth, prediction, error, words):
    with pytest.raises(error, match=words) as caught:
        confusion(truth, prediction, classes=2)
    assert isinstance(caught.value, OvertileError)


@pytest.mark.parametrize("counts", [(), ((1, 2),), ((1, 2), (3,)), ((1, -1), (0, 0))])
def test_a_matrix_that_cannot_be_is_refused(counts):
    with pytest.raises(GeometryError):
        ConfusionMatrix(counts=counts)


def test_matrices_of_different_classes_do_not_add():
    with pytest.raises(GeometryError, match="2 and 3 classes"):
        ConfusionMatrix.empty(classes=2) + ConfusionMatrix.empty(classes=3)
