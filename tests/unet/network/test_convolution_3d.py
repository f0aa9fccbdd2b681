"""The laws of 3-D convolutions in training: in bfloat16, gradients of flat layers are right."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from unet import UNet, UNetConfig
from unet.network import convolution_3d
from unet.network.convolution_3d import FLAT, Convolution3d, UpConvolution3d, gradient_of_weight

LAYERS = {"down": (Convolution3d, nn.Conv3d), "up": (UpConvolution3d, nn.ConvTranspose3d)}


def layers_of(kind, inside, outside, kernel):
    """Return a layer and torch's, with the same weights."""
    ours, plain = LAYERS[kind]
    stride = kernel if kind == "up" else 1
    layer = ours(inside, outside, kernel, stride=stride)
    other = plain(inside, outside, kernel, stride=stride)
    other.load_state_dict(layer.state_dict())
    return layer, other


def gradients_of(layer, x, *, precision):
    """Return y and the gradients of x and of all parameters, as float32."""
    layer, x = copy.deepcopy(layer), x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        y = layer(x)
    toward = torch.randn(y.shape, generator=torch.Generator().manual_seed(7))
    (y.float() * toward).sum().backward()
    return [y.detach().float(), x.grad, *(p.grad for p in layer.parameters())]


def assert_near(found, wanted, *, most):
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == other.dtype
        assert float((one - other).norm()) <= most * float(other.norm())


@given(
    kind=st.sampled_from(sorted(LAYERS)), depth=st.integers(1, 3), flat=st.integers(1, 40),
    planes=st.integers(1, 3), channels=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    patches=st.integers(1, 2), channels_last=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_gradients_of_flat_layers_in_bfloat16_are_near_those_in_float32(
    kind, depth, flat, planes, channels, patches, channels_last, seed
):
    torch.manual_seed(seed)
    layer, plain = layers_of(kind, *channels, (depth, 2 + flat % 2, 3))
    planes += depth - 1
    x = torch.randn(patches, channels[0], planes, 20 + flat, FLAT * planes // 20)
    if channels_last:
        layer, x = (one.to(memory_format=torch.channels_last_3d) for one in (layer, x))
    found = gradients_of(layer, x, precision="bf16")
    assert_near(found, gradients_of(plain, x, precision="fp32"), most=0.02)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize(
    ("precision", "shape"), [("bf16", (9, 30, 30)), ("fp32", (9, 30, 30)), ("fp32", (2, 40, 60))]
)
def test_all_other_layers_are_torchs_bit_for_bit(kind, precision, shape):
    layer, plain = layers_of(kind, 3, 4, (1, 2, 2))
    x = torch.randn(1, 3, *shape)
    found, wanted = (gradients_of(one, x, precision=precision) for one in (layer, plain))
    for one, other in zip(found, wanted, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("shape", [(6, 268, 204), (1, 300, 300)])
def test_a_network_for_thin_sections_learns_from_wide_patches_in_bfloat16(shape):
    """Torch's gradients of the weights ended the process here, on processors with AMX."""
    torch.manual_seed(0)
    kernels = ((1, 3, 3), (1, 3, 3), 3 if shape[0] > 1 else (1, 3, 3))
    network = UNetConfig(
        dims=3, base_channels=4, levels=3, kernels=kernels, pooling=((1, 2, 2),) * 2
    )
    model = UNet(network).to(memory_format=torch.channels_last_3d)
    x = torch.randn(1, 1, *shape)
    gradients = []
    for precision in ("bf16", "fp32"):
        model.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            y = model(x)
        y.float().square().mean().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert_near(*gradients, most=0.15)


@pytest.mark.parametrize("setting", [{"padding": 1}, {"stride": 2}, {"dilation": 2}, {"groups": 2}])
def test_other_convolutions_are_refused(setting):
    with pytest.raises(ValueError, match="without padding, strides, dilation and groups"):
        Convolution3d(2, 2, 3, **setting)(torch.zeros(1, 2, 9, 9, 9))


@pytest.mark.parametrize(("stride", "is_flat"), [((2, 1, 1), False), ((1, 2, 2), True)])
def test_a_transposed_layer_is_flat_by_the_planes_of_its_result(stride, is_flat, monkeypatch):
    shapes = []

    def seen(x, *others, **options):
        shapes.append(x.shape)
        return gradient_of_weight(x, *others, **options)

    monkeypatch.setattr(convolution_3d, "gradient_of_weight", seen)
    layer, plain = layers_of("up", 2, 2, stride)
    x = torch.randn(1, 2, 2, 30, FLAT // 15)  # as flat as the rule allows
    found = gradients_of(layer, x, precision="bf16")
    assert_near(found, gradients_of(plain, x, precision="fp32"), most=0.02)
    assert shapes == [x.shape] * is_flat
