"""Padded networks leave no seam, and a model's statements are verified."""

import threading
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pytest
import torch
import zarr

import pipeline
from pipeline.base.errors import ConfigError
from pipeline.models.protocol import Predictor
from unet import UNet, UNetConfig, UNetPredictor, save_weights

SCALE = 3.0
"""A freshly initialised network is nearly flat, and would hide any seam."""


@lru_cache
def padded_network(dims, pool):
    """A small U-Net with zero padding: as many scores as voxels, three classes."""
    conv = {2: torch.nn.Conv2d, 3: torch.nn.Conv3d}[dims]
    torch.manual_seed(1)
    convolutions = [conv(a, b, 3, padding=1) for a, b in ((1, 4), (4, 8), (12, 6), (6, 3))]
    for one in convolutions:
        torch.nn.init.normal_(one.weight, std=SCALE / one.weight[0].numel() ** 0.5)
    first, bottom, up, last = convolutions
    pooling = {2: torch.nn.MaxPool2d, 3: torch.nn.MaxPool3d}[dims](pool)

    def run(x):
        skip = first(x).relu()
        coarse = bottom(pooling(skip)).relu()
        wide = torch.nn.functional.interpolate(coarse, scale_factor=pool, mode="nearest")
        return last(up(torch.cat([skip, wide], dim=1)).relu()).softmax(dim=1)

    return run


@dataclass(frozen=True)
class Padded:
    """Sent to the workers: small, and loads its model on the first call."""

    dims: int
    pool: int = 4

    def __call__(self, x):
        with torch.inference_mode():
            return padded_network(self.dims, self.pool)(torch.from_numpy(x)).numpy()


# A score depends on 2 voxels through the last two convolutions, from there on a cell of `pool` and
# one to each side, and on 1 through the first convolution: 3 + 2 * pool - 1 at most.
def same_padded(dims, *, pool=4, **changes):
    stated = {
        "network": Padded(dims, pool), "digest": "0", "in_channels": 1,
        "class_names": ("background", "cell", "border"), "context": (2 + 2 * pool,) * dims,
        "own_divisor": (pool,) * dims, "flops_per_voxel": 5000, "bytes_per_voxel": 200,
    }  # fmt: skip
    return pipeline.SamePadded(**(stated | changes))


def whole_scores(dims, raw_zyx, *, pad=24):
    """The padded network on the whole mirrored volume, far from any zero."""
    x = raw_zyx.astype(np.float32)[None] / 255
    images = np.moveaxis(x, 1, 0) if dims == 2 else x[None]
    sizes = images.shape[2:]
    pads = [(pad, pad + -n % 4) for n in sizes]
    padded = np.pad(images, [(0, 0), (0, 0), *pads], mode="reflect")
    scores = Padded(dims)(padded)
    scores = scores[(slice(None), slice(None), *(slice(pad, pad + n) for n in sizes))]
    return np.moveaxis(scores, 0, 1) if dims == 2 else scores[0]


@pytest.mark.parametrize("engine", ["store", "map_overlap"])
@pytest.mark.parametrize("dims", [2, 3])
def test_a_padded_network_leaves_no_seam(dims, engine, textured, tmp_path):
    raw = textured((1, 7, 21, 26))[0]
    zarr.create_array(tmp_path / "in.zarr", data=raw)
    predictor = same_padded(dims, normalisation={"kind": "range", "low": 0, "high": 255})
    assert isinstance(predictor, Predictor)
    pipeline.segment_volume(
        str(tmp_path / "in.zarr"), str(tmp_path / "out.zarr"), predictor, block=(4, 16, 16),
        tile=(4, 8, 16), outputs=("scores",), scores_dtype="float32", engine=engine,
    )  # fmt: skip
    expected = whole_scores(dims, raw)
    assert expected.std() > 0.15
    stored = zarr.open_array(tmp_path / "out.zarr/0", mode="r")[...]
    np.testing.assert_allclose(stored, expected, atol=1e-5)


@pytest.mark.parametrize("network", ["2d", "2d-rgb", "3d", "3d-anisotropic"])
def test_the_statements_of_our_own_predictors_are_true(network, weights):
    predictor = UNetPredictor(weights(network), precision="fp32", device="cpu")
    assert pipeline.check_predictor(predictor) <= 1e-5


@pytest.mark.parametrize("dims", [2, 3])
def test_the_statements_of_a_padded_network_are_true(dims, textured):
    assert pipeline.check_predictor(same_padded(dims)) <= 1e-5
    image = textured((1, 6, 14, 17)).astype(np.float32) / 255
    assert pipeline.check_predictor(same_padded(dims), image=image) <= 1e-5
    turned = pipeline.with_tta(same_padded(dims), "rotations")
    assert pipeline.check_predictor(turned) <= 1e-5


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(
    "untrue",
    [{"context": 4}, {"context": 0}, {"pool": 4, "own_divisor": 2}, {"pool": 4, "own_divisor": 1}],
    ids=str,
)
def test_a_wrong_halo_or_divisor_is_found(dims, untrue):
    sizes = {name: (n,) * dims for name, n in untrue.items() if name != "pool"}
    # The network takes any size, so that only the scores can reveal the error.
    with pytest.raises(ConfigError, match=r"tiled scores differ.*halo .* is too small") as caught:
        pipeline.check_predictor(same_padded(dims, network=AnySize(dims), **sizes))
    assert "\n" not in str(caught.value)


