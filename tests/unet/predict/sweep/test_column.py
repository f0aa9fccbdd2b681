"""A sweep gives the logits of the whole tile, whatever the network and the slabs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.base.errors import ConfigError
from unet import UNetConfig
from unet.network.model import UNet
from unet.predict.convolution import use_inference_convolutions
from unet.predict.runtime import has_bf16_convolutions
from unet.predict.sweep.column import ColumnSweep
from unet.predict.sweep.geometry import skip_crops
from unet.predict.sweep.steps import SweptConvolution

MOST_FLOPS = 4 * 10**8
SCALE = 2.5  # a freshly initialised network is nearly flat
MOST_LOGIT = 20.0
"""About the largest of a trained network. A random one may have 24,000, and float32 is
coarser than the bound there."""


@st.composite
def configs(draw: st.DrawFn) -> UNetConfig:
    """Draw networks of 1 to 5 levels, with kernels and poolings per level and axis."""
    dims = draw(st.sampled_from((2, 3)))
    levels = draw(st.integers(1, 5 if dims == 2 else 4))
    kernel = st.tuples(*[st.sampled_from((1, 3, 3, 5))] * dims)
    pooling = st.tuples(*[st.sampled_from((1, 2, 2, 3))] * dims)
    return UNetConfig(
        dims=dims,
        base_channels=draw(st.sampled_from((2, 3))),
        in_channels=draw(st.sampled_from((1, 2))),
        levels=levels,
        kernels=draw(st.tuples(*[kernel] * levels)),
        pooling=draw(st.tuples(*[pooling] * (levels - 1))),
        norm=draw(st.sampled_from(("none", "batch"))),
    )


def model_of(config: UNetConfig) -> UNet:
    torch.manual_seed(0)
    model = UNet(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.mul_(SCALE)
    layout = torch.channels_last if config.dims == 2 else torch.channels_last_3d
    model = model.to(memory_format=layout)  # type: ignore[call-overload]  # not in torch's stubs
    use_inference_convolutions(model)
    return model


def swept(model: UNet, x: torch.Tensor, slab: int) -> torch.Tensor:
    sweep, found = ColumnSweep(model, tuple(x.shape[3:]), slab=slab), []
    with torch.inference_mode():
        for start in range(0, x.shape[2], slab):
            logits = sweep.push(x[:, :, start : start + slab])
            if logits is not None:
                found.append(logits)
        return torch.cat(found, dim=2) if found else x[:, :, :0]


def whole(model: UNet, x: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = model(x)
        return logits


@settings(max_examples=40)
@given(config=configs(), planes=st.integers(1, 40), slab=st.integers(1, 29))
def test_a_sweep_gives_the_probabilities_of_the_whole_tile(
    config: UNetConfig, planes: int, slab: int
) -> None:
    shape = config.input_shape((planes, *(3,) * (config.dims - 1)))
    if config.flops(shape) > MOST_FLOPS:
        return
    model = model_of(config)
    x = torch.rand((1, config.in_channels, *shape), generator=torch.Generator().manual_seed(planes))
    found, expected = swept(model, x, slab), whole(model, x)
    assert found.shape == expected.shape
    large = max(1.0, float(expected.abs().max()) / MOST_LOGIT)
    np.testing.assert_allclose((found / large).softmax(1), (expected / large).softmax(1), atol=1e-5)


SOLID = UNetConfig(dims=3, base_channels=4, levels=3)


@pytest.mark.skipif(
    not has_bf16_convolutions(torch.device("cpu")), reason="precision bf16 is refused here"
)
@pytest.mark.parametrize("slab", [1, 3, 8, 200])
def test_in_bfloat16_too(slab: int) -> None:
    model = model_of(SOLID).to(torch.bfloat16)
    x = torch.rand(1, 1, *SOLID.input_shape((40, 4, 4))).to(torch.bfloat16)
    found, expected = swept(model, x, slab), whole(model, x)
    np.testing.assert_allclose(found.float().softmax(1), expected.float().softmax(1), atol=2e-2)


def test_a_history_one_plane_short_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(SOLID)
    x = torch.rand(1, 1, *SOLID.input_shape((40, 4, 4)))
    compute = SweptConvolution.compute

    def short(self: SweptConvolution, x: torch.Tensor) -> torch.Tensor | None:
        y = compute(self, x)
        if y is not None and self._kept._count > 1:
            self._kept._count -= 1
        return y

    monkeypatch.setattr(SweptConvolution, "compute", short)
    with pytest.raises(AssertionError, match="limit"):  # more planes of a skip wait than can
        swept(model, x, 8)


def test_a_history_that_is_one_plane_old_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(SOLID)
    x = torch.rand(1, 1, *SOLID.input_shape((40, 4, 4)))
    expected = whole(model, x).softmax(1)
    assert expected.std() > 0.15
    compute = SweptConvolution.compute

    def old(self: SweptConvolution, x: torch.Tensor) -> torch.Tensor | None:
        y = compute(self, x)
        if x.shape[2] > 3:
            self._kept._history[...] = x[:, :, -3:-1]
        return y

    monkeypatch.setattr(SweptConvolution, "compute", old)
    assert (swept(model, x, 8).softmax(1) - expected).abs().max() > 0.05


@given(config=configs())
def test_a_skip_loses_half_of_what_the_levels_below_crop(config: UNetConfig) -> None:
    shape = config.input_shape((1,) * config.dims)
    for level in range(config.levels - 1):
        size = list(shape)
        for below in range(level + 1):
            size = [n - 2 * (k - 1) for n, k in zip(size, config.level_kernels[below], strict=True)]
            if below < level:
                size = [n // f for n, f in zip(size, config.level_pooling[below], strict=True)]
        joined = list(config.output_shape(shape))
        for above in range(level + 1):
            if above:
                pooling = config.level_pooling[above - 1]
                joined = [n // f for n, f in zip(joined, pooling, strict=True)]
            kernels = config.level_kernels[above]
            joined = [n + 2 * (k - 1) for n, k in zip(joined, kernels, strict=True)]
        crops = tuple((n - m) // 2 for n, m in zip(size, joined, strict=True))
        assert skip_crops(config, level) == crops


def test_layers_with_statistics_of_the_tile_are_refused() -> None:
    config = UNetConfig(dims=3, base_channels=2, levels=2, norm="instance")
    with pytest.raises(ConfigError, match="instance norm"):
        ColumnSweep(UNet(config), (40, 40), slab=8)
