"""Laws of the weight map: the paper's formula, against all distances computed one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.base.errors import LabelError
from unet.samples.rules.rule import IGNORED
from unet.samples.weight_map import border_weights, class_weights, weight_map


def by_brute_force(
    objects: np.ndarray, *, w0: float, sigma: float, spacing: tuple[float, ...]
) -> np.ndarray:
    """Return the formula's weights from the distance of every voxel to every other."""
    places = np.argwhere(np.ones(objects.shape)) * np.array(spacing) / min(spacing)
    ids = objects.ravel()
    distances = [
        np.linalg.norm(places[:, None] - places[ids == one], axis=-1).min(axis=1)
        for one in np.unique(ids[ids > 0])
    ]
    if len(distances) < 2:
        return np.zeros(objects.shape)
    d1, d2 = np.sort(distances, axis=0)[:2]
    weights = w0 * np.exp(-((d1 + d2) ** 2) / (2 * sigma**2))
    weights[(ids > 0) | (d1 + d2 > 6 * sigma)] = 0
    return weights.reshape(objects.shape)


def scattered(shape: tuple[int, ...], *, ids: int, share: float, seed: int) -> np.ndarray:
    """Return voxels of many objects, mixed: every object may be anywhere."""
    draw = np.random.default_rng(seed)
    return np.where(draw.random(shape) < share, draw.integers(1, ids + 1, shape), 0)


@given(
    shape=st.sampled_from([(13, 17), (1, 9), (9, 1), (6, 7, 8), (1, 8, 9), (5, 1, 9), (2, 16, 3)]),
    spacing=st.sampled_from([None, (1.0, 1.0, 1.0), (40.0, 4.0, 4.0), (2.0, 0.7, 1.1)]),
    ids=st.integers(1, 5),
    share=st.sampled_from([0.0, 0.02, 0.1, 0.5]),
    sigma=st.sampled_from([0.5, 1.5, 5.0]),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=120, deadline=None)
def test_border_weights_are_the_formula_with_the_two_nearest_objects(
    shape: tuple[int, ...],
    spacing: tuple[float, ...] | None,
    ids: int,
    share: float,
    sigma: float,
    seed: int,
) -> None:
    objects = scattered(shape, ids=ids, share=share, seed=seed)
    steps = None if spacing is None else spacing[-len(shape) :]
    found = border_weights(objects, w0=10.0, sigma=sigma, spacing=steps)
    wanted = by_brute_force(objects, w0=10.0, sigma=sigma, spacing=steps or (1.0,) * len(shape))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("gap", [1, 2, 5])
def test_the_gap_between_two_cells_has_the_weight_of_the_paper(gap: int) -> None:
    objects = np.zeros((9, 20 + gap), int)
    objects[:, :10], objects[:, 10 + gap :] = 1, 2
    weights = border_weights(objects)
    assert weights[4, 10 : 10 + gap] == pytest.approx(10 * math.exp(-((gap + 1) ** 2) / 50))
    assert not weights[objects > 0].any()


@pytest.mark.parametrize("ids", [(7, 7), (2**40, 2**40 + 2**32), (2**31 - 1, 2**31)])
def test_objects_are_distinguished_by_their_whole_id(ids: tuple[int, int]) -> None:
    """One object in two pieces; ids that differ in their high bits only."""
    objects = np.array([[ids[0], 0, ids[1]]])
    assert (border_weights(objects)[0, 1] > 0) == (ids[0] != ids[1])


def test_border_weights_refuse_negative_ids() -> None:
    with pytest.raises(LabelError, match="negative id -1: expected ids from 0 on"):
        border_weights(np.array([[-1, 0]]))


@given(counts=st.lists(st.integers(0, 10**9), min_size=1, max_size=6))
def test_class_weights_give_every_class_the_same_total_and_voxels_a_mean_of_one(
    counts: list[int],
) -> None:
    weights = class_weights(counts)
    totals = [count * weight for count, weight in zip(counts, weights, strict=True) if count]
    assert totals == pytest.approx([sum(counts) / max(len(totals), 1)] * len(totals))
    assert all(w == 1 for count, w in zip(counts, weights, strict=True) if not count)


def test_class_weights_are_inverse_frequencies_of_the_classes_that_occur() -> None:
    assert class_weights((0, 3, 9)) == pytest.approx((1, 2, 2 / 3))


def test_the_weight_map_adds_class_and_border_weights_and_is_zero_where_ignored() -> None:
    objects = scattered((3, 12, 14), ids=4, share=0.2, seed=0)
    classes = (objects > 0).astype(int)
    classes[:, 3:6, 2:9] = IGNORED
    found = weight_map(classes, objects, class_weights=(0.5, 2.0), w0=7.0, sigma=2.0, dims=3)
    border = border_weights(objects, w0=7.0, sigma=2.0)
    wanted = np.where(classes == 1, 2.0, 0.5) + border
    np.testing.assert_allclose(found, np.where(classes == IGNORED, 0, wanted), rtol=1e-6)
    assert found.dtype == np.float32


def test_in_2d_the_slices_of_a_stack_are_independent() -> None:
    objects = scattered((4, 12, 14), ids=4, share=0.1, seed=1)
    classes = (objects > 0).astype(int)
    kind = {"class_weights": (1.0, 1.0), "sigma": 3.0, "spacing": (2.0, 1.0), "dims": 2}
    found = weight_map(classes, objects, **kind)
    for z in range(4):
        np.testing.assert_array_equal(found[z], weight_map(classes[z], objects[z], **kind))
    assert found.max() > 1


def test_without_objects_only_class_weights_count() -> None:
    classes = np.array([[[0, 1, IGNORED]]])
    found = weight_map(classes, None, class_weights=(0.25, 4.0), dims=3)
    assert found.tolist() == [[[0.25, 4.0, 0.0]]]


def test_a_class_without_a_weight_is_refused_in_one_line() -> None:
    with pytest.raises(LabelError, match=r"^labels have class 2, the network has 2 classes: "):
        weight_map(np.array([[2]]), None, class_weights=(1, 1), dims=2)
