"""The laws of where patches lie: anywhere, evenly, and the same on every rank."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.base.errors import LabelError
from unet.recipe.training_config import LabelConfig
from unet.samples.cells import CELL, CELLS_PER_VOLUME, Cell
from unet.samples.rules import registry
from unet.samples.rules.foreground import Foreground
from unet.samples.sampling import PatchSampler, Survey, seed_of, shares, survey


@dataclass(frozen=True)
class Labels:
    """A volume of labels, mirrored past its edges by numpy."""

    ids_zyx: np.ndarray
    name: str = "labels"
    spacing_zyx: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @property
    def shape_zyx(self):
        return self.ids_zyx.shape

    def read_labels(self, start, stop):
        boxes = list(zip(start, stop, self.shape_zyx, strict=True))
        pads = [(max(0, -a), max(0, b - n)) for a, b, n in boxes]
        whole = np.pad(self.ids_zyx, pads, mode="reflect")
        return whole[tuple(slice(max(0, a), max(0, a) + b - a) for a, b, _ in boxes)]


def sampler_of(*shapes, core, rare_share=0.0, surveys=None, seed=0):
    empty = tuple(Survey((Cell((0, 0, 0), shape, (1, 1)),)) for shape in shapes)
    return PatchSampler(
        shapes=shapes, surveys=surveys or empty, core=core, seed=seed, rare_share=rare_share
    )


@pytest.mark.parametrize(
    ("shape", "core"),
    [((1, 24, 31), (1, 8, 12)), ((9, 17, 12), (4, 8, 12)), ((5, 40, 40), (1, 40, 40))],
    ids=["a slice", "a volume", "patches of a whole slice"],
)
def test_every_voxel_is_learnt_and_those_of_an_edge_at_least_a_quarter_as_often(shape, core):
    sampler = sampler_of(shape, core=core)
    seen = np.zeros(shape)
    index = [np.abs(np.arange(-n, 2 * n) % max(1, 2 * n - 2)) for n in shape]
    index = [np.minimum(i, max(1, 2 * n - 2) - i) for i, n in zip(index, shape, strict=True)]
    for number in range(6000):
        place = sampler.place(number // 8, number % 8)
        axes = [
            i[a + n : a + n + c]
            for i, a, n, c in zip(index, place.start, shape, core, strict=True)
        ]  # fmt: skip
        np.add.at(seen, np.ix_(*axes), 1)
    inner = tuple(
        slice(c // 2, max(c // 2 + 1, n - c // 2)) for c, n in zip(core, shape, strict=True)
    )
    with_edge = sum(n > 1 and c > 1 for n, c in zip(shape, core, strict=True))
    assert seen.min() > 0.8 * 0.25**with_edge * seen[inner].mean(), "a corner is learnt least"
    faces = seen.mean(axis=(1, 2))
    if core[0] == 1:
        assert faces == pytest.approx(faces.mean(), rel=0.15), "slices are equals"


def test_places_are_uniform_over_all_possible_places():
    sampler = sampler_of((3, 12, 9), core=(1, 8, 4))
    starts = np.array([sampler.place(step, 0).start for step in range(6000)])
    for axis, (least, most) in enumerate([(0, 2), (-2, 6), (-1, 6)]):
        values, counts = np.unique(starts[:, axis], return_counts=True)
        assert values.tolist() == list(range(least, most + 1))
        assert counts.min() > 0.75 * counts.mean()
        assert counts.max() < 1.25 * counts.mean()


def test_volumes_are_drawn_by_their_voxels():
    sampler = sampler_of((4, 10, 10), (4, 10, 30), core=(1, 5, 5))
    chosen = [sampler.place(step, 0).volume for step in range(4000)]
    assert np.mean(chosen) == pytest.approx(0.75, abs=0.03)


@given(seed=st.integers(0, 2**32 - 1), step=st.integers(0, 10**6), batch=st.integers(1, 12),
       ranks=st.integers(1, 5))  # fmt: skip
@settings(max_examples=40)
def test_ranks_divide_the_patches_of_one_rank_and_agree_on_each(seed, step, batch, ranks):
    sampler, twin = (sampler_of((9, 50, 50), core=(2, 8, 8), seed=seed) for _ in range(2))
    numbers = [n for rank in range(ranks) for n in shares(batch, rank=rank, world_size=ranks)]
    assert sorted(numbers) == list(range(batch))
    for number in reversed(numbers):
        assert sampler.place(step, number) == twin.place(step, number)
    assert len({seed_of(seed, step, number) for number in numbers}) == batch
    assert all(0 <= seed_of(seed, step, number) < 2**63 for number in numbers)


@pytest.mark.parametrize("other", [(1, 7, 3), (0, 8, 3), (0, 7, 4)])
def test_another_seed_step_or_number_is_another_place(other):
    def place(seed, step, number):
        return sampler_of((90, 900, 900), core=(2, 8, 8), seed=seed).place(step, number)

    assert place(*other) != place(0, 7, 3)
    assert seed_of(*other) != seed_of(0, 7, 3)


def centres_of(labels, *, rare_share, core, draws, **rule):
    """Return the centres (z, y, x) of patches, and the classes there; 255: beyond the edge."""
    classes = int(labels[labels < 200].max()) + 2  # one of them is nowhere
    config = LabelConfig(ignore=200, **rule)
    found = survey(Labels(labels), config, classes=classes, dims=3)
    options = {"core": core, "rare_share": rare_share, "surveys": (found,)}
    sampler = sampler_of(labels.shape, **options)
    half = [size // 2 for size in core]
    centres = np.array([np.add(sampler.place(step, 0).start, half) for step in range(draws)])
    is_inside = ((centres >= 0) & (centres < labels.shape)).all(axis=1)
    at = np.full(draws, 255)
    at[is_inside] = labels[tuple(centres[is_inside].T)]
    return centres, at


@pytest.mark.parametrize("rare_share", [0.5, 1.0])
def test_a_share_of_the_patches_is_centred_on_a_voxel_of_a_class_even_if_it_is_rare(rare_share):
    labels = np.zeros((20, 300, 300), np.uint8)
    labels[2:6, 100:104, 50:54] = 1
    labels[12:20, 200:] = 2
    labels[12:20, :20] = 200
    _, at = centres_of(labels, rare_share=rare_share, core=(9, 30, 30), draws=3000)
    elsewhere = 1 - rare_share
    shares = np.bincount(at, minlength=256) / 3000
    assert shares[1] == pytest.approx(rare_share / 3, abs=0.03)
    assert shares[2] == pytest.approx(rare_share / 3 + elsewhere * 2 / 15, abs=0.05)
    if rare_share == 1:
        assert shares[200] == shares[255] == 0


def test_the_voxels_of_a_class_are_drawn_evenly_in_one_cell_and_over_cells():
    labels = np.zeros((20, 300, 300), np.uint8)
    labels[1, 10:14, 200:280] = 1  # on both sides of a cell's end
    labels[18, 280:290, 0:16] = 1
    centres, at = centres_of(labels, rare_share=1.0, core=(3, 9, 9), draws=4000)
    centres = centres[at == 1]
    assert (centres[:, 0] == 18).mean() == pytest.approx(160 / 480, abs=0.04)
    x = centres[centres[:, 0] == 1, 2]
    assert np.histogram(x, 8, (200, 280))[0] / len(x) == pytest.approx(1 / 8, abs=0.04)


def test_a_cell_of_one_class_and_one_of_few_voxels_are_drawn_by_their_voxels():
    labels = np.zeros((1, 40, 512), np.uint8)
    labels[:, :, :256] = 1
    labels[0, 7, 300:310] = 1
    centres, at = centres_of(labels, rare_share=1.0, core=(1, 9, 9), draws=3000)
    assert set(at) == {0, 1}
    assert (centres[at == 1, 2] < 256).mean() == pytest.approx(10240 / 10250, abs=0.01)


def test_a_survey_counts_every_voxel_of_every_class():
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 4, (20, 300, 270), np.uint8)
    ids[3] = 200
    found = survey(Labels(ids), LabelConfig(ignore=200), classes=5, dims=3)
    assert found.counts == tuple(int((ids == number).sum()) for number in range(5))
    assert len(found.cells) == 2 * 2 * 2
    for cell in found.cells:
        box = ids[tuple(slice(a, b) for a, b in zip(cell.start, cell.stop, strict=True))]
        assert cell.counts == tuple(int((box == number).sum()) for number in range(5))


def test_a_boundary_is_counted_once_where_two_cells_of_the_survey_meet():
    ids = np.ones((1, 20, 2 * CELL[2]), np.uint16)
    ids[:, :, CELL[2] :] = 2  # objects meet where the survey's cells do
    found = survey(Labels(ids), LabelConfig(rule="boundary"), classes=2, dims=2)
    assert [cell.counts[1] for cell in found.cells] == [20, 20]


def test_a_rule_may_have_any_number_of_classes(monkeypatch):
    class Thirds(Foreground):
        class_names = ("none", "odd", "even")

        def classes(self, stored, *, dims):
            return np.where(stored.ids > 0, 1 + (stored.ids + 1) % 2, 0)

    monkeypatch.setattr(registry, "RULES", {"foreground": Thirds()})
    ids = np.arange(60, dtype=np.uint8).reshape(1, 6, 10)
    found = survey(Labels(ids), LabelConfig(rule="foreground"), classes=3, dims=2)
    assert found.counts == (1, 30, 29)


def test_a_large_volume_is_surveyed_in_part_and_evenly():
    class Large(Labels):
        shape_zyx = (16 * 300, 256, 256)

        def read_labels(self, start, stop):
            return np.zeros([b - a for a, b in zip(start, stop, strict=True)], np.uint8)

    found = survey(Large(None), LabelConfig(), classes=2, dims=2)
    assert len(found.cells) == CELLS_PER_VOLUME
    starts = np.array([cell.start[0] for cell in found.cells])
    assert starts[0] == 0
    assert starts[-1] == 16 * 299
    assert set(np.diff(starts)) == {16, 32}


def test_labels_that_the_first_round_misses_are_found():
    class Sparse(Labels):
        shape_zyx = (16 * 1000, 16, 16)

        def read_labels(self, start, stop):
            labels = np.full([b - a for a, b in zip(start, stop, strict=True)], 9, np.uint8)
            z = np.arange(start[0], stop[0])
            labels[(z >= 16 * 5 + 2) & (z < 16 * 6 - 2)] = 1  # one cell of a thousand
            return labels

    found = survey(Sparse(None), LabelConfig(ignore=9), classes=2, dims=2)
    assert sum(found.counts) == 12 * 16 * 16


def test_labels_without_information_or_with_too_many_classes_are_refused():
    ids = np.full((2, 20, 20), 3, np.uint8)
    with pytest.raises(LabelError, match="class 3, the network has 3 classes"):
        survey(Labels(ids), LabelConfig(), classes=3, dims=2)
    with pytest.raises(LabelError, match="all labels of labels are 3"):
        survey(Labels(ids), LabelConfig(ignore=3), classes=2, dims=2)
