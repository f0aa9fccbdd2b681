"""Laws of the figures of objects: scikit-image's where it has one, else their definition."""

import itertools
import math
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import linear_sum_assignment
from skimage.metrics import adapted_rand_error, variation_of_information

from pipeline.base.errors import LabelError
from pipeline.evaluation.contingency import count_pairs
from pipeline.evaluation.matching import IOU_THRESHOLDS, match_objects
from pipeline.evaluation.object_metrics import ObjectFigures, mean_figures, object_figures

relaxed = settings(deadline=None)  # a busy machine is no broken law


@st.composite
def object_pairs(draw, *, largest=4, side=7):
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=2, max_side=side))
    labels = hnp.arrays(np.int64, shape, elements=st.integers(0, largest))
    truth, prediction = draw(labels), draw(labels)
    if draw(st.booleans()):  # mostly right, as a prediction is
        prediction = np.where(draw(labels) > 0, truth, prediction)
    assume((truth > 0).any())
    return truth, prediction


def figures_of(truth, prediction):
    return object_figures(count_pairs(truth, prediction))


@relaxed
@given(object_pairs())
def test_the_adapted_rand_error_is_scikit_images_of_the_whole_arrays(pair):
    with np.errstate(invalid="ignore", divide="ignore"):
        error, *_ = adapted_rand_error(*pair)  # it ignores the truth's 0 by itself
    figure = figures_of(*pair).adapted_rand_error
    assert figure == (pytest.approx(error, abs=1e-12) if not math.isnan(error) else 0.0)


@relaxed
@given(object_pairs(side=4))
def test_rand_precision_and_recall_are_parts_of_pairs_of_voxels(pair):
    truth, prediction = (labels[pair[0] > 0].tolist() for labels in pair)
    pairs = list(itertools.combinations(range(len(truth)), 2))
    in_truth = {(a, b) for a, b in pairs if truth[a] == truth[b]}
    in_prediction = {(a, b) for a, b in pairs if prediction[a] == prediction[b]}
    both = len(in_truth & in_prediction)
    figures = figures_of(*pair)
    assert figures.rand_precision == pytest.approx(
        both / len(in_prediction) if in_prediction else 1
    )
    assert figures.rand_recall == pytest.approx(both / len(in_truth) if in_truth else 1)


@relaxed
@given(object_pairs())
def test_the_variation_of_information_is_scikit_images_of_the_whole_arrays(pair):
    split, merge = variation_of_information(*pair, ignore_labels=(0,))
    figures = figures_of(*pair)
    assert (figures.voi_split, figures.voi_merge) == pytest.approx((split, merge), abs=1e-9)
    assert figures.voi == pytest.approx(split + merge, abs=1e-9)


def alone(truth, prediction):
    """The challenge's view: no true background, and voxels of no predicted object stand alone."""
    kept = truth > 0
    truth, prediction = truth[kept], prediction[kept].copy()
    nothing = prediction == 0
    prediction[nothing] = 1000 + np.arange(nothing.sum())
    return truth, prediction


def parts_of(*labels):
    stacked = np.stack(labels)
    _, counts = np.unique(stacked, axis=1, return_counts=True)
    return counts / stacked.shape[1]


@relaxed
@given(object_pairs())
def test_v_rand_is_its_definition_with_unsegmented_voxels_alone(pair):
    truth, prediction = alone(*pair)
    both, of_truth, of_prediction = (
        float((parts_of(*labels) ** 2).sum())
        for labels in ((truth, prediction), (truth,), (prediction,))
    )
    figures = figures_of(*pair)
    assert figures.v_rand == pytest.approx(both / (0.5 * of_truth + 0.5 * of_prediction))
    assert figures.v_rand_split == pytest.approx(both / of_truth)
    assert figures.v_rand_merge == pytest.approx(both / of_prediction)


def entropy(*labels):
    parts = parts_of(*labels)
    return float(-(parts * np.log2(parts)).sum())


@relaxed
@given(object_pairs())
def test_v_info_is_its_definition_with_unsegmented_voxels_alone(pair):
    truth, prediction = alone(*pair)
    h_truth, h_prediction = entropy(truth), entropy(prediction)
    shared = h_truth + h_prediction - entropy(truth, prediction)
    figures = figures_of(*pair)

    def ratio(part, whole):
        return part / whole if whole > 1e-9 else 1.0

    assert figures.v_info == pytest.approx(ratio(2 * shared, h_truth + h_prediction), abs=1e-6)
    assert figures.v_info_split == pytest.approx(ratio(shared, h_prediction), abs=1e-6)
    assert figures.v_info_merge == pytest.approx(ratio(shared, h_truth), abs=1e-6)


@relaxed
@given(object_pairs())
def test_the_truth_against_itself_is_perfect(pair):
    figures = figures_of(pair[0], pair[0])
    assert figures.adapted_rand_error == pytest.approx(0, abs=1e-12)
    assert figures.voi == pytest.approx(0, abs=1e-12)
    ones = (figures.v_rand, figures.v_rand_split, figures.v_rand_merge, figures.v_info,
            figures.v_info_split, figures.v_info_merge, figures.rand_precision,
            figures.rand_recall)  # fmt: skip
    assert ones == pytest.approx((1,) * 8)
    assert {(m.precision, m.recall, m.f1) for m in figures.matches} == {(1.0, 1.0, 1.0)}


