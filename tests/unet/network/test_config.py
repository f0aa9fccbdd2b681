"""The config's geometry and costs equal those of the torch module."""

from __future__ import annotations

import itertools
import json
import math
import weakref
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from pipeline.base.errors import ConfigError
from unet import UNet, UNetConfig
from unet.network.axis import AxisGeometry
from unet.network.cost import layer_elements, layers, tensor_shapes

few = settings(max_examples=15, deadline=None)


@st.composite
def small_configs(draw: st.DrawFn) -> UNetConfig:
    dims, levels = draw(st.sampled_from([2, 3])), draw(st.integers(1, 3))

    def rows(sizes: list[int], count: int) -> tuple[tuple[int, ...], ...]:
        row = st.tuples(*[st.sampled_from(sizes)] * dims)
        return tuple(draw(row) for _ in range(count))

    return UNetConfig(
        dims=dims,
        levels=levels,
        base_channels=1,
        kernels=rows([1, 3] if dims == 3 else [1, 3, 5], levels),
        pooling=rows([1, 2] if dims == 3 else [1, 2, 3], levels - 1),
    )


def test_the_paper_s_network_takes_572_to_388_with_31_million_parameters() -> None:
    config = UNetConfig()
    assert config.output_shape((572, 572)) == (388, 388)
    assert config.input_shape((388, 388)) == (572, 572)
    assert (config.halo, config.divisor) == ((92, 92), (16, 16))
    assert config.parameters == 31_030_658
    assert config.flops((572, 572)) == pytest.approx(301e9, rel=0.005)


def test_tensors_and_parameters_follow_from_the_config(config: UNetConfig) -> None:
    model = UNet(config)
    assert tensor_shapes(config) == {n: tuple(t.shape) for n, t in model.state_dict().items()}
    assert config.parameters == sum(p.numel() for p in model.parameters())


@few
@given(config=small_configs())
def test_valid_inputs_give_the_stated_output_and_others_are_refused(
    config: UNetConfig,
) -> None:
    model = UNet(config)
    first = config.input_shape((1,) * config.dims)
    for number in range(config.dims):
        for more in range(-1, config.divisor[number] + 1):
            shape = tuple(s + more * (axis == number) for axis, s in enumerate(first))
            x = torch.zeros(1, 1, *shape)
            if more in (0, config.divisor[number]):
                with torch.no_grad():
                    assert model(x).shape[2:] == config.output_shape(shape)
            else:
                with pytest.raises(ConfigError, match=f"size {shape[number]} on axis {number}"):
                    config.output_shape(shape)
                with pytest.raises(ConfigError):
                    model(x)


@given(
    kernels=st.lists(st.sampled_from([1, 3, 5, 7]), min_size=1, max_size=5),
    factors=st.lists(st.integers(1, 4), min_size=4, max_size=4),
    size=st.integers(1, 600),
)
def test_axis_geometry_equals_the_layers_applied_in_sequence(
    kernels: list[int], factors: list[int], size: int
) -> None:
    pooling = factors[: len(kernels) - 1]
    axis = AxisGeometry(tuple(kernels), tuple(pooling))
    out = _walk(kernels, pooling, size)
    assert axis.is_valid_input(size) == (out is not None)
    if out is not None:
        assert size - out == 2 * axis.halo
        assert axis.input_size(out) == size
        assert axis.input_size(out + 1) == size + axis.divisor
    assert size in axis.nearest_valid_inputs(size) or out is None
    assert all(_walk(kernels, pooling, near) for near in axis.nearest_valid_inputs(size))


def _walk(kernels: list[int], pooling: list[int], size: int) -> int | None:
    """Return the output size of an axis, layer by layer; None for an invalid input."""
    for kernel, factor in itertools.zip_longest(kernels, pooling, fillvalue=1):
        size -= 2 * (kernel - 1)
        if size < 1 or size % factor:
            return None
        size //= factor
    for kernel, factor in reversed(list(zip(kernels, pooling, strict=False))):
        size = size * factor - 2 * (kernel - 1)
    return size if size > 0 else None


def test_flops_equal_torch_s_count(config: UNetConfig) -> None:
    shape = config.input_shape((2,) * config.dims)
    model = UNet(config).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, config.in_channels, *shape))
    assert config.flops(shape) == counter.get_total_flops()


@few
@given(config=small_configs(), data=st.data())
def test_elements_counted_along_each_axis_are_those_of_the_layers(
    config: UNetConfig, data: st.DataObject
) -> None:
    sizes = [data.draw(st.integers(1, 60)) for _ in range(config.dims)]
    shape = config.input_shape(sizes)
    stated = [layer.out_channels * math.prod(layer.out_shape) for layer in layers(config, shape)]
    assert list(layer_elements(config, shape)) == stated


