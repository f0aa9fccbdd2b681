"""Laws of objects out of scores, and of scores against thresholds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.measure import label

from pipeline.base.choices import DEFAULT_THRESHOLDS
from pipeline.base.errors import VolumeError
from pipeline.evaluation.confusion import confusion
from pipeline.evaluation.contingency import count_pairs
from pipeline.evaluation.objects import components, seeded_watershed
from pipeline.evaluation.thresholds import as_scores, confusion_at, count_scores

relaxed = settings(deadline=None)  # a busy machine is no broken law


@relaxed
@given(hnp.arrays(bool, hnp.array_shapes(min_dims=1, max_dims=3, max_side=7)))
def test_components_are_scikit_images_over_faces(mask):
    labels, count = components(mask)
    theirs, their_count = label(mask, connectivity=1, return_num=True)
    assert count == their_count
    assert len(count_pairs(labels, theirs).counts) == len(np.unique(theirs))
    assert ((labels == 0) == ~mask).all()


def two_cells(*, hole):
    """Return the boundary score of two cells of 20 by 20, with a hole in the wall between them."""
    score = np.zeros((20, 41), np.float32)
    score[:, 19:22] = 0.9
    score[:, 20] = 1.0
    score[9 : 9 + hole, 19:22] = 0.2
    return score


def test_a_border_is_thinned_to_nothing_along_its_ridge():
    labels = seeded_watershed(two_cells(hole=0), threshold=0.5)
    assert len(np.unique(labels)) == 2
    assert (labels[:, :20] == labels[0, 0]).all()
    assert (labels[:, 21:] == labels[0, -1]).all()


@pytest.mark.parametrize(("distance", "objects"), [(0, 1), (0.9, 1), (3, 2)])
def test_seeds_deep_inside_separate_cells_whose_wall_has_a_hole(distance, objects):
    labels = seeded_watershed(two_cells(hole=3), threshold=0.5, seed_distance=distance)
    assert len(np.unique(labels)) == objects
    assert labels.min() == 1


def test_the_distance_is_in_voxels_of_the_spacing():
    score = np.stack([two_cells(hole=3)] * 3)
    flat = seeded_watershed(score, threshold=0.5, seed_distance=3, spacing=(40, 1, 1))
    fine = seeded_watershed(score, threshold=0.5, seed_distance=3, spacing=(40, 4, 4))
    assert len(np.unique(flat)) == 2
    assert len(np.unique(fine)) == 1


def test_small_seeds_make_no_object():
    score = two_cells(hole=0)
    score[4:7, 4:7] = 0.8
    score[5, 5] = 0.1
    assert len(np.unique(seeded_watershed(score, threshold=0.5))) == 3
    assert len(np.unique(seeded_watershed(score, threshold=0.5, seed_voxels=2))) == 2


@pytest.mark.parametrize("distance", [0, 2])
def test_a_score_without_boundary_is_one_object_and_one_of_boundary_only_is_none(distance):
    options = {"threshold": 0.5, "seed_distance": distance}
    for shape in ((1, 1), (2, 3), (5, 6)):
        assert (seeded_watershed(np.zeros(shape, np.float32), **options) == 1).all()
        assert (seeded_watershed(np.ones(shape, np.float32), **options) == 0).all()


@st.composite
def scored(draw):
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=6))
    stored = draw(hnp.arrays(np.uint8, shape))
    return draw(hnp.arrays(bool, shape)), as_scores(stored, where="here")


@relaxed
@given(scored(), st.lists(st.integers(1, 20), min_size=1, max_size=5, unique=True))
def test_one_pass_over_all_thresholds_counts_what_each_would_count_alone(case, twentieths):
    truth, scores = case
    thresholds = [0.05 * n for n in sorted(twentieths)]
    found = confusion_at(count_scores(truth, scores, thresholds=thresholds))
    assert found == tuple(
        confusion(truth, scores >= threshold, classes=2) for threshold in thresholds
    )


def test_a_score_that_equals_a_threshold_reaches_it():
    scores = as_scores(np.array([50, 51, 52], np.uint8), where="here")  # 51 / 255 is 0.2
    counts = count_scores(np.array([True, True, True]), scores, thresholds=(0.2,))
    assert counts.tolist() == [[0, 0], [1, 2]]


@relaxed
@given(scored(), st.integers(0, 200))
def test_counts_of_parts_add_up(case, cut):
    truth, scores = (array.ravel() for array in case)
    options = {"thresholds": DEFAULT_THRESHOLDS}
    parts = [count_scores(truth[part], scores[part], **options)
             for part in (slice(0, cut), slice(cut, None))]  # fmt: skip
    assert np.array_equal(sum(parts), count_scores(truth, scores, **options))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32, np.float64])
def test_scores_of_every_stored_type_are_from_0_to_1(dtype):
    largest = np.iinfo(dtype).max if np.dtype(dtype).kind == "u" else 1
    scores = as_scores(np.array([0, largest], dtype), where="here")
    assert scores.dtype == np.float32
    assert scores.tolist() == [0, 1]


@pytest.mark.parametrize(
    "stored",
    [np.array([0, 1.5]), np.array([-0.1, 0.5], np.float32), np.array([0, np.nan]),
     np.array([0, 1], np.int16)],
)  # fmt: skip
def test_values_that_are_no_scores_are_refused(stored):
    with pytest.raises(VolumeError, match=r"here holds .*expected scores as floats from 0 to 1"):
        as_scores(stored, where="here")


def test_scores_that_are_no_numbers_are_counted():
    stored = np.array([0.5, np.nan, np.inf, np.nan], np.float32)
    with pytest.raises(VolumeError, match=r"here holds float32, and 3 of 4 values .* are NaN or"):
        as_scores(stored, where="here")
