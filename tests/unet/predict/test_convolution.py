"""Convolutions in inference are those of torch, whichever library computes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional

from unet import UNetConfig
from unet.network.config import Norm
from unet.network.model import UNet
from unet.predict import convolution
from unet.predict.convolution import (
    InferenceConvolution,
    convolve,
    convolve_up,
    fold_batch_norms,
    use_inference_convolutions,
)

BATCH_NORMS = torch.nn.BatchNorm2d | torch.nn.BatchNorm3d

CASES = {
    # x and weight; torch leaves oneDNN for the second, an image of 6 x 20 x 20 <= 20480
    "2-D, two images": ((2, 3, 9, 11), (4, 3, 3, 3)),
    "3-D, small": ((1, 6, 20, 20, 20), (5, 6, 3, 3, 3)),
    "3-D, kernel 1 in z": ((1, 16, 5, 12, 9), (16, 16, 1, 3, 3)),
}


def tensors(*shapes: tuple[int, ...]) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=random) for shape in shapes]


@pytest.mark.parametrize(("x_shape", "weight_shape"), CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("is_channels_last", [True, False])
@pytest.mark.parametrize("relu", [True, False])
def test_an_inference_convolution_is_torch_s(
    x_shape: tuple[int, ...], weight_shape: tuple[int, ...], is_channels_last: bool, relu: bool
) -> None:
    x, weight, bias = tensors(x_shape, weight_shape, weight_shape[:1])
    expected = (functional.conv3d if x.dim() == 5 else functional.conv2d)(x, weight, bias)
    if relu:
        expected = expected.relu()
    if is_channels_last:
        layout = torch.channels_last if x.dim() == 4 else torch.channels_last_3d
        x, weight = (tensor.to(memory_format=layout) for tensor in (x, weight))
    with torch.inference_mode():
        found = convolve(x, weight, bias, relu=relu)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=3e-5)


def no_operator(*arguments: object) -> torch.Tensor:
    raise TypeError("other arguments")


def other_values(x: torch.Tensor, *arguments: object) -> torch.Tensor:
    return torch.zeros(1, 2, 1, 1)


@pytest.fixture
def forgets_operators() -> Iterator[None]:
    convolution.onednn_operator.cache_clear()
    convolution.onednn_up_operator.cache_clear()
    yield
    convolution.onednn_operator.cache_clear()
    convolution.onednn_up_operator.cache_clear()


@pytest.mark.usefixtures("forgets_operators")
@pytest.mark.parametrize("operator", [None, no_operator, other_values])
@pytest.mark.parametrize("relu", [True, False])
def test_without_onednn_s_operator_torch_chooses(
    monkeypatch: pytest.MonkeyPatch, operator: Callable[..., torch.Tensor] | None, relu: bool
) -> None:
    operators = {} if operator is None else {"mkldnn_convolution": operator}
    fused = {} if operator is None else {"_convolution_pointwise": operator}
    with monkeypatch.context() as patch:
        patch.setattr(torch.ops, "aten", SimpleNamespace(**operators))
        patch.setattr(torch.ops, "mkldnn", SimpleNamespace(**fused))
        assert convolution.onednn_operator(relu=relu) is None
        x, weight, bias = tensors((1, 2, 6, 6, 6), (3, 2, 3, 3, 3), (3,))
        found = convolve(x, weight, bias, relu=relu)
    expected = functional.conv3d(x, weight, bias)
    assert torch.equal(found, expected.relu() if relu else expected)


@pytest.mark.usefixtures("forgets_operators")
def test_without_the_operator_that_applies_a_relu_the_other_one_does_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, weight, bias = tensors((1, 2, 9, 9), (3, 2, 3, 3), (3,))
    expected = convolve(x, weight, bias, relu=True)
    convolution.onednn_operator.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(torch.ops, "mkldnn", SimpleNamespace())
        found = convolve(x, weight, bias, relu=True)
        assert convolution.onednn_operator(relu=False) is not None
    assert torch.equal(found, expected)


@pytest.mark.parametrize(("norm", "fused"), [("none", True), ("instance", False)])
def test_a_convolution_applies_the_relu_that_directly_follows_it(norm: Norm, fused: bool) -> None:
    model = UNet(UNetConfig(dims=2, base_channels=4, levels=2, norm=norm)).eval()
    use_inference_convolutions(model)
    layers = [layer for layer in model.modules() if isinstance(layer, InferenceConvolution)]
    assert [layer.relu for layer in layers] == [fused] * 6 + [False]  # the last is the head
    assert any(isinstance(layer, torch.nn.ReLU) for layer in model.modules()) is not fused


@pytest.mark.parametrize("norm", ["none", "batch", "instance"])
def test_a_model_keeps_its_scores_and_its_tensors_with_inference_convolutions(norm: Norm) -> None:
    torch.manual_seed(0)
    model = UNet(UNetConfig(dims=3, base_channels=4, levels=2, norm=norm)).eval()
    shape = model.config.input_shape((8, 8, 8))
    (x,) = tensors((1, 1, *shape))
    with torch.inference_mode():
        expected = model(x)
        kept = dict(model.named_parameters())
        use_inference_convolutions(model)
        np.testing.assert_allclose(model(x), expected, atol=1e-5)
    assert all(kept[name] is tensor for name, tensor in model.named_parameters())


UPS = {
    "2-D, two images": ((2, 6, 5, 7), (6, 3, 2, 2), (2, 2)),
    "3-D, small": ((1, 16, 4, 30, 20), (16, 8, 2, 2, 2), (2, 2, 2)),
    "3-D, not in z": ((1, 6, 5, 4, 3), (6, 3, 1, 2, 3), (1, 2, 3)),
}


@pytest.mark.parametrize(("x_shape", "weight_shape", "stride"), UPS.values(), ids=UPS.keys())
@pytest.mark.parametrize("is_channels_last", [True, False])
def test_an_inference_up_convolution_is_torch_s(
    x_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    stride: tuple[int, ...],
    is_channels_last: bool,
) -> None:
    x, weight, bias = tensors(x_shape, weight_shape, weight_shape[1:2])
    torch_s = functional.conv_transpose3d if x.dim() == 5 else functional.conv_transpose2d
    expected = torch_s(x, weight, bias, stride)
    if is_channels_last:
        layout = torch.channels_last if x.dim() == 4 else torch.channels_last_3d
        x, weight = (tensor.to(memory_format=layout) for tensor in (x, weight))
    with torch.inference_mode():
        found = convolve_up(x, weight, bias, stride=stride)
    assert found.is_contiguous(memory_format=layout) if is_channels_last else True
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=3e-5)


@pytest.mark.usefixtures("forgets_operators")
@pytest.mark.parametrize("operator", [None, no_operator, other_values])
def test_without_onednn_s_up_convolution_torch_chooses(
    monkeypatch: pytest.MonkeyPatch, operator: Callable[..., torch.Tensor] | None
) -> None:
    x, weight, bias = tensors((1, 4, 3, 3, 3), (4, 2, 2, 2, 2), (2,))
    operators = {} if operator is None else {"_convolution_transpose_pointwise": operator}
    with monkeypatch.context() as patch:
        patch.setattr(torch.ops, "mkldnn", SimpleNamespace(**operators))
        assert convolution.onednn_up_operator() is None
        found = convolve_up(x, weight, bias, stride=(2, 2, 2))
    assert torch.equal(found, functional.conv_transpose3d(x, weight, bias, 2))


@pytest.mark.parametrize("dims", [2, 3])
def test_a_batch_norm_becomes_part_of_its_convolution_which_then_applies_the_relu(
    dims: int,
) -> None:
    torch.manual_seed(0)
    config = UNetConfig(dims=dims, base_channels=4, levels=2, norm="batch", dropout=0.5)
    model = UNet(config).eval()
    norms = [one for one in model.modules() if isinstance(one, BATCH_NORMS)]
    assert len(norms) == 6
    for one in norms:
        torch.nn.init.uniform_(one.running_mean, -1, 1)
        torch.nn.init.uniform_(one.running_var, 0.3, 3)
        torch.nn.init.uniform_(one.weight, 0.5, 2)
        torch.nn.init.uniform_(one.bias, -1, 1)
    (x,) = tensors((1, 1, *config.input_shape((8,) * dims)))
    with torch.inference_mode():
        expected = model(x)
        fold_batch_norms(model)
        use_inference_convolutions(model)
        assert not any(isinstance(one, BATCH_NORMS) for one in model.modules())
        layers = [one for one in model.modules() if isinstance(one, InferenceConvolution)]
        assert [one.relu for one in layers] == [True] * 6 + [False]
        assert expected.std() > 0.1
        np.testing.assert_allclose(model(x), expected, atol=1e-5 * float(expected.abs().max()))
