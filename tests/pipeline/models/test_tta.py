"""With test-time augmentation, tiled scores equal those of the whole volume too."""

import itertools
import pickle
from dataclasses import dataclass, field

import dask.array as da
import numpy as np
import pytest
import torch
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import uniform_filter

import pipeline
import pipeline.models.tta
from pipeline.base.errors import ConfigError, OutputError
from pipeline.base.geometry import Halo
from pipeline.models.protocol import Predictor
from pipeline.planning.blocks import BlockPlan
from pipeline.segmentation.engines.tile import StageClock, tile_scores
from pipeline.volume.intensity import Intensity
from pipeline.volume.mirror import read_mirrored
from unet import UNet, UNetConfig, UNetPredictor, load_weights, save_weights

RANGE = Intensity((0.0,), (1 / 255,))
NETWORKS = {
    "2-D": UNetConfig(base_channels=4, levels=3, classes=3),
    "2-D, valid outputs never the core": UNetConfig(base_channels=4, levels=2, pooling=3),
    "3-D": UNetConfig(dims=3, base_channels=4, levels=2, pooling=3),
    "3-D, flat voxels": UNetConfig(
        dims=3, base_channels=4, levels=2, kernels=((1, 3, 3), 3), pooling=((1, 2, 2),)
    ),
}
DEEP = {
    "3-D, swept in halves of a pooling step": UNetConfig(
        dims=3, base_channels=4, levels=3,
        kernels=(3, (3, 1, 1), (3, 1, 1)), pooling=((4, 1, 1), (4, 1, 1)),
    )
}  # fmt: skip
PASSES = {("2-D", "rotations"): 4, ("2-D", "full"): 8, ("3-D", "rotations"): 4, ("3-D", "full"): 16}


@pytest.fixture(scope="module")
def file_of(tmp_path_factory):
    """Return a function from a network's name to weights whose scores vary."""
    folder = tmp_path_factory.mktemp("weights")

    def make(name):
        path = folder / f"{name}.safetensors"
        if not path.exists():
            torch.manual_seed(3)
            model = UNet((NETWORKS | DEEP)[name]).eval()
            config = model.config
            noise = torch.rand(1, config.in_channels, *config.input_shape((24,) * config.dims))
            *_, weight, bias = model.parameters()
            with torch.no_grad():
                logits = model(noise).flatten(2)
                scale = 8 / logits.std(dim=2).mean()
                weight *= scale
                bias -= logits.mean(dim=2)[0]
                bias *= scale
            save_weights(model, path, normalisation={"kind": "range", "low": 0, "high": 255})
        return str(path)

    return make


def predictor_of(path):
    return UNetPredictor(path, precision="fp32", device="cpu")


def turned_by_numpy(array, turns, flips):
    """Mirror some axes, then turn the last two; and the inverse."""
    there = np.rot90(np.flip(array, flips), turns, axes=(-2, -1))
    return there, lambda scores: np.flip(np.rot90(scores, -turns, axes=(-2, -1)), flips)


def whole_scores_of_all(path, raw_czyx, tta):
    """The reference: torch on the whole mirrored volume in every orientation made by numpy."""
    model, info = load_weights(path)
    model.eval()
    config = info.config
    flat = config.dims == 2
    x = raw_czyx.astype(np.float32) / 255
    images = np.moveaxis(x, 1, 0) if flat else x[None]
    sizes = images.shape[2:]
    pads = [
        (halo, size - n - halo)
        for n, size, halo in zip(sizes, config.input_shape(sizes), config.halo, strict=True)
    ]
    padded = np.pad(images, [(0, 0), (0, 0), *pads], mode="reflect")
    mirrors = [()]
    if tta == "full":
        mirrors = [(), (-1,)] if flat else [(), (-1,), (-3,), (-3, -1)]
    every = []
    for flips, turns in itertools.product(mirrors, range(4)):
        there, back = turned_by_numpy(padded, turns, flips)
        with torch.inference_mode():
            scores = torch.softmax(model(torch.from_numpy(there.copy())), dim=1).numpy()
        every.append(back(scores)[(slice(None), slice(None), *(slice(0, n) for n in sizes))])
    assert len(every) == PASSES[f"{config.dims}-D", tta]
    return np.stack([np.moveaxis(scores, 0, 1) if flat else scores[0] for scores in every])