def test_layers_list_the_modules_outputs_in_order(config: UNetConfig) -> None:
    shape = config.input_shape((2,) * config.dims)
    model, seen = UNet(config).eval(), []
    for name, module in model.named_modules():
        if not list(module.children()) and "relu" not in name and "norm" not in name:
            hook = lambda _m, _i, out, name=name: seen.append((name, tuple(out.shape)))  # noqa: E731
            module.register_forward_hook(hook)
    with torch.no_grad():
        model(torch.zeros(1, config.in_channels, *shape))
    stated = [
        (layer.name, (1, layer.out_channels, *layer.out_shape))
        for layer in layers(config, shape)
        if layer.kind != "join"
    ]
    assert stated == [entry for entry in seen if "dropout" not in entry[0]]


def test_peak_activations_of_the_paper_s_network_are_at_the_last_concatenation() -> None:
    # the image, the skip of 568², the up-convolution of 392², and both concatenated
    peak = 572**2 + 64 * (568**2 + 392**2) + 128 * 392**2
    assert UNetConfig().peak_activation_elements((572, 572)) == peak


class Alive(TorchDispatchMode):
    """Counts the elements of all activations that are alive after each operation."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._references: Counter[int] = Counter()
        self._elements: dict[int, int] = {}

    def __torch_dispatch__(  # type: ignore[no-untyped-def]
        self, func, types, args=(), kwargs=None
    ):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if tensor.is_floating_point():
                address = tensor.untyped_storage().data_ptr()
                self._elements[address] = tensor.untyped_storage().nbytes() // tensor.itemsize
                self._references[address] += 1
                weakref.finalize(tensor, self._release, address)
        self.peak = max(self.peak, sum(self._elements.values()))
        return out

    def _release(self, address: int) -> None:
        self._references[address] -= 1
        if not self._references[address]:
            del self._elements[address]


def test_peak_activations_equal_the_tensors_alive_in_torch(config: UNetConfig) -> None:
    shape = config.input_shape((40 // config.dims,) * config.dims)
    model = UNet(config).eval()
    image = torch.zeros(1, config.in_channels, *shape)
    with torch.inference_mode(), Alive() as alive:
        model(image)
    stated = config.peak_activation_elements(shape)
    assert stated == pytest.approx(image.numel() + alive.peak, rel=0.01)


def test_valid_sizes_step_by_the_divisor() -> None:
    assert UNetConfig().valid_input_sizes(0, at_least=560) == (572, 588, 604)
    with pytest.raises(ConfigError, match="size 580 on axis 1, expected 572 or 588"):
        UNetConfig().output_shape((572, 580))


def test_short_forms_of_kernels_and_pooling_mean_the_same_network() -> None:
    assert UNetConfig(levels=2, kernels=3, pooling=2) == UNetConfig(
        levels=2, kernels=(3, [3, 3]), pooling=[(2, 2)]
    )
    config = UNetConfig(dims=3, levels=3, kernels=((1, 3, 3), 3, 3), pooling=((1, 2, 2), 2))
    assert config.kernels == ((1, 3, 3), (3, 3, 3), (3, 3, 3))
    assert hash(config) == hash(UNetConfig.from_dict(config.to_dict()))


def test_a_config_is_unchanged_by_json(config: UNetConfig) -> None:
    assert UNetConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dims", 4),
        ("in_channels", 0),
        ("classes", 0),
        ("classes", 257),
        ("in_channels", 10**12),
        ("base_channels", 10**12),
        ("levels", 10**12),
        ("kernels", 65),
        ("kernels", (3, 3, 3, 3, (3, 10**9 + 1))),
        ("pooling", 10**9),
        ("base_channels", 2.5),
        ("levels", 0),
        ("levels", True),
        ("kernels", 4),
        ("kernels", (3, 3)),
        ("kernels", "33333"),
        ("kernels", (3, 3, 3, 3, (3, 3, 3))),
        ("pooling", 0),
        ("pooling", (2, 2, 2)),
        ("pooling", None),
        ("norm", "layer"),
        ("dropout", 1.0),
        ("dropout", "0.5"),
    ],
)
def test_invalid_settings_are_refused_in_one_line(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=field.removesuffix("s")) as caught:
        UNetConfig(**{field: value})  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_a_network_too_large_for_any_worker_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"has [\d,]+ parameters: at most 10,000,000,000 fit"):
        UNetConfig(base_channels=4096, levels=8)


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(ConfigError, match="depth"):
        UNetConfig.from_dict({"depth": 5})


def test_norms_that_depend_on_the_tile_are_named() -> None:
    assert UNetConfig(norm="batch").tile_dependent_layers == ()
    assert UNetConfig(norm="instance").tile_dependent_layers == ("instance norm",)
    assert UNetConfig(norm="group").tile_dependent_layers == ("group norm",)
