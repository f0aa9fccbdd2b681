"""A training's plan: statistics of the labels, the first patches, the cost of what is left."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import zarr

from pipeline import open_labelled
from pipeline.base.errors import RunStoppedError, TrainingFailedError
from unet.samples.rules.rule import IGNORED
from unet.training.learner import Learner
from unet.training.loop import sample_maker
from unet.training.plan import measure
from unet.training.plan.measure import MeasuredSteps, measure_as_rank
from unet.training.plan.memory import PeakMemory
from unet.training.plan.patches import first_patches
from unet.training.plan.plan import plan_training, tiles_of_rank_0
from unet.training.plan.statistics import statistics_of
from unet.training.prepare import prepare_training
from unet.training.ranks import Alone, run_in_this_process
from unet.training.validation import validate

FLAT = {"elastic_sigma": 0.0, "rotation": "none", "mirror": False, "contrast": 0.0,
        "brightness": 0.0, "gamma": 0.0, "noise": 0.0}  # fmt: skip
CONFIG = {
    "network": {"dims": 2, "base_channels": 2, "levels": 2, "classes": 3},
    "training": {
        "steps": 250, "batch": 2, "patch": [12, 12], "precision": "fp32", "validate_every": 100,
    },
    "labels": {"ignore": 255},
}  # fmt: skip
SHAPE = (4, 33, 36)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder with a volume whose grey values are its labels; some labels are unknown."""
    folder = tmp_path_factory.mktemp("place")
    labels = np.random.default_rng(0).choice(3, SHAPE, p=[0.7, 0.25, 0.05]).astype("u1")
    zarr.create_array(folder / "raw.zarr", data=labels)
    labels[1:] = np.where(np.indices(SHAPE)[2][1:] < 9, 255, labels[1:])
    zarr.create_array(folder / "labels.zarr", data=labels)
    return folder


def prepared(place, *, slices=None, **training):
    pair = (str(place / "raw.zarr"), str(place / "labels.zarr"))
    opened = open_labelled([pair], validation_slices=slices, normalisation="none")
    config = {**CONFIG, "training": {**CONFIG["training"], **training}}
    return prepare_training(opened, place / "w.safetensors", config=config)


def test_shares_are_a_plain_count_of_all_labels(place):
    labels = zarr.open_array(place / "labels.zarr")[:]
    known = labels[labels != 255]
    one = prepared(place)
    found = statistics_of([SHAPE], one.surveys, core=one.core, patches=500)
    counts = np.bincount(known, minlength=3)
    assert found.class_counts == tuple(counts.tolist())
    assert found.shares == pytest.approx(counts / known.size)
    assert found.known_share == pytest.approx(known.size / labels.size)
    assert (found.is_exact, found.voxels) == (True, labels.size)
    assert found.patches_per_epoch == labels.size / np.prod(one.core)
    assert found.epochs * labels.size == pytest.approx(500 * np.prod(one.core))


def test_a_survey_of_a_part_is_not_called_exact(place):
    one = prepared(place)
    larger = [SHAPE, (40, 33, 36)]
    found = statistics_of(larger, one.surveys, core=one.core, patches=1)
    assert (found.is_exact, found.surveyed) == (False, np.prod(SHAPE))