def whole_mean(path, raw_czyx, tta):
    return whole_scores_of_all(path, raw_czyx, tta).mean(axis=0)


class ArrayVolume:
    def __init__(self, czyx):
        self.czyx = czyx
        self.shape_zyx = czyx.shape[1:]

    def read(self, box):
        return self.czyx[(slice(None), *box.slices)]


def tiled(raw, predictor, *, tiles=None, blocks=(1, 1, 1), intensity=RANGE):
    """Return the scores of all tiles, read mirrored as on a worker; by default of one tile."""
    shape = raw.shape[1:]
    tile = tuple(
        d * (n if tiles else -(-size // d))
        for d, n, size in zip(predictor.divisor, tiles or shape, shape, strict=True)
    )
    plan = BlockPlan(
        shape=shape, core=tuple(t * n for t, n in zip(tile, blocks, strict=True)), tile=tile,
        halo=Halo.same_on_both_sides(predictor.halo), divisor=predictor.divisor,
    )  # fmt: skip
    scores = np.full((len(predictor.class_names), *shape), np.nan, np.float32)
    count = 0
    for block in plan.blocks():
        outer = plan.outer(block.core, predictor.input_shape)
        read = read_mirrored(ArrayVolume(raw), outer)
        for core in plan.tiles(block.core):
            count += 1
            scores[(slice(None), *core.slices)] = tile_scores(
                lambda box, read=read, outer=outer: read[
                    (slice(None), *box.relative_to(outer.start).slices)
                ],
                core, predictor=predictor, plan=plan, intensity=intensity, clock=StageClock(),
            )  # fmt: skip
    assert (count == 1) == (tiles is None)
    return scores


@pytest.mark.parametrize("network", NETWORKS)
def test_the_scores_of_these_networks_differ_in_every_orientation(network, file_of, textured):
    """If orientations agreed, the tests below would prove nothing."""
    scores = whole_scores_of_all(file_of(network), textured((1, 4, 26, 26)), "full")
    assert scores.std() > 0.15
    for one, other in itertools.combinations(scores, 2):
        assert np.abs(one - other).max() > 0.3


SLOW = ("3-D, flat voxels", "full")


@pytest.mark.parametrize(
    ("network", "tta"),
    [
        pytest.param(*both, marks=[pytest.mark.slow] if both == SLOW else [])
        for both in itertools.product(NETWORKS, ("rotations", "full"))
    ],
)
@settings(max_examples=5, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 7), st.integers(16, 30), st.integers(16, 30)),
    tiles=st.tuples(st.integers(1, 2), st.integers(3, 5), st.integers(3, 5)),
    blocks=st.tuples(*[st.integers(1, 2)] * 3),
)
def test_the_tiled_mean_equals_the_mean_of_the_whole_volume(
    network, tta, shape, tiles, blocks, file_of, textured
):
    path = file_of(network)
    predictor = pipeline.with_tta(predictor_of(path), tta)
    raw = textured((1, *shape), seed=sum(shape))
    expected = whole_mean(path, raw, tta)
    np.testing.assert_allclose(tiled(raw, predictor), expected, atol=1e-5)
    np.testing.assert_allclose(
        tiled(raw, predictor, tiles=tiles, blocks=blocks), expected, atol=1e-5
    )


@pytest.mark.parametrize("network", ["3-D", *DEEP])
@pytest.mark.parametrize("tta", ["rotations", "full"])
def test_a_sweep_per_orientation_gives_the_mean_of_the_tile(network, tta, file_of, textured):
    predictor = pipeline.with_tta(predictor_of(file_of(network)), tta)
    shape = predictor.input_shape((19, 6, 11))
    x = textured((1, *shape)).astype(np.float32) / 255
    reads = []

    def read(start, stop):
        reads.append(stop - start)
        return x[:, start:stop]

    swept = np.concatenate(list(predictor.sweep(read, shape)), axis=1)
    np.testing.assert_allclose(swept, predictor(x[None])[0], atol=1e-5)
    assert max(reads) < shape[0] // 2
    core = (63, 63, 63)
    out = [n - 2 * h for n, h in zip(predictor.input_shape(core), predictor.halo, strict=True)]
    need = predictor.sweep_memory_bytes(core)
    assert need == predictor.predictor.sweep_memory_bytes(core) + 4 * 2 * np.prod(out)