@relaxed
@given(object_pairs(), st.permutations(range(1, 5)))
def test_no_figure_depends_on_what_objects_are_called(pair, names):
    truth, prediction = pair
    renamed = np.array([0, *names])[prediction] * 2**40
    before, after = figures_of(truth, prediction), figures_of(truth, renamed)
    for one, other in zip(astuple(before)[:-1], astuple(after)[:-1], strict=True):
        assert one == pytest.approx(other, abs=1e-9)
    assert before.matches == after.matches


def test_a_cut_through_an_object_is_a_split_and_a_missing_border_a_merge():
    truth = np.repeat([[1, 2]], 4, axis=0)
    split = figures_of(truth, np.arange(8).reshape(4, 2) + 1)
    merge = figures_of(truth, np.ones_like(truth))
    assert (split.voi_split, split.voi_merge) == pytest.approx((2, 0))
    assert (merge.voi_split, merge.voi_merge) == pytest.approx((0, 1))
    assert split.v_rand_split == pytest.approx(1 / 4)
    assert split.v_rand_merge == 1
    assert merge.v_rand_split == 1
    assert merge.v_rand_merge == pytest.approx(1 / 2)
    assert split.v_info_merge == pytest.approx(1)
    assert merge.v_info_merge == pytest.approx(0)


def test_voxels_of_no_predicted_object_are_one_segment_for_rand_and_alone_for_v_rand():
    truth = np.array([1, 1, 1, 1, 2, 2, 2, 2])
    prediction = np.array([5, 5, 5, 0, 0, 6, 6, 6])
    figures = figures_of(truth, prediction)
    assert figures.rand_precision == pytest.approx(6 / 7)  # the two 0 are a wrong pair
    assert figures.v_rand_merge == 1.0


def matched_by_assignment(truth, prediction, threshold):
    """Return the largest number of one-to-one partners, by another algorithm."""
    true, predicted = (np.unique(labels[labels > 0]) for labels in (truth, prediction))
    iou = np.array(
        [
            [
                ((truth == t) & (prediction == p)).sum() / ((truth == t) | (prediction == p)).sum()
                for p in predicted
            ]
            for t in true
        ]
    ).reshape(len(true), len(predicted))
    rows, columns = linear_sum_assignment(iou >= threshold, maximize=True)
    return int((iou >= threshold)[rows, columns].sum()), len(true), len(predicted)


@relaxed
@given(object_pairs())
def test_matches_are_the_most_partners_that_there_can_be(pair):
    for match in match_objects(count_pairs(*pair)):
        found, true, predicted = matched_by_assignment(*pair, match.iou)
        assert match.true_positives == found
        assert match.precision == (found / predicted if predicted else 0.0)
        assert match.recall == found / true
        assert match.f1 == pytest.approx(2 * found / (true + predicted))


def test_two_halves_of_an_object_are_one_match_at_an_iou_of_exactly_one_half():
    half, *_, strict = match_objects(count_pairs(np.array([1, 1, 1, 1]), np.array([1, 1, 2, 2])))
    assert (half.iou, half.true_positives, half.precision, half.recall) == (0.5, 1, 0.5, 1.0)
    assert (strict.iou, strict.true_positives) == (0.95, 0)


def test_an_object_in_the_truths_background_is_a_false_one():
    truth, prediction = np.array([1, 1, 0, 0, 0]), np.array([1, 1, 0, 2, 2])
    first, *_ = match_objects(count_pairs(truth, prediction))
    assert (first.precision, first.recall) == (0.5, 1.0)


def test_ious_go_from_one_half_in_steps_of_a_twentieth():
    assert IOU_THRESHOLDS == (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


@relaxed
@given(object_pairs(), object_pairs())
def test_means_over_slices_are_means_and_counts_are_sums(one, other):
    parts = [figures_of(*one), figures_of(*other)]
    mean = mean_figures(parts)
    for name in ObjectFigures.__dataclass_fields__:
        values = [getattr(part, name) for part in parts]
        if name == "matches":
            assert mean.matches[3].f1 == pytest.approx((values[0][3].f1 + values[1][3].f1) / 2)
        elif name.endswith("_objects"):
            assert getattr(mean, name) == sum(values)
        else:
            assert getattr(mean, name) == pytest.approx(sum(values) / 2)


@relaxed
@given(object_pairs())
def test_every_figure_is_a_finite_number(pair):
    for prediction in (
        pair[1],
        np.zeros_like(pair[0]),
        np.arange(pair[0].size).reshape(pair[0].shape),
    ):
        *figures, matches = astuple(figures_of(pair[0], prediction))
        assert all(math.isfinite(figure) for figure in figures)
        assert all(0 <= part <= 1 for match in matches for part in match[2:])


@pytest.mark.parametrize("truth", [np.zeros((3, 3), int), np.zeros(0, int)])
def test_a_truth_without_objects_is_refused(truth):
    with pytest.raises(LabelError, match="no object"):
        figures_of(truth, truth)
