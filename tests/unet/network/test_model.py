"""The receptive field of the network, and its shift equivariance on the pooling grid."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from unet import UNet, UNetConfig
from unet.network.dropout import PatchDropout
from unet.network.model import centre_crop

CONFIGS = [
    UNetConfig(base_channels=2, levels=3),
    UNetConfig(base_channels=2, levels=2, kernels=(5, 3), pooling=3),
    UNetConfig(base_channels=2, levels=1),
    UNetConfig(
        dims=3,
        base_channels=1,
        levels=3,
        kernels=((1, 3, 3), 3, (3, 1, 3)),
        pooling=((1, 2, 2), (2, 2, 1)),
    ),
]


def receptive_field(
    config: UNetConfig, shape: tuple[int, ...], voxel: tuple[int, ...]
) -> list[range]:
    """Return, per axis, the input voxels that a score depends on, from its gradient.

    Weights are positive, so that no ReLU is 0 and nothing cancels. Max pooling would pass the
    gradient to one voxel only; mean pooling depends on the same voxels and has a gradient in all.
    """
    torch.manual_seed(0)
    model = UNet(config).eval().double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(0.5, 1.0)
    mean_pool = {2: nn.AvgPool2d, 3: nn.AvgPool3d}[config.dims]
    model.pools = nn.ModuleList(mean_pool(factors) for factors in config.level_pooling)
    x = torch.rand(1, config.in_channels, *shape, dtype=torch.double, requires_grad=True)
    model(x)[(0, 0, *voxel)].backward()
    assert x.grad is not None
    hit = torch.nonzero(x.grad[0].sum(0))
    return [range(int(axis.min()), int(axis.max()) + 1) for axis in hit.T]


def two_steps(config: UNetConfig) -> tuple[int, ...]:
    """Return an input that is two steps of the pooling grid larger than the smallest."""
    smallest = config.input_shape((1,) * config.dims)
    return tuple(size + 2 * step for size, step in zip(smallest, config.divisor, strict=True))


@pytest.mark.parametrize("config", CONFIGS)
def test_a_score_on_the_grid_depends_on_one_halo_before_it(config: UNetConfig) -> None:
    spans = receptive_field(config, two_steps(config), config.divisor)
    for span, step in zip(spans, config.divisor, strict=True):
        assert span.start == step  # the output's voxel `step` is the input's `step + halo`


@pytest.mark.parametrize("config", CONFIGS)
def test_the_last_score_depends_on_one_halo_after_it(config: UNetConfig) -> None:
    shape = two_steps(config)
    for steps_before_the_end in (0, 1):
        back = [steps_before_the_end * step for step in config.divisor]
        out = config.output_shape(shape)
        last = tuple(size - 1 - b for size, b in zip(out, back, strict=True))
        spans = receptive_field(config, shape, last)
        assert [span.stop for span in spans] == [s - b for s, b in zip(shape, back, strict=True)]


@pytest.mark.parametrize("config", CONFIGS)
def test_no_score_depends_on_more_than_the_halo_and_one_grid_step(
    config: UNetConfig,
) -> None:
    shape = two_steps(config)
    out = config.output_shape(shape)
    for offset in range(max(config.divisor)):
        voxel = tuple(min(offset, size - 1) for size in out)
        for v, span, halo, step in zip(
            voxel, receptive_field(config, shape, voxel), config.halo, config.divisor, strict=True
        ):
            assert span.start == v // step * step
            assert span.stop <= v + 2 * halo + step


@pytest.mark.parametrize("config", CONFIGS)
def test_shifting_by_the_divisor_shifts_the_scores(
    config: UNetConfig, network: Callable[..., UNet]
) -> None:
    whole, shifted = _shifted(network(config), config, config.divisor)
    assert whole.std() > 0.15
    assert torch.allclose(whole, shifted, atol=2e-6)


@pytest.mark.parametrize("config", [c for c in CONFIGS if max(c.divisor) > 1])
def test_shifting_off_the_grid_changes_the_scores(
    config: UNetConfig, network: Callable[..., UNet]
) -> None:
    for axis, step in enumerate(config.divisor):
        if step > 1:
            shift = tuple(int(number == axis) for number in range(config.dims))
            whole, shifted = _shifted(network(config), config, shift)
            assert (whole - shifted).abs().max() > 0.05


def _shifted(model: UNet, config: UNetConfig, shift: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return the overlapping probabilities of an image and of the image without its start."""
    shape = config.input_shape([2 * step + 8 for step in config.divisor])
    torch.manual_seed(1)
    larger = tuple(s + d for s, d in zip(shape, shift, strict=True))
    image = torch.rand(1, config.in_channels, *larger)
    start = image[(..., *(slice(0, s) for s in shape))]
    rest = image[(..., *(slice(d, d + s) for s, d in zip(shape, shift, strict=True)))]
    with torch.no_grad():
        first, second = (model(part).softmax(1) for part in (start, rest))
    first = first[(..., *(slice(d, None) for d in shift))]
    return first, second[(..., *(slice(0, s) for s in first.shape[2:]))]