@pytest.mark.parametrize("engine", ["store", "map_overlap"])
@pytest.mark.parametrize(
    ("network", "shape", "block", "tile"),
    [
        ("2-D, valid outputs never the core", (3, 47, 62), (2, 24, 30), (1, 12, 15)),
        ("3-D, flat voxels", (4, 13, 20), (3, 12, 12), (3, 12, 6)),
    ],
)
def test_both_engines_store_the_mean_of_the_whole_volume(
    network, shape, block, tile, engine, file_of, textured, one_worker, tmp_path
):
    path = file_of(network)
    raw = textured((1, *shape))
    zarr.create_array(tmp_path / "in.zarr", data=raw[0])
    out = tmp_path / "out.zarr"
    pipeline.segment_volume(
        str(tmp_path / "in.zarr"), str(out), pipeline.with_tta(predictor_of(path), "full"),
        client=one_worker, block=block, tile=tile, engine=engine, outputs=("scores",),
        scores_dtype="float32",
    )  # fmt: skip
    stored = zarr.open_array(out / "0", mode="r")[...]
    np.testing.assert_allclose(stored, whole_mean(path, raw, "full"), atol=1e-5)
    kept = zarr.open_group(out / "run", mode="r").attrs
    assert kept["job"]["tta"] == kept["provenance"]["weights"]["tta"] == "full"


def test_map_overlap_averages_too(file_of, textured):
    path = file_of("3-D, flat voxels")
    raw = textured((1, 5, 33, 38))
    lazy = pipeline.map_overlap(
        pipeline.with_tta(predictor_of(path), "rotations"),
        da.from_array(raw[0], chunks=(3, 20, 15)), block=(2, 16, 12), tile=(2, 8, 12),
    )  # fmt: skip
    scores = lazy.compute(scheduler="sync")
    np.testing.assert_allclose(scores, whole_mean(path, raw, "rotations"), atol=1e-5)


def test_the_mean_of_a_tile_that_is_halved_for_memory_is_unchanged(file_of, textured):
    class SmallDevice(UNetPredictor):
        def __call__(self, x_nczyx):
            if x_nczyx[0, 0].size > 32**3:
                raise MemoryError
            return super().__call__(x_nczyx)

    path = file_of("3-D")
    raw = textured((1, 8, 29, 37))
    small = pipeline.with_tta(SmallDevice(path, precision="fp32", device="cpu"), "full")
    assert np.prod(small.input_shape((8, 29, 37))) > 32**3
    np.testing.assert_allclose(tiled(raw, small), whole_mean(path, raw, "full"), atol=1e-5)


@pytest.mark.parametrize("network", ["2-D, valid outputs never the core", "3-D"])
def test_mirroring_about_the_core_would_be_detected(network, file_of, textured, monkeypatch):
    """The tests above detect the mistake that they guard against."""
    path = file_of(network)
    predictor = pipeline.with_tta(predictor_of(path), "full")
    raw = textured((1, 4, 31, 34))
    turned_back = pipeline.models.tta.turned_back

    def about_the_core(turned, orientation):
        """Mirrors about the core instead of the valid output: shifted by their difference."""
        whole = turned_back(turned, orientation)
        return np.roll(whole, -2, axis=4) if orientation.mirrored_x else whole

    assert predictor.input_shape((3, 12, 12))[2] - 2 * predictor.halo[2] == 12 + 2
    monkeypatch.setattr(pipeline.models.tta, "turned_back", about_the_core)
    wrong = tiled(raw, predictor, tiles=(1, 4, 4))
    assert np.abs(wrong - whole_mean(path, raw, "full")).max() > 0.05


