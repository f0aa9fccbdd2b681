"""Affinities averaged over turned tiles: those of the same pair of voxels, tiled as whole."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from distributed import Client
from numpy.typing import NDArray

import pipeline
from pipeline.base.errors import ConfigError
from pipeline.base.network_outputs import NetworkOutputs
from unet import UNet, UNetConfig, UNetPredictor, load_weights, save_weights

Array = NDArray[Any]
Textured = Callable[..., Array]
Offsets = tuple[tuple[int, ...], ...]
DEEP: Offsets = ((-1, 0, 0), (0, -1, 0), (0, 0, -1), (-4, 0, 0), (0, -3, 0), (0, 0, -3), (2, 1, 0))
FLAT: Offsets = ((-1, 0), (0, -1), (0, -5))
NETWORKS = {
    "2-D": (UNetConfig(base_channels=4, levels=2, classes=len(FLAT)), FLAT),
    "3-D": (UNetConfig(dims=3, base_channels=4, levels=2, classes=len(DEEP)), DEEP),
}


def affinities(offsets: Offsets) -> NetworkOutputs:
    return NetworkOutputs(kind="affinities", offsets=offsets)


@dataclass(frozen=True)
class Alike:
    """Affinities that are the same in every orientation: how alike two voxels are, in numpy."""

    offsets: Offsets
    halo: tuple[int, int, int] = (8, 8, 8)
    divisor: tuple[int, int, int] = (1, 4, 4)
    digest: str = "0"
    in_channels: int = 1
    normalisation: object = None
    tile_dependent_layers: tuple[str, ...] = ()

    @property
    def outputs(self) -> NetworkOutputs:
        return affinities(self.offsets)

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.outputs.names

    def input_shape(self, output_shape: Sequence[int]) -> tuple[int, int, int]:
        z, y, x = (n + 2 * h for n, h in zip(output_shape, self.halo, strict=True))
        return z, y, x

    def flops(self, output_shape: Sequence[int]) -> int:
        return int(np.prod(self.input_shape(output_shape)))

    def memory_bytes(self, output_shape: Sequence[int]) -> int:
        return 4 * self.flops(output_shape)

    def settled(self) -> Alike:
        return self

    def settings(self) -> dict[str, Any]:
        return {}

    def __call__(self, x_nczyx: Array) -> Array:
        raw = x_nczyx[:, 0]

        def at(offset: Sequence[int]) -> Array:
            inner = (
                slice(h + step, n - h + step)
                for h, n, step in zip(self.halo, raw.shape[1:], offset, strict=True)
            )
            return raw[(slice(None), *inner)]

        here = at((0, 0, 0))
        return np.stack([1 - np.abs(here - at(one)) for one in self.offsets], 1).astype(np.float32)


@pytest.mark.parametrize("tta", ["rotations", "full"])
@pytest.mark.parametrize("offsets", [DEEP, DEEP[:3], ((0, -1, 0), (0, 0, 1), (0, 2, -3))])
def test_the_mean_of_affinities_that_do_not_depend_on_direction_is_theirs(
    offsets: Offsets, tta: Any, textured: Textured
) -> None:
    network: Any = Alike(offsets)
    x = textured((1, 1, 20, 28, 32)).astype(np.float32) / 255
    plain = network(x)
    assert plain.std() > 0.05
    np.testing.assert_allclose(pipeline.with_tta(network, tta)(x), plain, atol=1e-6)


def test_affinities_of_other_pairs_would_be_noticed(
    textured: Textured, monkeypatch: pytest.MonkeyPatch
) -> None:
    network: Any = Alike(DEEP)
    x = textured((1, 1, 20, 28, 32)).astype(np.float32) / 255
    monkeypatch.setattr("pipeline.models.tta_views.turned_offset", lambda offset, _: offset)
    assert np.abs(pipeline.with_tta(network, "full")(x) - network(x)).max() > 0.1


def weights_of(network: str, folder: Path) -> Path:
    """Return weights of affinities whose scores vary."""
    config, offsets = NETWORKS[network]
    path = folder / "weights.safetensors"
    torch.manual_seed(3)
    model = UNet(config, affinities(offsets)).eval()
    noise = torch.rand(1, 1, *config.input_shape((24,) * config.dims))
    with torch.no_grad():
        logits = model(noise).flatten(2)
        scale = 6 / logits.std(dim=2).mean()
        model.head.weight *= scale
        model.head.bias.copy_((model.head.bias - logits.mean(dim=2)[0]) * scale)
    save_weights(model, path, normalisation={"kind": "range", "low": 0, "high": 255})
    return path


def whole_mean(weights: Path, raw_zyx: Array, tta: str) -> Array:
    """The reference: torch on the whole mirrored volume, directions read off turned coordinates."""
    model, info = load_weights(str(weights))
    config = model.eval().config
    flat = config.dims == 2
    images = raw_zyx.astype(np.float32)[:, None] / 255
    images = images if flat else np.moveaxis(images, 0, 1)[None]
    sizes = images.shape[2:]
    pads = [
        (halo, size - n - halo)
        for n, size, halo in zip(sizes, config.input_shape(sizes), config.halo, strict=True)
    ]
    padded = np.pad(images, [(0, 0), (0, 0), *pads], mode="reflect")
    mirrors: list[tuple[int, ...]] = [()]
    if tta == "full":
        mirrors = [(), (-1,)] if flat else [(), (-1,), (-3,), (-3, -1)]
    places = np.stack(np.meshgrid(*[np.arange(16)] * config.dims, indexing="ij"))
    given: list[list[Array]] = [[] for _ in info.outputs.offsets]
    for flips, turns in itertools.product(mirrors, range(4)):
        there = np.rot90(np.flip(padded, flips), turns, axes=(-2, -1))
        turned_places = np.rot90(np.flip(places, flips), turns, axes=(-2, -1))
        with torch.inference_mode():
            scores = torch.sigmoid(model(torch.from_numpy(there.copy()))).numpy()
        back = np.flip(np.rot90(scores, -turns, axes=(-2, -1)), flips)
        inner = back[(slice(None), slice(None), *(slice(0, n) for n in sizes))]
        centre = np.array([8] * config.dims)
        for source, offset in enumerate(info.outputs.offsets):
            here, other = (turned_places[(slice(None), *at)] for at in (centre, centre + offset))
            direction = tuple(int(step) for step in other - here)
            if direction in info.outputs.offsets:
                given[info.outputs.offsets.index(direction)].append(inner[:, source])
    means = np.stack([np.mean(every, axis=0) for every in given])
    return means if flat else means[:, 0]


@pytest.mark.parametrize("tta", ["rotations", "full"])
@pytest.mark.parametrize(
    ("kind", "traversal"), [("2-D", "tiles"), ("3-D", "tiles"), ("3-D", "sweep")]
)
def test_the_stored_mean_is_that_of_the_whole_volume(
    kind: str, traversal: Any, tta: Any, textured: Textured, one_worker: Client, tmp_path: Path
) -> None:
    deep = kind == "3-D"
    weights = weights_of(kind, tmp_path)
    raw = textured((13, 22, 30) if deep else (3, 41, 52))
    zarr.create_array(tmp_path / "in.zarr", data=raw)
    network = UNetPredictor(str(weights), precision="fp32", device="cpu")
    pipeline.segment_volume(
        str(tmp_path / "in.zarr"), str(tmp_path / "out.zarr"), pipeline.with_tta(network, tta),
        client=one_worker, block=(8, 16, 12) if deep else (2, 24, 20), traversal=traversal,
        outputs=("scores",), scores_dtype="float32",
    )  # fmt: skip
    stored = zarr.open_array(tmp_path / "out.zarr" / "0", mode="r")[...]
    expected = whole_mean(weights, raw, tta)
    assert expected.std() > 0.1
    np.testing.assert_allclose(np.asarray(stored), expected, atol=1e-5)
    assert pipeline.check_predictor(pipeline.with_tta(network, tta)) < 1e-5


def test_directions_that_no_turned_tile_has_are_refused() -> None:
    for offsets in ((0, -1, 0),), ((0, -1, 0), (0, 0, -2)):
        network: Any = Alike(offsets)
        with pytest.raises(ConfigError, match=r"no turned tile has .* use --tta none"):
            pipeline.with_tta(network, "rotations")
        assert len(pipeline.with_tta(network, "full").views) > 1  # type: ignore[attr-defined]
