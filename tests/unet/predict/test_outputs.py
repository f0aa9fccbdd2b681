"""Laws of networks whose outputs are not classes: their scores, in tiles as in the whole."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import pipeline
from pipeline.base.errors import ConfigError, WeightsError
from pipeline.base.network_outputs import NetworkOutputs
from pipeline.base.tile_request import TileRequest
from pipeline.models.host_path import planes_on_host
from pipeline.models.protocol import outputs_of
from unet import UNet, UNetConfig, UNetPredictor, load_weights, read_weights_info, save_weights

AFFINITIES = NetworkOutputs(kind="affinities", offsets=((-1, 0, 0), (0, -1, 0), (0, 0, -2)))
CASES = {
    "affinities of slices": (
        NetworkOutputs(kind="affinities", offsets=((-1, 0), (0, -1), (0, -5), (3, 3))),
        UNetConfig(base_channels=4, levels=3, classes=4),
    ),
    "affinities": (AFFINITIES, UNetConfig(dims=3, base_channels=4, levels=2, classes=3)),
    "distance": (NetworkOutputs(kind="distance"), UNetConfig(base_channels=4, levels=2, classes=1)),
    "centre": (
        NetworkOutputs(kind="centre"),
        UNetConfig(dims=3, base_channels=4, levels=2, classes=1),
    ),
}


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def written(request, tmp_path) -> tuple[NetworkOutputs, UNet, Path]:
    """The outputs, a network whose scores vary, and its weights file."""
    outputs, config = request.param
    torch.manual_seed(3)
    model = UNet(config, outputs).eval()
    vary(model)
    path = tmp_path / "w.safetensors"
    save_weights(model, path, normalisation={"kind": "none"})
    return outputs, model, path


def vary(model: UNet) -> None:
    """Scale the last layer of a fresh network so that its scores vary: logits of deviation 2."""
    config = model.config
    with torch.no_grad():
        logits = model(torch.rand(1, config.in_channels, *config.input_shape((16,) * config.dims)))
        space = tuple(range(2, logits.ndim))
        scale = 2 / logits.std(dim=space).mean()
        model.head.weight.mul_(scale)
        model.head.bias.sub_(logits.mean(dim=space)[0]).mul_(scale)


def predictor_of(path: Path) -> UNetPredictor:
    return UNetPredictor(str(path), precision="fp32", device="cpu")


def test_weights_state_what_the_channels_are(written):
    outputs, _, path = written
    info = read_weights_info(path)
    model, same = load_weights(path)
    assert info.outputs == same.outputs == model.outputs == outputs
    assert info.class_names == outputs.names
    length = int.from_bytes(path.read_bytes()[:8], "little")
    stated = json.loads(path.read_bytes()[8 : 8 + length])["__metadata__"]
    assert json.loads(stated["outputs"]) == outputs.kind
    assert json.loads(stated["activation"]) == "sigmoid"
    if outputs.offsets:
        assert json.loads(stated["offsets"]) == [list(offset) for offset in outputs.offsets]


def test_weights_of_classes_state_nothing_new(tmp_path):
    save_weights(UNet(UNetConfig(base_channels=2, levels=2)), tmp_path / "w.safetensors")
    assert b"activation" not in (tmp_path / "w.safetensors").read_bytes()
    assert read_weights_info(tmp_path / "w.safetensors").outputs == NetworkOutputs()


def test_a_predictor_states_offsets_along_all_axes_and_scores_are_the_sigmoid(written):
    outputs, model, path = written
    predictor = predictor_of(path)
    assert outputs_of(predictor) == outputs.in_zyx()
    x = torch.rand(1, 1, *model.config.input_shape((9,) * model.config.dims))
    with torch.no_grad():
        wanted = 1 / (1 + np.exp(-model(x).double().numpy()))
    tiles = x.numpy() if model.config.dims == 3 else x.numpy()[:, :, None]
    found = predictor(tiles)
    np.testing.assert_allclose(found.reshape(wanted.shape), wanted, atol=1e-5)


def test_tiled_scores_equal_whole_ones(written):
    _, _, path = written
    assert pipeline.check_predictor(predictor_of(path)) <= 1e-5


@pytest.mark.parametrize("traversal", ["tiles", "sweep"])
def test_the_device_stores_the_bits_of_the_scores_in_tiles_and_in_sweeps(
    written, traversal, textured
):
    _, model, path = written
    if traversal == "sweep" and model.config.dims == 2:
        pytest.skip("2-D networks are not swept")
    predictor, core = predictor_of(path), (11, 9, 7)
    raw = textured((1, *predictor.input_shape(core)))
    outputs = (("scores", "uint8"), ("scores", "float32"))
    request = TileRequest(offset=(0.0,), scale=(1 / 255,), outputs=outputs, traversal=traversal)
    shapes = {"input_shape": raw.shape[1:], "core_shape": core}

    def read(start, stop):
        return raw[:, start:stop]

    found = list(predictor.stored_planes(read, request, **shapes))
    wanted = list(planes_on_host(predictor, read, request, turn=contextlib.nullcontext, **shapes))
    for number in range(len(outputs)):
        one, other = (
            np.concatenate([planes.outputs[number] for planes in parts], axis=1)
            for parts in (found, wanted)
        )
        assert one.dtype == other.dtype == outputs[number][1]
        np.testing.assert_array_equal(one, other)
    assert other.std() > 0.02
    assert 0 <= other.min() < other.max() <= 1


def test_a_sweep_gives_the_scores_of_the_whole_tile(written):
    _, model, path = written
    if model.config.dims == 2:
        pytest.skip("2-D networks are not swept")
    predictor = predictor_of(path)
    x = np.random.default_rng(0).random((1, 1, *predictor.input_shape((13, 8, 6))), np.float32)
    swept = np.concatenate(list(predictor.sweep(lambda a, b: x[0, :, a:b], x.shape[2:])), axis=1)
    np.testing.assert_allclose(swept, predictor(x)[0], atol=1e-6)


def test_the_mean_over_turned_tiles_has_the_same_outputs(written):
    *_, path = written
    predictor = predictor_of(path)
    assert outputs_of(pipeline.with_tta(predictor, "full")) == outputs_of(predictor)


@pytest.mark.parametrize(
    ("config", "outputs", "line"),
    [
        (UNetConfig(base_channels=2, levels=2, classes=1), NetworkOutputs(), "1 class: expected 2"),
        (UNetConfig(base_channels=2, levels=2), AFFINITIES, r"offset \[-1, 0, 0\]: expected 2 st"),
        (UNetConfig(dims=3, base_channels=2, levels=2), AFFINITIES, "2 output channels for aff"),
    ],
)
def test_a_network_that_does_not_fit_its_outputs_is_refused(config, outputs, line):
    with pytest.raises(ConfigError, match=line):
        UNet(config, outputs)


def test_names_of_another_number_of_channels_are_refused(written, tmp_path):
    _, model, _ = written
    with pytest.raises(WeightsError, match=r"expected \d, one per channel$"):
        save_weights(model, tmp_path / "other.safetensors", class_names=["a"] * 9)