@dataclass(frozen=True)
class Foreign:
    """Base of the predictors below: two classes from one channel, in numpy."""

    halo: tuple = (0, 8, 8)
    divisor: tuple = (1, 4, 4)
    digest: str = "0"
    in_channels: int = 1
    class_names: tuple = ("background", "cell")
    normalisation: object = None
    tile_dependent_layers: tuple = ()
    more: dict = field(default_factory=dict)

    def input_shape(self, output_shape):
        return tuple(n + 2 * h for n, h in zip(output_shape, self.halo, strict=True))

    def flops(self, output_shape):
        return int(np.prod(self.input_shape(output_shape)))

    def memory_bytes(self, output_shape):
        return 4 * self.flops(output_shape)

    def settled(self):
        return self

    def settings(self):
        return self.more

    def inside(self, values_nzyx):
        inner = tuple(
            slice(h, n - h) for h, n in zip(self.halo, values_nzyx.shape[1:], strict=True)
        )
        cell = values_nzyx[(slice(None), *inner)].clip(0, 1)
        return np.stack([1 - cell, cell], axis=1).astype(np.float32)


class PooledFromTheStart(Foreign):
    """Takes any size: means of 4×4 cells from the first voxel on, without incomplete cells."""

    def __call__(self, x_nczyx):
        x = x_nczyx[:, 0]
        for axis in (2, 3):
            starts = np.arange(0, x.shape[axis], 4)
            sizes = np.diff([*starts, x.shape[axis]])
            shape = [-1 if a == axis else 1 for a in range(4)]
            mean = np.add.reduceat(x, starts, axis=axis) / sizes.reshape(shape)
            x = np.repeat(mean, sizes, axis=axis)
        return self.inside(x)


class Smooth(Foreign):
    """A network whose scores are the same in every orientation."""

    def __call__(self, x_nczyx):
        return self.inside(uniform_filter(x_nczyx[:, 0], size=(1, 1, 5, 5)))


class TooFew(Foreign):
    """Returns fewer scores than its halo leaves."""

    def __call__(self, x_nczyx):
        return self.inside(x_nczyx[:, 0])[..., :-1]


def test_a_network_of_any_input_size_needs_multiples_of_the_divisor_to_stay_on_one_grid(
    textured, monkeypatch
):
    foreign = pipeline.with_tta(PooledFromTheStart(), "full")
    assert isinstance(foreign, Predictor)
    raw = textured((1, 2, 31, 38))
    whole = tiled(raw, foreign)
    seams = np.abs(tiled(raw, foreign, tiles=(1, 2, 3)) - whole)
    assert seams.max() < 1e-5
    monkeypatch.setattr(pipeline.models.tta, "round_up", lambda size, step: size)
    assert np.abs(tiled(raw, foreign, tiles=(1, 2, 3)) - tiled(raw, foreign)).max() > 0.01


@pytest.mark.parametrize("tta", ["rotations", "full"])
def test_the_mean_of_a_symmetric_network_is_its_score(tta, textured):
    raw = textured((1, 2, 30, 41))
    plain = tiled(raw, Smooth())
    assert plain[1].std() > 0.05
    np.testing.assert_allclose(tiled(raw, pipeline.with_tta(Smooth(), tta)), plain, atol=1e-6)


@pytest.mark.parametrize("tta", ["rotations", "full"])
@pytest.mark.parametrize("network", ["2-D", "3-D"])
def test_a_turned_volume_gives_turned_scores(network, tta, file_of, textured):
    predictor = pipeline.with_tta(predictor_of(file_of(network)), tta)
    # Sizes that are valid outputs: both ends of the volume lie on the grid.
    sizes = [
        n - 2 * h for n, h in zip(predictor.input_shape((3, 28, 34)), predictor.halo, strict=True)
    ]
    raw = textured((1, *sizes))
    scores = tiled(raw, predictor)
    assert scores.std() > 0.1
    mirrored = (1, 3) if network == "3-D" else (3,)
    for flips, turns in [((), 1), ((), 2), *([(mirrored, 1)] if tta == "full" else [])]:
        turned, _ = turned_by_numpy(raw, turns, flips)
        wanted, _ = turned_by_numpy(scores, turns, flips)
        np.testing.assert_allclose(tiled(turned, predictor), wanted, atol=1e-5)


