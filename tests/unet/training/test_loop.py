"""The laws of training: the weights depend neither on interruptions nor on the ranks."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from pipeline.base.errors import TrainingError
from unet import UNetConfig
from unet.recipe.augment_config import AugmentConfig
from unet.recipe.training_config import LabelConfig, Recipe, TrainingConfig
from unet.samples.sampling import survey
from unet.training import checkpoint
from unet.training.checkpoint import load_newest
from unet.training.learner import Learner
from unet.training.loop import TrainingJob, sample_maker, train, trained_model
from unet.training.messages import Note, Validated
from unet.training.ranks import Alone
from unet.training.same_training import check_same_training, random_numbers_note
from unet.training.validation import validate

NETWORKS = {
    2: UNetConfig(dims=2, base_channels=4, levels=2),
    3: UNetConfig(dims=3, base_channels=4, levels=2, dropout=0.2),
}


@dataclass(frozen=True)
class Discs:
    """A volume of bright discs (balls) on noise; labels are their ids."""

    shape_zyx: tuple[int, int, int]
    seed: int = 0
    name: str = "discs"
    spacing_zyx: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def whole(self):
        rng = np.random.default_rng(self.seed)
        ids = np.zeros(self.shape_zyx, np.uint16)
        grid = np.indices(self.shape_zyx)
        for number in range(1, 13):
            centre = [rng.uniform(0, size) for size in self.shape_zyx]
            squares = sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True))
            ids[squares < rng.uniform(4, 8) ** 2] = number
        raw = (ids > 0) * 0.6 + 0.1 * rng.standard_normal(self.shape_zyx)
        return raw.astype(np.float32)[None], ids

    def _box(self, array, start, stop):
        for axis, (a, b) in enumerate(zip(start, stop, strict=True), start=array.ndim - 3):
            size = array.shape[axis]
            index = np.abs((np.arange(a, b) + size - 1) % max(1, 2 * size - 2) - size + 1)
            array = np.take(array, index, axis=axis)
        return array

    def read_raw(self, start, stop):
        return self._box(self.whole()[0], start, stop)

    def read_labels(self, start, stop):
        return self._box(self.whole()[1], start, stop)


def job_of(directory, *, dims=2, steps=6, validate=False, batch=2, volume=None, **training):
    volume = volume or Discs((2, 48, 48) if dims == 2 else (20, 24, 24))
    settings = {
        "steps": steps, "precision": "fp32", "checkpoint_every": 3, "validate_every": 3,
        "learning_rate": 3e-3, "augment": AugmentConfig(elastic_sigma=2.0), **training,
    }  # fmt: skip
    recipe = Recipe(
        network=NETWORKS[dims],
        training=TrainingConfig(**settings),
        labels=LabelConfig(rule="foreground"),
    )
    core = (1, 16, 16) if dims == 2 else (8, 8, 8)
    return TrainingJob(
        recipe=recipe,
        volumes=(volume,),
        surveys=(survey(volume, recipe.labels, classes=2, dims=dims),),
        validation=(Discs(volume.shape_zyx, seed=1),) if validate else (),
        core=core,
        batch=batch,
        directory=directory,
    )


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.values(), other.values(), strict=True))


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
@pytest.mark.parametrize("dims", [2, 3])
def test_a_training_that_was_stopped_and_resumed_equals_an_uninterrupted_one_bit_for_bit(
    dims, optimiser, tmp_path
):
    whole = job_of(tmp_path / "whole", dims=dims, optimiser=optimiser)
    assert train(whole).finished
    parts = replace(whole, directory=tmp_path / "parts")
    assert [train(parts, StoppedAfter(2)).step for _ in range(3)] == [2, 4, 6]
    one, other = load_newest(whole.directory), load_newest(parts.directory)
    assert same(one.model, other.model)
    assert same(one.ema, other.ema)
    for number, entries in one.optimiser["state"].items():
        assert same(entries, other.optimiser["state"][number])


class StoppedAfter(Alone):
    """The only rank; it is asked to stop after so many steps."""

    def __init__(self, steps):
        asked = iter(range(1, 1000))
        super().__init__(stop=lambda: next(asked) >= steps)


def test_a_training_that_is_stopped_where_it_would_validate_leaves_first_and_validates_later(
    tmp_path,
):
    network = replace(NETWORKS[2], norm="batch")
    job = job_of(tmp_path / "whole", validate=True, validate_every=2, checkpoint_every=4)
    job = replace(job, recipe=replace(job.recipe, network=network))

    def trained_until(step, job):
        """Return the end, and at which steps was validated."""
        heard, asked = [], iter(range(1, 1000))
        end = train(job, Alone(listener=heard.append, stop=lambda: next(asked) >= step))
        return end.step, [one.step for one in heard if isinstance(one, Validated)]

    assert trained_until(99, job) == (6, [2, 4, 6])
    parts = replace(job, directory=tmp_path / "parts")
    assert trained_until(2, parts) == (2, [])
    assert trained_until(99, parts) == (6, [2, 4, 6])
    assert trained_until(99, parts) == (6, [])
    one, other = load_newest(job.directory), load_newest(parts.directory)
    assert same(one.model, other.model)
    assert one.record["selection"] == other.record["selection"]


@pytest.mark.parametrize("preset", ["default", "unet-2015"])
@pytest.mark.parametrize("dims", [2, 3])
def test_a_network_learns_to_find_discs(dims, preset, tmp_path):
    paper = {"momentum": 0.9, "schedule": "constant", "optimiser": "sgd", "ema": 0.0}
    job = job_of(
        tmp_path, dims=dims, steps=60, validate=True, validate_every=60, border_weight=0.0,
        learning_rate=1e-2, **(paper if preset == "unet-2015" else {}),
    )  # fmt: skip
    network = replace(job.recipe.network, dropout=0.2)  # half of four channels may be all
    job = replace(job, recipe=replace(job.recipe, network=network))
    assert min(train(job).scores["iou"]) > 0.5


def test_gradients_of_the_parts_of_a_batch_add_up_to_those_of_the_batch(tmp_path):
    job = job_of(tmp_path, dims=2, batch=5)
    maker = sample_maker(job, device="cpu")
    training = replace(job.recipe.training, gradient_norm=None)
    network = job.recipe.network
    assert network.dropout > 0

    def gradients(parts):
        total = None
        for numbers in parts:
            learner = Learner(network, training, device="cpu")
            learner.step(maker.batch(0, numbers), step=0, batch_size=5)
            found = [p.grad for p in learner.model.parameters()]
            total = found if total is None else [a + b for a, b in zip(total, found, strict=True)]
        return total

    whole = gradients([range(5)])
    parts = gradients([range(0, 5, 2), range(1, 5, 2)])
    assert max(float(g.abs().max()) for g in whole) > 1e-3
    for a, b in zip(whole, parts, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_a_nan_loss_stops_the_training_and_keeps_the_last_checkpoint(tmp_path):
    volume = Poisoned((2, 48, 48))
    job = job_of(tmp_path, steps=40, volume=Discs((2, 48, 48)))
    train(job, StoppedAfter(1))
    kept = load_newest(tmp_path).step
    with pytest.raises(TrainingError, match=r"loss of step \d+ is nan: .*0000001.safetensors is"):
        train(replace(job, volumes=(volume,)))
    assert load_newest(tmp_path).step == kept == 1
    model = trained_model(job, step=kept)
    assert all(bool(p.isfinite().all()) for p in model.parameters())


def test_the_weights_of_the_end_are_never_those_of_an_earlier_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "SEEN_WITHIN_S", 0.3)
    job = job_of(tmp_path)
    train(job)
    last = checkpoint.checkpoint_path(tmp_path, 6)
    intact = last.read_bytes()
    last.write_bytes(intact[:-20])
    with pytest.raises(TrainingError, match=r"06\.safetensors' is not a checkpoint, or is dam"):
        trained_model(job, step=6)
    last.unlink()
    with pytest.raises(TrainingError, match=r"00000006.safetensors' was saved, but .* not see it"):
        trained_model(job, step=6)
    monkeypatch.setattr(checkpoint, "SEEN_WITHIN_S", 20.0)
    seen_later = threading.Timer(0.3, last.write_bytes, [intact])
    seen_later.start()
    assert trained_model(job, step=6) is not None


class Poisoned(Discs):
    """A volume whose normalised grey values are NaN."""

    def read_raw(self, start, stop):
        raw = super().read_raw(start, stop)
        raw[:] = math.nan
        return raw


def test_an_error_in_the_making_of_samples_ends_the_training(tmp_path):
    class Gone(Discs):
        def read_raw(self, start, stop):
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="gone"):
        train(replace(job_of(tmp_path), volumes=(Gone((2, 48, 48)),)))


def test_validation_counts_every_voxel_once_whatever_the_tiles(tmp_path):
    job = job_of(tmp_path, dims=2, validate=True)
    learner = Learner(job.recipe.network, job.recipe.training, device="cpu")
    figures = [
        validate(learner, job.validation, labels=job.recipe.labels, core=core)[0]
        for core in ((1, 16, 16), (1, 48, 48), (1, 20, 28))
    ]
    for other in figures[1:]:
        assert other.pixel_error == figures[0].pixel_error
        assert other.loss == pytest.approx(figures[0].loss, rel=1e-5)


def test_a_picture_shows_a_slice_not_a_tile(tmp_path):
    job = job_of(tmp_path, dims=2, validate=True)
    learner = Learner(job.recipe.network, job.recipe.training, device="cpu")
    volume = job.validation[0]
    pictures = [
        validate(learner, [volume], labels=job.recipe.labels, core=core)[1]
        for core in ((1, 16, 16), (1, 48, 48), (1, 20, 28))
    ]
    raw, ids = volume.whole()
    for picture in pictures:
        np.testing.assert_array_equal(picture.raw_cyx, raw[:, 1])
        np.testing.assert_array_equal(picture.truth_yx, ids[1] > 0)
        np.testing.assert_allclose(picture.scores_cyx, pictures[0].scores_cyx, atol=1e-5)


def test_a_setting_that_is_newer_than_a_checkpoint_has_its_default(tmp_path):
    job = job_of(tmp_path, steps=3)
    train(job)
    record = load_newest(tmp_path).record
    del record["recipe"]["training"]["border_sigma"]
    check_same_training(record, job.recipe, {})
    other = replace(job.recipe.training, border_sigma=3.0)
    with pytest.raises(TrainingError, match=r"border_sigma = 5\.0, now it is 3\.0"):
        check_same_training(record, replace(job.recipe, training=other), {})


def test_a_checkpoint_fits_data_of_which_a_damaged_part_was_repaired(tmp_path):
    recipe = job_of(tmp_path, steps=3).recipe

    def data(sample):
        return {"training": [{"volume": "raw", "volume_sample": sample}]}

    record = {"recipe": recipe.to_dict(), "data_sets": data("unread 1a 2b")}
    check_same_training(record, recipe, data("0c 1a 2b"))
    check_same_training({**record, "data_sets": data("0c 1a 2b")}, recipe, data("0c unread 2b"))
    with pytest.raises(TrainingError, match="those of the volume have changed"):
        check_same_training(record, recipe, data("0c 1a 3b"))


def test_a_damaged_checkpoint_that_ranks_skip_is_noted(tmp_path):
    job = job_of(tmp_path, steps=6)
    train(job)
    (tmp_path / "checkpoint-00000006.safetensors").write_bytes(b"")
    heard = []
    train(job, Alone(listener=heard.append))
    (note,) = [message.text for message in heard if isinstance(message, Note)]
    assert "checkpoint-00000006.safetensors' is not a checkpoint, or is damaged" in note


def test_a_checkpoint_of_other_random_numbers_is_noted_if_there_is_dropout(tmp_path):
    job = job_of(tmp_path, steps=3)
    train(job)
    record = load_newest(tmp_path).record
    assert random_numbers_note(record, job.recipe) is None
    del record["random_numbers"]  # as an earlier version wrote it
    assert "other random numbers for dropout" in random_numbers_note(record, job.recipe)
    check_same_training(record, job.recipe, {})
    network = replace(job.recipe.network, dropout=0.0)
    assert random_numbers_note(record, replace(job.recipe, network=network)) is None


@pytest.mark.parametrize(
    ("version", "dropout", "rare_share", "named"),
    [(1, 0.1, 0.5, "dropout, rare_share"), (2, 0.1, 0.5, "rare_share"), (2, 0.1, 0.0, None),
     (1, 0.0, 0.0, None), (3, 0.1, 0.5, None)],
)  # fmt: skip
def test_other_random_numbers_are_named_where_a_recipe_uses_them(
    tmp_path, version, dropout, rare_share, named
):
    recipe = job_of(tmp_path, steps=3).recipe
    network = replace(recipe.network, dropout=dropout)
    training = replace(recipe.training, rare_share=rare_share)
    found = random_numbers_note(
        {"random_numbers": version}, replace(recipe, network=network, training=training)
    )
    assert (found and found.split(" for ")[1].split(":")[0]) == named


@pytest.mark.parametrize(
    ("changed", "name"), [({"batch": 3}, "batch"), ({"core": (1, 8, 8)}, "patch")]
)
def test_a_checkpoint_of_another_batch_or_patch_is_refused(changed, name, tmp_path):
    job = job_of(tmp_path, steps=3)
    train(job)
    with pytest.raises(TrainingError, match=f"made with a {name} of .*, now it is"):
        train(replace(job, **changed))


@pytest.mark.parametrize("changed", ["learning_rate", "seed"])
def test_a_checkpoint_of_another_recipe_is_refused(changed, tmp_path):
    train(job_of(tmp_path, steps=3))
    with pytest.raises(TrainingError, match=rf"training\.{changed} = .*, now it is"):
        train(job_of(tmp_path, steps=3, **{changed: 7}))