class AnySize(Padded):
    """Pads inputs with zeros at the end to a multiple of the pooling."""

    def __call__(self, x):
        sizes = x.shape[2:]
        padded = np.pad(x, [(0, 0), (0, 0), *((0, -n % self.pool) for n in sizes)])
        return super().__call__(padded)[(..., *(slice(n) for n in sizes))]


class Logits(Padded):
    def __call__(self, x):
        return 5 * super().__call__(x)


class Flat(Padded):
    def __call__(self, x):
        return np.full_like(super().__call__(x), 1 / 3)


class OneClass(Padded):
    def __call__(self, x):
        return super().__call__(x)[:, :1]


class LooksAtTheTile(Padded):
    def __call__(self, x):
        return super().__call__((x - x.mean()) / x.std())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": Logits(2)}, r"scores from .* are not probabilities: end with softmax"),
        ({"network": Flat(2)}, r"hardly vary .*pass image="),
        ({"network": OneClass(2)}, r"returned 2×1×.*expected 2×3×.*padded network of 3 classes"),
        ({"network": LooksAtTheTile(2)}, r"tiled scores differ.*uses the whole tile"),
        ({"own_divisor": (6, 6)}, r"failed for 1×2×\d+×\d+, a size from its input_shape"),
        ({"network": threading.Lock()}, r"cannot be pickled for a worker.*load the model on"),
        (
            {"tile_dependent_layers": ("instance norm",)},
            r"instance norm.*tiled scores differ from whole",
        ),
        ({"context": (10, 10, 10)}, r"expected both as \(y, x\)"),
        ({"context": (-1, 10)}, r"context of at least 0"),
        ({"flops_per_voxel": 0}, r"flops\(.* is not above 0"),
    ],
)
def test_every_error_of_a_model_is_one_line(changes, message):
    with pytest.raises(ConfigError, match=message) as caught:
        pipeline.check_predictor(same_padded(2, **changes))
    assert "\n" not in str(caught.value)


class TooSmall(pipeline.SamePadded):
    def input_shape(self, output_shape):
        return tuple(output_shape)


class Fixed(UNetPredictor):
    def input_shape(self, output_shape):
        return tuple(n + 1 for n in super().input_shape(output_shape))


def test_wrong_sizes_are_found(weights):
    stated = {name: getattr(same_padded(2), name) for name in same_padded(2).__dataclass_fields__}
    with pytest.raises(ConfigError, match=r"input_shape\(.*at least output \+ 2 halo"):
        pipeline.check_predictor(TooSmall(**stated))
    with pytest.raises(ConfigError, match=r"failed for|does not fit"):
        pipeline.check_predictor(Fixed(weights("2d"), precision="fp32", device="cpu"))
    with pytest.raises(ConfigError, match=r"is not a Predictor: it lacks class_names, "):
        pipeline.check_predictor(lambda x: x)
    for image in (np.zeros((2, 1, 30, 30)), np.zeros((1, 1, 4, 30)), np.zeros((30, 30))):
        with pytest.raises(ConfigError, match=r"image of shape"):
            pipeline.check_predictor(same_padded(2), image=image)


def test_unstated_layers_that_use_the_whole_tile_are_found(tmp_path):
    torch.manual_seed(0)
    save_weights(
        UNet(UNetConfig(base_channels=4, levels=2, norm="instance")), tmp_path / "w.safetensors"
    )

    class Silent(UNetPredictor):
        tile_dependent_layers = ()

    with pytest.raises(ConfigError, match=r"a layer uses the whole tile"):
        pipeline.check_predictor(Silent(str(tmp_path / "w.safetensors"), precision="fp32"))


def test_the_halo_of_a_padded_network_is_its_context_rounded_up_to_divisors():
    predictor = same_padded(3, context=(3, 9, 16), own_divisor=(1, 8, 8))
    assert (predictor.halo, predictor.divisor) == ((3, 16, 16), (1, 8, 8))
    assert predictor.input_shape((5, 9, 16)) == (11, 48, 48)
    flat = replace(same_padded(2), context=(9, 0))
    assert (flat.halo, flat.divisor) == ((0, 12, 0), (1, 4, 4))


def test_a_sweep_with_other_scores_than_a_call_is_detected(weights, textured):
    class Shifted(UNetPredictor):
        def __call__(self, x_nczyx):
            return super().__call__(x_nczyx)

        def sweep(self, read, input_shape):
            for scores in super().sweep(read, input_shape):
                yield np.roll(scores, 1, axis=3)

    image = textured((1, 20, 30, 30)) / 255
    good, shifted = (kind(weights("3d"), precision="fp32") for kind in (UNetPredictor, Shifted))
    assert pipeline.check_predictor(good, image=image) < 1e-5
    with pytest.raises(ConfigError, match=r"^the scores of sweep differ from those of a call by 0"):
        pipeline.check_predictor(shifted, image=image)
