"""Convolutions in inference are those of torch, whichever library computes them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from unet import UNetConfig
from unet.network.model import UNet
from unet.predict import convolution
from unet.predict.convolution import convolve, use_inference_convolutions

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
def test_an_inference_convolution_is_torch_s(
    x_shape: tuple[int, ...], weight_shape: tuple[int, ...], is_channels_last: bool
) -> None:
    x, weight, bias = tensors(x_shape, weight_shape, weight_shape[:1])
    expected = (functional.conv3d if x.dim() == 5 else functional.conv2d)(x, weight, bias)
    if is_channels_last:
        layout = torch.channels_last if x.dim() == 4 else torch.channels_last_3d
        x, weight = (tensor.to(memory_format=layout) for tensor in (x, weight))
    with torch.inference_mode():
        found = convolve(x, weight, bias)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=3e-5)


@pytest.mark.parametrize("change", ["missing", "other arguments"])
def test_without_onednn_s_operator_torch_chooses(
    monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    def other(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        raise AssertionError("called")

    class Operators:
        pass

    operators = Operators()
    if change == "other arguments":
        operators.mkldnn_convolution = other  # type: ignore[attr-defined]
    monkeypatch.setattr(torch.ops, "aten", operators)
    convolution.onednn_operator.cache_clear()
    try:
        assert convolution.onednn_operator() is None
        x, weight, bias = tensors((1, 2, 6, 6, 6), (3, 2, 3, 3, 3), (3,))
        assert torch.equal(convolve(x, weight, bias), functional.conv3d(x, weight, bias))
    finally:
        monkeypatch.undo()
        convolution.onednn_operator.cache_clear()


def test_a_model_keeps_its_scores_and_its_tensors_with_inference_convolutions() -> None:
    torch.manual_seed(0)
    model = UNet(UNetConfig(dims=3, base_channels=4, levels=2, norm="batch")).eval()
    shape = model.config.input_shape((8, 8, 8))
    (x,) = tensors((1, 1, *shape))
    with torch.inference_mode():
        expected = model(x)
        kept = dict(model.named_parameters())
        use_inference_convolutions(model)
        np.testing.assert_allclose(model(x), expected, atol=1e-5)
    assert all(kept[name] is tensor for name, tensor in model.named_parameters())