@pytest.mark.parametrize("dims", [2, 3])
def test_initial_weights_have_he_s_standard_deviation(dims: int) -> None:
    torch.manual_seed(0)
    model = UNet(UNetConfig(dims=dims, base_channels=24, levels=2, pooling=((1, 2, 2)[-dims:],)))
    first, second = model.contracting
    for module, incoming in [
        (first.convolution_2, 24 * 3**dims),
        (second.convolution_1, 24 * 3**dims),
        (model.ups[0], 48),  # kernel = stride: one tap for each output voxel
        (model.expanding[0].convolution_1, 48 * 3**dims),
    ]:
        assert module.weight.std().item() == pytest.approx(math.sqrt(2 / incoming), rel=0.05)
        assert not module.bias.any()


def test_dropout_is_at_the_end_of_the_contracting_path_and_off_in_evaluation() -> None:
    model = UNet(UNetConfig(base_channels=1))
    named = [name for name, module in model.named_modules() if isinstance(module, PatchDropout)]
    assert named == ["contracting.3.dropout", "contracting.4.dropout"]
    quiet = UNet(UNetConfig(base_channels=1, levels=2)).eval()
    x = torch.rand(1, 1, *quiet.config.input_shape((4, 4)))
    assert torch.equal(quiet(x), quiet(x))


def test_the_skip_is_cropped_at_its_centre_and_concatenated_first() -> None:
    config = UNetConfig(base_channels=1, levels=2)
    model = UNet(config)
    x = torch.rand(1, 1, *config.input_shape((4, 4)))
    inputs: list[Tensor] = []
    model.expanding[0].register_forward_pre_hook(lambda _module, args: inputs.append(args[0]))
    with torch.no_grad():
        model.eval()(x)
        skip = model.contracting[0](x)
    size = inputs[0].shape[-1]
    cut = (skip.shape[-1] - size) // 2
    assert cut > 0
    assert skip.shape[-1] - 2 * cut == size
    assert torch.equal(inputs[0][:, :1], skip[..., cut:-cut, cut:-cut])


@pytest.mark.parametrize(
    ("shape", "kept", "layout"),
    [
        ((2, 3, 9, 10), (5, 5), torch.channels_last),
        ((1, 3, 9, 8, 7), (5, 4, 4), torch.channels_last_3d),
        ((2, 3, 9, 10), (9, 4), torch.contiguous_format),
    ],
)
def test_a_crop_s_gradient_is_that_of_a_view_in_the_skip_s_memory_layout(
    shape: tuple[int, ...], kept: tuple[int, ...], layout: torch.memory_format
) -> None:
    skip = torch.randn(shape).contiguous(memory_format=layout)
    learned = torch.relu(skip.clone().requires_grad_())
    gradients: list[Tensor] = []
    learned.register_hook(gradients.append)
    crop = centre_crop(learned, kept)
    assert torch.equal(crop, centre_crop(torch.relu(skip), kept))

    gradient = torch.randn(crop.shape).contiguous(memory_format=layout)
    crop.backward(gradient)
    expected = torch.zeros(shape)
    centre_crop(expected, kept).copy_(gradient)
    (found,) = gradients
    assert torch.equal(found, expected)
    assert found.is_contiguous(memory_format=layout)
