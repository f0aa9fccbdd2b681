"""The public function for training: in one process, with volumes of `pipeline.open_labelled`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import zarr

from pipeline import open_labelled
from pipeline.base.errors import (
    IntensityError,
    LabelError,
    RunStoppedError,
    TrainingError,
    TrainingFailedError,
    VolumeError,
    WeightsError,
)
from unet import load_weights, read_config, read_weights_info, train_unet
from unet.training.messages import Note, StepsDone, Validated
from unet.training.run import failures_explained

CONFIG = """
[network]
base_channels = 2
levels = 2
[training]
steps = 4
patch = [12, 12]
precision = "fp32"
validate_every = 2
checkpoint_every = 2
"""


@pytest.fixture
def place(tmp_path, textured):
    raw = textured((3, 32, 36))
    labels, axes = (raw > 128).astype("u1"), ("z", "y", "x")
    for name, data, chunks in (("raw", raw, (1, 16, 18)), ("labels", labels, (1, 32, 36))):
        zarr.create_array(tmp_path / f"{name}.zarr", data=data, chunks=chunks, dimension_names=axes)
    (tmp_path / "config.toml").write_text(CONFIG)
    return tmp_path


def opened(place, **options):
    pair = (str(place / "raw.zarr"), str(place / "labels.zarr"))
    return open_labelled([pair], **options)


class Heard:
    def __init__(self):
        self.messages = []

    def hear(self, message):
        self.messages.append(message)


def test_it_trains_in_this_process_and_writes_the_weights(place):
    heard = Heard()
    out = place / "w.safetensors"
    end = train_unet(
        opened(place, validation_slices=(2, 3)), out, config=read_config(place / "config.toml"),
        listeners=[heard],
    )  # fmt: skip
    assert (end.step, end.finished) == (4, True)
    assert end.scores["step"] == 4
    info = read_weights_info(out)
    assert info.provenance["steps_trained"] == 4
    assert info.provenance["data"]["training"][0]["slices"] == [0, 2]
    assert {type(message) for message in heard.messages} == {StepsDone, Validated}
    directory = place / "w.training"
    assert {"log.csv", "validation-00000004.png"} <= {path.name for path in directory.iterdir()}


def test_the_weights_state_the_voxel_size_and_the_input_of_their_training(place):
    group = zarr.open_array(place / "raw.zarr", mode="r+")
    group.attrs["voxel_size_nm"] = [50, 4, 5]
    out = place / "w.safetensors"
    train_unet(opened(place), out, config=read_config(place / "config.toml"))
    info = read_weights_info(out)
    assert info.voxel_size_um == pytest.approx((0.004, 0.005))
    raw = group[:] / 255
    for percent, (value,) in info.input_percentiles.items():
        assert value == pytest.approx(np.percentile(raw, float(percent)), abs=0.01)


def test_volumes_of_several_scales_state_no_voxel_size(place):
    raw = zarr.create_array(place / "other.zarr", data=np.zeros((3, 32, 36), "u1"))
    pairs = [(str(place / f"{name}.zarr"), str(place / "labels.zarr")) for name in ("raw", "other")]
    zarr.open_array(place / "raw.zarr", mode="r+").attrs["voxel_size_um"] = [50, 4, 4]
    raw.attrs["voxel_size_um"] = [50, 4.5, 4.5]
    assert open_labelled(pairs).voxel_size_um == pytest.approx((50, 18**0.5, 18**0.5))
    raw.attrs["voxel_size_um"] = [50, 8, 8]
    assert open_labelled(pairs).voxel_size_um is None
    del raw.attrs["voxel_size_um"]
    assert open_labelled(pairs).voxel_size_um == (None, None, None)


def test_a_finished_training_is_resumed_to_the_same_end_and_writes_nothing(place):
    out = place / "w.safetensors"
    arguments = {"config": read_config(place / "config.toml"), "resume": True}
    volumes = opened(place, validation_slices=(2, 3))
    first = train_unet(volumes, out, **arguments)
    before = out.stat().st_mtime_ns
    again = train_unet(volumes, out, **arguments)
    assert (again.step, again.finished) == (first.step, True)
    assert again.scores["mean_iou"] == first.scores["mean_iou"]
    assert out.stat().st_mtime_ns == before


def test_ranks_that_leave_early_stop_the_training_which_resumes_to_the_same_weights(place):
    config = read_config(place / "config.toml")
    train_unet(opened(place), place / "whole.safetensors", config=config)

    class Leaving:
        """The only rank; it is asked to leave after its first step."""

        rank, world_size, device, yielded = 0, 1, "cpu", "left"

        def should_stop(self):
            return True

        def should_regroup(self):
            return False

        def report(self, payload):
            pass

        def barrier(self):
            pass

    def run_ranks(function, **options):
        return [function(Leaving())]

    out = place / "parts.safetensors"
    with pytest.raises(RunStoppedError, match=r"checkpoint-00000001.* --resume"):
        train_unet(opened(place), out, config=config, run_ranks=run_ranks)
    assert not out.exists()
    train_unet(opened(place), out, config=config, resume=True)
    whole, parts = (load_weights(place / f"{name}.safetensors")[0] for name in ("whole", "parts"))
    pairs = zip(whole.parameters(), parts.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_grey_values_that_are_not_measured_are_refused(place):
    volumes = opened(place, normalisation="zscore")
    with pytest.raises(IntensityError, match=r"measured on a cluster; pass the client"):
        volumes.measured()
    with pytest.raises(TrainingError, match=r"pass volumes\.measured\(client\)"):
        train_unet(volumes, place / "w.safetensors", config=read_config(place / "config.toml"))
    assert not (place / "w.training").exists()


def test_several_ranks_need_a_cluster(place):
    config = {**read_config(place / "config.toml")}
    config["training"] = {**config["training"], "batch": 2}
    with pytest.raises(TrainingError, match=r"ranks \(2\): expected 1 .*run_ranks=partial"):
        train_unet(opened(place), place / "w.safetensors", config=config, ranks=2)


def test_a_log_that_cannot_be_continued_is_a_note_to_every_listener(place):
    heard = Heard()
    (place / "w.training").mkdir()
    (place / "w.training/log.csv").write_text("not a log")
    train_unet(
        opened(place), place / "w.safetensors", config=read_config(place / "config.toml"),
        listeners=[heard],
    )  # fmt: skip
    (note,) = [message for message in heard.messages if isinstance(message, Note)]
    assert "renamed to log.csv.damaged" in note.text


def test_the_volumes_decide_what_the_config_leaves_open(place):
    config = {"training": {"steps": 1, "patch": [12, 12]}, "class_names": ["cell", "membrane"]}
    train_unet(opened(place), place / "w.safetensors", config=config)
    info = read_weights_info(place / "w.safetensors")
    assert info.config.dims == 2, "three slices are learnt slice by slice"
    assert info.class_names == ("cell", "membrane")
    assert np.isclose(info.provenance["recipe"]["training"]["learning_rate"], 1e-3)


@pytest.mark.parametrize("error", [TrainingError, WeightsError, VolumeError, LabelError])
def test_what_fails_in_a_running_training_is_no_bad_input(error):
    with pytest.raises(TrainingFailedError, match="chunk 3"), failures_explained():
        raise error("chunk 3")


def test_labels_that_changed_since_the_checkpoint_are_noticed_wherever_they_are(tmp_path, textured):
    raw = textured((24, 150, 150))
    labels = (raw > 128).astype("u1")
    zarr.create_array(tmp_path / "raw.zarr", data=raw)
    zarr.create_array(tmp_path / "labels.zarr", data=labels)
    (tmp_path / "config.toml").write_text(CONFIG)
    settings = read_config(tmp_path / "config.toml")
    train_unet(opened(tmp_path), tmp_path / "w.safetensors", config=settings)

    stored = zarr.open_array(tmp_path / "labels.zarr")
    before = opened(tmp_path).description()
    stored[5:8, 60:90, 60:90] = 1 - labels[5:8, 60:90, 60:90]
    assert opened(tmp_path).description() == before, "no sampled box has changed"
    settings["training"]["steps"] = 6
    with pytest.raises(TrainingError, match="other labels: their values have changed"):
        train_unet(opened(tmp_path), tmp_path / "w.safetensors", config=settings, resume=True)
    stored[...] = labels
    train_unet(opened(tmp_path), tmp_path / "w.safetensors", config=settings, resume=True)
