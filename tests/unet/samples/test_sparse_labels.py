"""Sparse labels: patches lie where something is known, each known voxel as often as any other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet import UNetConfig
from unet.recipe.augment_config import AugmentConfig
from unet.recipe.training_config import LabelConfig, TrainingConfig
from unet.samples.cells import (
    CELL,
    CELLS_PER_VOLUME,
    MOST_CELLS,
    SPARSE_CELLS,
    Cell,
    CellGrid,
)
from unet.samples.known_share import PATCHES, expected_known_shares, known_in
from unet.samples.known_tiles import known_tiles
from unet.samples.known_voxels import KEPT, packed, unpacked
from unet.samples.maker import SampleMaker
from unet.samples.sampling import PatchSampler, Place, Survey, survey

UNPAINTED = 255
LABELS = LabelConfig(ignore=UNPAINTED)


@dataclass(frozen=True)
class Stored:
    """Labels (z, y, x), mirrored past their edges by numpy; grey values are the labels."""

    labels: np.ndarray
    name: str = "stored"
    spacing_zyx: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @property
    def shape_zyx(self):
        return self.labels.shape

    def read_labels(self, start, stop):
        found = self.labels
        for axis, (a, b) in enumerate(zip(start, stop, strict=True)):
            size = found.shape[axis]
            index = np.abs((np.arange(a, b) + size - 1) % max(1, 2 * size - 2) - size + 1)
            found = np.take(found, index, axis=axis)
        return found

    def read_raw(self, start, stop):
        return self.read_labels(start, stop)[None].astype(np.float32)


def sparse(shape, *, share, seed):
    """Return classes 0 and 1 where a random mask of about this share is painted."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, shape).astype("u1")
    labels[rng.random(shape) >= share] = UNPAINTED
    labels[tuple(rng.integers(shape))] = 1
    return labels


def sampler_of(*volumes, core, dims=2, **options):
    surveys = tuple(survey(volume, LABELS, classes=2, dims=dims) for volume in volumes)
    return PatchSampler(
        shapes=tuple(volume.shape_zyx for volume in volumes), surveys=surveys, core=core,
        **{"seed": 0, **options},
    )  # fmt: skip


