"""`overtile train --from`: the lines at the start, and the normalisation of the weights."""

from __future__ import annotations

import pytest
import torch

from flows.options.train import LabelledVolume, TrainOptions
from flows.text.training import start_lines
from flows.training.prepare import prepare_training
from unet import UNet, UNetConfig, read_weights_info, save_weights

CONFIG = """
[training]
steps = 2
patch = [12, 12]
batch = 1
"""
NETWORK = UNetConfig(dims=2, base_channels=2, levels=2)
RANGE = {"kind": "range", "low": 0, "high": 200}


@pytest.fixture(scope="module")
def place(labelled_folder):
    """Return a folder with a volume, its labels, a config and weights of membranes."""
    folder = labelled_folder(CONFIG, depth=3)
    torch.manual_seed(0)
    save_weights(
        UNet(NETWORK), folder / "start.safetensors", normalisation=RANGE,
        class_names=["cell", "membrane"], voxel_size_um=[0.004, 0.004],
    )  # fmt: skip
    return folder


@pytest.fixture
def prepared(place, tmp_path):
    """Return a function from options to the training."""

    def prepare(**options):
        pair = LabelledVolume(volume=str(place / "raw.zarr"), labels=str(place / "labels.zarr"))
        given = {
            "config": str(place / "config.toml"),
            "start_from": str(place / "start.safetensors"),
        }
        settings = TrainOptions(**{**given, **options})
        return prepare_training([pair], str(tmp_path / "w.safetensors"), settings)

    return prepare


def line_of(training):
    (line,) = [line for line in start_lines(training) if line.startswith("start")]
    return line


def test_the_start_is_one_line_that_names_what_is_taken_over(place, prepared):
    digest = read_weights_info(place / "start.safetensors").digest[:12]
    begin = f"starting from start.safetensors (sha256 {digest}…): "
    assert line_of(prepared()) == f"{begin}all layers"
    assert line_of(prepared(freeze="contracting")) == (
        f"{begin}all layers; the contracting path is frozen"
    )
    assert line_of(prepared(class_names=["cell", "membrane"])) == f"{begin}all layers"
    assert line_of(prepared(class_names=["rest", "nucleus"])) == (
        f"{begin}contracting and expanding path; a fresh head, as the classes are rest, nucleus, "
        "those of the weights cell, membrane"
    )
    assert not [line for line in start_lines(prepared(start_from=None)) if line.startswith("start")]


def test_the_network_is_that_of_the_weights(prepared):
    assert prepared().recipe.network == NETWORK


def test_the_volumes_are_normalised_as_those_of_the_weights_unless_overridden(prepared):
    taken_over = prepared()
    assert dict(taken_over.volumes.normalisation) == {"kind": "range", "low": 0, "high": 200}
    assert taken_over.notes == ()
    own = prepared(normalisation="range:0:255")
    assert own.volumes.normalisation["high"] == 255
    assert own.notes == (
        "the weights start.safetensors were trained with normalisation range:0:200; this training "
        "uses range:0:255",
    )