@pytest.mark.parametrize("network", ["2-D", "3-D"])
@pytest.mark.parametrize("tta", ["rotations", "full"])
def test_operations_multiply_and_memory_grows_by_one_input_and_one_sum_of_scores(
    network, tta, file_of
):
    plain = predictor_of(file_of(network))
    averaged = pipeline.with_tta(plain, tta)
    for out in ((6, 36, 48), (3, 12, 12)):
        assert averaged.flops(out) == PASSES[network, tta] * plain.flops(out)
        size = plain.input_shape(out)
        scores = np.prod([n - 2 * h for n, h in zip(size, plain.halo, strict=True)])
        more = averaged.memory_bytes(out) - plain.memory_bytes(out)
        assert more == 4 * (np.prod(size) + len(plain.class_names) * scores)


def test_none_is_the_predictor_itself_and_the_others_change_the_job(file_of):
    plain = predictor_of(file_of("2-D"))
    assert pipeline.with_tta(plain, "none") is plain
    averaged = pickle.loads(pickle.dumps(pipeline.with_tta(plain, "rotations").settled()))
    assert averaged.digest == plain.digest
    assert dict(averaged.settings()) == {**plain.settings(), "tta": "rotations"}


def test_another_augmentation_is_another_job(file_of, textured, tmp_path):
    zarr.create_array(tmp_path / "in.zarr", data=textured((1, 2, 40, 40))[0])
    plain = predictor_of(file_of("2-D"))
    places = str(tmp_path / "in.zarr"), str(tmp_path / "out.zarr")
    pipeline.segment_volume(*places, pipeline.with_tta(plain, "rotations"))
    for tta in ("full", "none"):
        with pytest.raises(OutputError, match=f"tta was rotations, now {tta}"):
            pipeline.segment_volume(*places, pipeline.with_tta(plain, tta))


@pytest.mark.parametrize("tta", ["rotations", "full"])
@pytest.mark.parametrize(
    "config",
    [
        UNetConfig(base_channels=2, levels=2, kernels=((3, 5), 3)),
        UNetConfig(base_channels=2, levels=3, pooling=((1, 2), (2, 2))),
    ],
)
def test_a_network_that_differs_in_y_and_x_is_rejected(config, tta, tmp_path):
    save_weights(UNet(config), tmp_path / "w.safetensors")
    with pytest.raises(ConfigError, match=r"differs in y and x.*use --tta none") as caught:
        pipeline.with_tta(predictor_of(str(tmp_path / "w.safetensors")), tta)
    assert "\n" not in str(caught.value)


def test_predictors_that_cannot_be_averaged_are_rejected_in_one_line(file_of):
    plain = predictor_of(file_of("2-D"))
    with pytest.raises(ConfigError, match=r"tta 'all' is unknown: choose none, rotations, full"):
        pipeline.with_tta(plain, "all")
    with pytest.raises(ConfigError, match="already averages over full"):
        pipeline.with_tta(pipeline.with_tta(plain, "full"), "rotations")

    class Odd(Foreign):
        def input_shape(self, output_shape):
            return tuple(n + n // 2 + 16 for n in output_shape)

    class Landscape(Foreign):
        def input_shape(self, output_shape):
            return tuple(n + 16 + more for n, more in zip(output_shape, (-16, 0, 4), strict=True))

    with pytest.raises(ConfigError, match="do not differ by multiples of its divisor 1×4×4"):
        pipeline.with_tta(Odd(), "full")
    with pytest.raises(ConfigError, match="differs in y and x"):
        pipeline.with_tta(Landscape(), "full")
    with pytest.raises(
        ConfigError, match=r"scores of 2×16×15 for 2×32×32: expected 2×16×16 \(halo 0×8×8"
    ):
        pipeline.with_tta(TooFew(), "full")(np.zeros((1, 1, 2, 32, 32), np.float32))