def place_of_dense_labels(shapes, surveys, core, seed, rare_share, step, number):
    """Return the place by the rule for dense labels alone, in its shortest form."""
    rng = np.random.default_rng([seed, step, number, 1])
    if rng.random() < rare_share:
        cells = [(volume, cell) for volume, one in enumerate(surveys) for cell in one.cells]
        counts = np.array([cell.counts for _, cell in cells], float)
        number_of_class = rng.choice(np.flatnonzero(counts.sum(axis=0)))
        column = counts[:, number_of_class]
        volume, cell = cells[rng.choice(len(cells), p=column / column.sum())]
        places = unpacked(cell.of_class[number_of_class], cell.shape)
        centre = places[rng.integers(len(places))] + cell.start
        return Place(volume, tuple(int(c) - n // 2 for c, n in zip(centre, core, strict=True)))
    voxels = np.array([float(np.prod(shape)) for shape in shapes])
    volume = int(rng.choice(len(shapes), p=voxels / voxels.sum()))
    sizes = zip(shapes[volume], core, strict=True)
    start = [rng.integers(-(n // 4), size - n + n // 4 + 1) for size, n in sizes]
    return Place(volume, tuple(map(int, start)))


@pytest.mark.parametrize("rare_share", [0.0, 0.5])
def test_dense_labels_are_drawn_as_if_nothing_could_be_unknown(rare_share):
    rng = np.random.default_rng(0)
    volumes = [Stored(rng.integers(0, 2, shape, "u1")) for shape in ((20, 40, 210), (20, 30, 280))]
    if not rare_share:
        volumes[0].labels[:, :15] = UNPAINTED  # less than half of one volume
    sampler = sampler_of(*volumes, core=(2, 9, 12), seed=2**31, rare_share=rare_share)
    for step, number in product((*range(100), 10**6), (0, 1, 30)):
        plain = place_of_dense_labels(
            sampler.shapes, sampler.surveys, sampler.core, 2**31, rare_share, step, number
        )
        assert sampler.place(step, number) == plain


def probabilities(labels, core):
    """Return the probability of every core by its definition, as {start: probability}."""
    known = np.argwhere(labels != UNPAINTED)
    found = {}
    for voxel in known:
        starts = []
        for at, size, n in zip(voxel, labels.shape, core, strict=True):
            possible = range(-(n // 4), size - n + n // 4 + 1)
            starts.append([start for start in possible if start <= at < start + n])
        share = 1 / (len(known) * np.prod([len(some) for some in starts]))
        for start in np.array(np.meshgrid(*starts, indexing="ij")).reshape(3, -1).T:
            key = tuple(int(n) for n in start)
            found[key] = found.get(key, 0.0) + share
    return found


@pytest.mark.parametrize(
    ("shape", "core", "share"), [((1, 12, 10), (1, 4, 3), 0.1), ((5, 8, 8), (2, 4, 8), 0.02)]
)
def test_cores_are_drawn_by_the_known_voxels_that_they_hold(shape, core, share):
    volume = Stored(sparse(shape, share=share, seed=3))
    sampler = sampler_of(volume, core=core)
    expected = probabilities(volume.labels, core)
    assert sum(expected.values()) == pytest.approx(1)
    draws = 5000
    starts, counts = np.unique(
        [sampler.place(step, 1).start for step in range(draws)], axis=0, return_counts=True
    )
    drawn = {tuple(map(int, start)): n / draws for start, n in zip(starts, counts, strict=True)}
    assert set(drawn) <= set(expected)
    distance = sum(abs(drawn.get(start, 0.0) - p) for start, p in expected.items()) / 2
    assert distance < 0.6 * np.sqrt(len(expected) / draws)


@given(seed=st.integers(0, 10**6), share=st.sampled_from([0.0, 0.002, 0.05, 0.4, 0.7]))
@settings(max_examples=25, deadline=None)
def test_every_patch_of_sparse_labels_has_a_known_voxel(seed, share):
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(1, 7)), int(rng.integers(20, 60)), int(rng.integers(20, 60)))
    volume = Stored(sparse(shape, share=share, seed=seed))
    rare = float(rng.choice([0.0, 0.5, 1.0]))
    sampler = sampler_of(volume, core=(1, 8, 8), seed=seed, rare_share=rare)
    maker = SampleMaker(
        volumes=(volume,),
        network=UNetConfig(dims=2, base_channels=2, levels=2),
        training=TrainingConfig(seed=seed, augment=AugmentConfig(elastic_sigma=1.0)),
        labels=LABELS,
        sampler=sampler,
        class_weights=(1.0, 1.0),
    )
    for step in range(3):
        place = sampler.place(step, 0)
        stop = np.add(place.start, sampler.core)
        if sampler.surveys[0].is_sparse:
            assert (volume.read_labels(place.start, stop) != UNPAINTED).any()
        assert maker.sample(step, 0)[2].any()


def test_a_patch_is_the_same_whenever_and_wherever_it_is_drawn():
    volume = Stored(sparse((3, 40, 40), share=0.001, seed=1))
    one, other = (sampler_of(volume, core=(1, 8, 8)) for _ in range(2))
    places = [one.place(step, number) for step in range(20) for number in range(3)]
    again = [other.place(step, number) for step in range(20)[::-1] for number in range(3)[::-1]]
    assert places == again[::-1]
    assert len({one.place(4, 1, attempt=attempt).start for attempt in range(6)}) > 1


def test_one_labelled_slice_of_many_is_the_only_one_that_is_learned():
    labels = np.full((24, 40, 40), UNPAINTED, "u1")
    labels[9] = np.arange(40) % 2
    sampler = sampler_of(Stored(labels), core=(1, 16, 16))
    assert sampler.surveys[0].known_share == pytest.approx(1 / 24)
    assert {sampler.place(step, 0).start[0] for step in range(300)} == {9}


def test_cells_are_drawn_by_their_known_voxels_whether_all_are_known_or_some():
    labels = np.full((1, 20, 600), UNPAINTED, "u1")
    labels[0, 5, 20:60] = 1
    labels[:, :, 512:] = 0  # a cell that is known as a whole: 20 x 88 voxels
    labels[0, :, 300:304] = 1
    sampler = sampler_of(Stored(labels), core=(1, 4, 4))
    assert len(sampler.surveys[0].cells) == 3
    cells = [sampler.place(step, 0).start[2] // 250 for step in range(2000)]
    expected = np.array([40, 80, 1760]) / 1880
    np.testing.assert_allclose(np.bincount(cells, minlength=3) / 2000, expected, atol=0.02)


def test_sparse_volumes_are_drawn_as_if_they_were_the_places_of_cores_with_known_voxels():
    dense, few = Stored(np.zeros((1, 30, 30), "u1")), np.full((4, 30, 30), UNPAINTED, "u1")
    few[2, 8:20] = 1  # 3 x 8 tiles of 16 voxels
    sampler = sampler_of(dense, Stored(few), core=(1, 4, 4))
    assert np.mean([sampler.place(step, 0).volume for step in range(3000)]) == pytest.approx(
        384 / 1284, abs=0.03
    )


def test_a_few_strokes_beside_labelled_slices_are_learned_from():
    """By their voxels, they would be one of 375 patches, and 1 / 250 of its loss."""
    slices = Stored(np.arange(24 * 250 * 250, dtype="u4").reshape(24, 250, 250) % 2)
    strokes = np.full((184, 250, 250), UNPAINTED, "u1")
    for number in range(35):
        z, y, x = 30 + 3 * number, 8 + 6 * number, 8 + 5 * number
        strokes[z, y : y + 12, x : x + 10] = number % 2
    core = (24, 44, 44)
    sampler = sampler_of(slices, Stored(strokes), core=core, dims=3)
    places = [sampler.place(step, 0) for step in range(400)]
    assert 0.2 < np.mean([place.volume for place in places]) < 0.7
    (of_slices, of_strokes) = expected_known_shares(sampler)
    assert of_slices == 1.0
    known = [
        (strokes[tuple(slice(max(0, a), a + n) for a, n in zip(place.start, core, strict=True))]
         != UNPAINTED).mean() for place in places if place.volume
    ]  # fmt: skip
    assert of_strokes == pytest.approx(np.mean(known), rel=0.25)


def test_weights_are_scaled_by_the_volume_of_a_patch():
    dense, few = Stored(np.zeros((1, 40, 40), "u1")), np.full((1, 40, 40), UNPAINTED, "u1")
    few[0, 10:14, 10:14] = 1
    volumes = (dense, Stored(few))
    sampler = sampler_of(*volumes, core=(1, 8, 8))
    settings_of = {
        "network": UNetConfig(dims=2, base_channels=2, levels=2),
        "training": TrainingConfig(augment=AugmentConfig(elastic_sigma=1.0), border_weight=0.0),
        "labels": LABELS, "sampler": sampler, "class_weights": (1.0, 1.0), "volumes": volumes,
    }  # fmt: skip
    maker = SampleMaker(**settings_of, weight_scales=(1.0, 7.0))
    found = {(sampler.place(step, 0).volume, *np.unique(maker.sample(step, 0)[2]).tolist())
             for step in range(40)}  # fmt: skip
    assert found <= {(0, 1.0), (1, 0.0, 7.0), (1, 7.0)}
    assert len(found) > 1


@given(share=st.sampled_from([0.0, 0.01, 0.5, 0.999, 1.0]), seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_a_cell_keeps_known_voxels_only_all_of_them_if_they_are_few(share, seed):
    known = np.random.default_rng(seed).random((4, 40, 60)) < share
    kept = unpacked(packed(known, seed=seed), known.shape)
    assert len(kept) == (0 if known.all() else min(KEPT, known.sum()))
    assert len(kept) == len(np.unique(kept, axis=0))
    assert known[tuple(kept.T)].all()


def test_kept_voxels_are_spread_evenly_over_the_known_ones():
    known = np.zeros((1, 256, 256), bool)
    known[0, 50:200] = True
    kept = unpacked(packed(known, seed=3), known.shape)
    assert len(kept) == KEPT
    rows = np.bincount(kept[:, 1] // 50, minlength=5)
    assert rows[[0, 4]].tolist() == [0, 0]
    assert rows[1:4] == pytest.approx(KEPT / 3, rel=0.1)


class Block(Stored):
    """A huge volume in which one cell in 160 is known: 250 neighbours, where labels are not 255."""

    shape_zyx = (16 * 40_000, 4, 4)
    known = range(16 * 20_100, 16 * 20_350)
    reads: ClassVar = []

    def read_labels(self, start, stop):
        self.reads.append(start)
        z = np.arange(start[0], stop[0])
        inside = (z >= self.known.start) & (z < self.known.stop)
        one = np.where(inside, z % 2, UNPAINTED).astype("u1")
        return np.broadcast_to(
            one[:, None, None], [b - a for a, b in zip(start, stop, strict=True)]
        )


def test_a_labelled_part_of_a_huge_volume_is_found_as_a_whole_at_a_bounded_cost():
    found = survey(Block(np.empty((0, 0, 0))), LABELS, classes=2, dims=2)
    with_labels = [cell.start[0] for cell in found.cells if any(cell.counts)]
    assert sorted(with_labels) == [*range(Block.known.start, Block.known.stop, 16)]
    assert (
        len(found.cells) == len(Block.reads) <= SPARSE_CELLS + CELLS_PER_VOLUME + 252 < MOST_CELLS
    )
    assert found.known_share < 0.03  # of the cells that were chosen evenly, not of the neighbours
    assert found.is_sparse
    sampler = PatchSampler(shapes=(Block.shape_zyx,), surveys=(found,), core=(1, 4, 4), seed=0)
    assert all(sampler.place(step, 0).start[0] in Block.known for step in range(200))


@given(shape=st.tuples(st.integers(1, 60), st.integers(1, 900), st.integers(1, 700)))
@settings(max_examples=30)
def test_cells_cover_a_volume_once_and_neighbours_share_a_face(shape):
    grid = CellGrid(shape)
    boxes = [grid.box(number) for number in range(len(grid))]
    assert sum(int(np.prod(np.subtract(b, a))) for a, b in boxes) == np.prod(shape)
    for number, (start, _) in enumerate(boxes):
        steps = [np.subtract(grid.box(other)[0], start) / CELL for other in grid.around([number])]
        assert all(np.abs(step).sum() == 1 for step in steps)
        assert len(steps) == sum(
            0 <= number_ < count
            for axis, count in enumerate(grid.counts)
            for number_ in (start[axis] // CELL[axis] - 1, start[axis] // CELL[axis] + 1)
        )


@pytest.mark.parametrize("seed", range(3))
def test_known_voxels_and_tiles_of_a_survey_are_those_of_the_labels(seed):
    labels = sparse((20, 40, 300), share=0.003, seed=seed)
    labels[:16, :, 256:] = 1  # a cell that is known as a whole
    found = survey(Stored(labels), LABELS, classes=2, dims=2)
    rng = np.random.default_rng(seed)
    for _ in range(20):
        start = tuple(int(rng.integers(-4, n)) for n in labels.shape)
        stop = tuple(int(a + rng.integers(1, n)) for a, n in zip(start, labels.shape, strict=True))
        part = labels[tuple(slice(max(0, a), max(0, b)) for a, b in zip(start, stop, strict=True))]
        assert known_in(found, start, stop) == pytest.approx((part != UNPAINTED).sum())
    tile = (3, 16, 16)
    places = np.unique(np.argwhere(labels != UNPAINTED) // tile, axis=0) * tile
    assert known_tiles(found.cells, tile) == [tuple(map(int, place)) for place in places]


def test_weights_are_divided_by_the_share_of_a_patch_that_is_known_on_average():
    labels = sparse((1, 60, 60), share=0.005, seed=4)
    volume = Stored(labels)
    sampler = sampler_of(volume, core=(1, 16, 16))
    known = []
    for step in range(PATCHES):
        (z, y, x), (_, n, m) = sampler.place(step, 0).start, sampler.core
        part = labels[z, max(0, y) : y + n, max(0, x) : x + m]
        known.append((part != UNPAINTED).sum() / (n * m))
    (share,) = expected_known_shares(sampler)
    assert share == pytest.approx(np.mean(known), rel=0.1)
    assert share > 1.3 * (labels != UNPAINTED).mean(), (
        "patches with many known voxels are drawn more often"
    )
    dense = sampler_of(Stored(np.zeros((1, 40, 40), "u1")), core=(1, 8, 8))
    assert expected_known_shares(dense) == (1.0,)


def test_the_known_share_of_a_volume_is_the_same_beside_one_from_which_most_patches_are_drawn():
    few = Stored(sparse((1, 60, 60), share=0.005, seed=4))
    alone = sampler_of(few, core=(1, 16, 16))
    beside = replace(
        alone,
        shapes=((1, 10**6, 10**6), *alone.shapes),
        surveys=(Survey((Cell((0, 0, 0), (16, 256, 256), (9, 9)),)), *alone.surveys),
    )
    assert not any(beside.place(step, 0).volume for step in range(500))
    (expected,) = expected_known_shares(alone)
    assert expected_known_shares(beside) == (1.0, pytest.approx(expected, rel=0.1))


def test_a_patch_at_a_rare_class_knows_a_voxel_though_the_survey_kept_others():
    labels = np.full((1, 300, 300), UNPAINTED, "u1")
    labels[0, :30] = 0  # more known voxels than are kept
    labels[0, 250, 250] = 1
    sampler = replace(sampler_of(Stored(labels), core=(1, 16, 16)), rare_share=1.0)
    assert any(sampler.place(step, 0).start == (0, 242, 242) for step in range(9))
    (share,) = expected_known_shares(sampler)
    assert share > 0.2, "patches at rare classes are few, and most voxels are known in the others"


def test_a_cell_without_a_list_is_known_as_a_whole_if_it_has_classes():
    of_whole = Cell((0, 0, 0), (1, 4, 4), (10, 6))
    assert (of_whole.known_voxels, Cell((0, 0, 0), (1, 4, 4), (0, 0)).known_voxels) == (16, 0)
    part = np.zeros((1, 4, 4), bool)
    part[0, 1, 2] = True
    cell = Cell((5, 0, 8), (6, 4, 12), (1, 0), packed(part, seed=0))
    assert (cell.known_voxels, cell.draw(np.random.default_rng(0))) == (1, [5, 1, 10])
    assert Survey((of_whole, cell)).known_share == 17 / 32
    assert not Survey((of_whole, cell)).is_sparse
    assert Survey((of_whole, cell), 0.1).is_sparse