def test_the_patches_are_the_first_samples_of_the_training(place):
    job = prepared(place, batch=2).job(batch=2)
    maker = sample_maker(job, device="cpu")
    patches = first_patches(maker, batch=2)
    assert [(patch.step, patch.number) for patch in patches] == [(0, 0), (0, 1), (1, 0)]
    for patch in patches:
        x, classes, weights = maker.sample(patch.step, patch.number)
        assert np.array_equal(patch.targets_yx, classes[0])
        assert np.array_equal(patch.weights_yx, weights[0])
        edge = [(n - m) // 2 for n, m in zip(x.shape[2:], classes.shape[1:], strict=True)]
        inner = x[0, :, edge[0] : edge[0] + classes.shape[1], edge[1] : edge[1] + classes.shape[2]]
        assert np.array_equal(patch.raw_cyx, inner)


@pytest.mark.parametrize("dims", [2, 3])
def test_grey_values_and_labels_of_a_patch_are_of_the_same_voxels(dims, place):
    one = prepared(place, augment=FLAT) if dims == 2 else deep(place)
    patches = first_patches(sample_maker(one.job(batch=2), device="cpu"), batch=2)
    for patch in patches:
        known = patch.targets_yx != IGNORED
        assert known.any()
        assert np.allclose(patch.raw_cyx[0][known], patch.targets_yx[known], atol=1e-3)


def deep(place):
    """Return a training of a 3-D network."""
    one = prepared(place, augment=FLAT)
    network = replace(one.recipe.network, dims=3, pooling=((1, 2, 2),), kernels=((1, 3, 3), 3))
    return replace(one, recipe=replace(one.recipe, network=network), core=(3, 8, 8))


def test_a_plan_measures_some_steps_and_writes_nothing(place):
    before = sorted(place.rglob("*"))
    one = prepared(place, slices=(3, 4))
    plan = plan_training(one, run_in_this_process, ranks=1)
    assert sorted(place.rglob("*")) == before
    (measured,) = plan.measured
    assert len(measured.seconds) == measure.MEASURED == 10
    assert 0 <= measured.wait_share <= 1
    assert measured.device == "cpu"
    assert (plan.batch, plan.ranks, plan.steps_left) == (2, 1, 250)
    assert plan.statistics.patches == 500
    assert len(plan.patches) == 3
    assert min(measured.seconds) <= plan.step_s <= max(measured.seconds)
    assert plan.seconds_left == 250 * plan.step_s + 3 * plan.tiles * measured.tile_s
    assert 2**20 < plan.memory_bytes < 2**37


@pytest.mark.parametrize(
    ("steps", "every", "done"),
    [(250, 100, 0), (250, 100, 200), (300, 100, 100), (5, 9, 0), (5, 1, 4)],
)
def test_validations_are_those_of_the_loop(steps, every, done, place, monkeypatch):
    one = prepared(place, slices=(3, 4), steps=steps, validate_every=every)
    monkeypatch.setattr(measure, "MEASURED", 1)
    begun = replace(one, progress=replace(one.progress, step=done))
    plan = plan_training(begun, run_in_this_process, ranks=1)
    validated = [s for s in range(done + 1, steps + 1) if s == steps or s % every == 0]
    assert (plan.validations, plan.steps_left) == (len(validated), steps - done)


def test_tiles_are_those_that_a_validation_predicts(place):
    job = prepared(place, slices=(1, 4)).job(batch=2)
    calls = []
    learner = Learner(job.recipe.network, job.recipe.training, device="cpu")
    predict = learner.probabilities
    learner.probabilities = lambda *given: calls.append(1) or predict(*given)
    validate(learner, job.validation, labels=job.recipe.labels, core=job.core)
    assert tiles_of_rank_0(job.validation, job.core, dims=2, ranks=1) == len(calls)
    assert tiles_of_rank_0((), job.core, dims=2, ranks=1) == 0


def test_patches_of_affinities_have_their_channels(place):
    pair = (str(place / "raw.zarr"), str(place / "labels.zarr"))
    config = {
        "network": {"dims": 2, "base_channels": 2, "levels": 2},
        "training": {**CONFIG["training"], "patch": [12, 12]},
        "labels": {"rule": "affinities", "ignore": 255},
    }  # fmt: skip
    opened = open_labelled([pair], normalisation="none")
    one = prepare_training(opened, place / "w.safetensors", config=config)
    plan = plan_training(one, run_in_this_process, ranks=1)
    maker = sample_maker(one.job(batch=2), device="cpu")
    for patch in plan.patches:
        _, targets, weights = maker.sample(patch.step, patch.number)
        assert not patch.is_of_classes
        assert np.array_equal(patch.targets_yx, targets[0])
        assert np.array_equal(patch.weights_yx, weights[0])
    assert len(plan.statistics.shares) == 2, "inside and boundary"


def test_patches_without_a_known_voxel_are_counted(place, monkeypatch):
    monkeypatch.setattr("unet.samples.maker.ATTEMPTS", 1)  # as if labels lay where few patches do
    monkeypatch.setattr(measure, "MEASURED", 40)
    job = prepared(place, patch=[6, 6]).job(batch=2)
    measured = measure_as_rank(job, Alone())
    maker = sample_maker(job, device="cpu")
    steps = range(measure.WARM_UP, measure.WARM_UP + measure.MEASURED)
    weights = [maker.sample(step, number)[2] for step in steps for number in range(2)]
    empty, partly = ([not one.any() for one in weights], [not one.all() for one in weights])
    assert sum(partly) > sum(empty) > 0
    assert measured.empty_patches == sum(empty)


def test_labels_of_few_voxels_are_stated_as_sparse(place):
    labels = np.full(SHAPE, 255, "u1")
    labels[0, :, :4] = 1
    labels[0, 0, :2] = 0, 2
    zarr.create_array(place / "sparse.zarr", data=labels, overwrite=True)
    opened = open_labelled(
        [(str(place / "raw.zarr"), str(place / "sparse.zarr"))], normalisation="none"
    )
    one = prepare_training(opened, place / "w.safetensors", config=CONFIG)
    found = statistics_of([SHAPE], one.surveys, core=one.core, patches=1)
    assert found.is_sparse
    assert found.known_share == pytest.approx(4 * 33 / labels.size)
    assert not statistics_of([SHAPE], prepared(place).surveys, core=one.core, patches=1).is_sparse


def test_ranks_that_are_asked_to_leave_end_the_plan(place):
    def stopped(function, *, ranks, **_):
        return [function(Alone(stop=lambda: True))]

    with pytest.raises(RunStoppedError, match="nothing was measured, and nothing written"):
        plan_training(prepared(place), stopped, ranks=1)


def test_too_little_memory_is_one_line(place):
    def too_large(function, **_):
        raise RuntimeError("CUDA out of memory.\nTried to allocate 80 GiB")

    with pytest.raises(TrainingFailedError, match="use a smaller patch, batch or network"):
        plan_training(prepared(place), too_large, ranks=1)


def test_the_peak_is_that_since_the_start():
    before = np.ones(2**25)  # 256 MiB
    del before
    memory = PeakMemory("cpu")
    low = memory.peak_bytes()
    held = np.ones(2**24)
    assert 2**27 * 0.9 < memory.peak_bytes() - low < 2**27 * 1.5
    del held
    assert memory.peak_bytes() - low > 2**27 * 0.9


def test_a_rank_s_step_is_the_median_and_the_plan_s_that_of_the_slowest(place):
    values = {"device": "cpu", "wait_share": 0.0, "tile_s": 1.0, "empty_patches": 0, "patches": ()}
    fast = MeasuredSteps(seconds=(1.0, 2.0, 9.0), memory_bytes=7, **values)
    slow = MeasuredSteps(seconds=(2.0, 3.0, 4.0), memory_bytes=5, **values)
    plan = plan_training(prepared(place), lambda function, **_: [fast, slow], ranks=2)
    assert (fast.step_s, plan.step_s, plan.memory_bytes) == (2.0, 3.0, 7)
