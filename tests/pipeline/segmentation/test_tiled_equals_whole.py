"""Without a cluster: tiled scores equal whole-volume scores."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pipeline.planning.blocks
from pipeline.base.geometry import Box, Halo
from pipeline.planning.blocks import BlockPlan
from pipeline.segmentation.engines.tile import StageClock, TileWork, compute_tile, halved
from pipeline.volume.intensity import Intensity
from pipeline.volume.mirror import read_mirrored
from unet import UNetPredictor
from unet.predict.sweep.steps import SweptConvolution

RANGE = Intensity((0.0,), (1 / 255,))


class ArrayVolume:
    def __init__(self, czyx):
        self.czyx = czyx
        self.shape_zyx = czyx.shape[1:]

    def read(self, box):
        return self.czyx[(slice(None), *box.slices)]


def tiled_scores(raw, predictor, plan):
    """Return the scores of all blocks, each read, tiled or swept, and cropped as on a worker."""
    scores = np.full((len(predictor.class_names), *plan.shape), np.nan, np.float32)
    for block in plan.blocks():
        outer = plan.outer(block.core, predictor.input_shape)
        read = read_mirrored(ArrayVolume(raw), outer)
        work = TileWork(
            predictor=predictor, plan=plan, intensity=RANGE, outputs=(("scores", "float32"),)
        )
        for tile in plan.tiles(block.core):
            compute_tile(
                lambda box, read=read, outer=outer: read[
                    (slice(None), *box.relative_to(outer.start).slices)
                ],
                tile,
                lambda box, part: scores.__setitem__((slice(None), *box.slices), part.outputs[0]),
                work=work,
                clock=StageClock(),
            )
    return scores


def plan_for(predictor, shape, blocks, tiles, traversal="tiles"):
    tile = tuple(d * n for d, n in zip(predictor.divisor, tiles, strict=True))
    core = tuple(t * n for t, n in zip(tile, blocks, strict=True))
    halo = Halo.same_on_both_sides(predictor.halo)
    return BlockPlan(
        shape=shape, core=core, tile=tile, halo=halo, divisor=predictor.divisor, traversal=traversal
    )


@pytest.mark.parametrize(
    ("network", "traversal"),
    [
        ("2d", "tiles"), ("2d-rgb", "tiles"), ("3d", "tiles"), ("3d-anisotropic", "tiles"),
        ("3d", "sweep"), ("3d-anisotropic", "sweep"),
    ],
)  # fmt: skip
@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 9), st.integers(3, 40), st.integers(3, 40)),
    blocks=st.tuples(*[st.integers(1, 3)] * 3),
    tiles=st.tuples(st.integers(2, 4), st.integers(3, 8), st.integers(3, 8)),
)
def test_tiled_scores_equal_whole_volume_scores(
    network, traversal, shape, blocks, tiles, weights, whole_scores, textured
):
    path = weights(network)
    predictor = UNetPredictor(path, precision="fp32", device="cpu")
    raw = textured((predictor.in_channels, *shape), seed=sum(shape))
    if raw.size < 4000:  # too few voxels for scores that vary
        return
    expected = whole_scores(path, raw)
    scores = tiled_scores(raw, predictor, plan_for(predictor, shape, blocks, tiles, traversal))
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    top = np.sort(expected, axis=0)
    sure = top[-1] - top[-2] > 2e-5
    assert (scores.argmax(0) == expected.argmax(0))[sure].all()


def test_blocks_off_the_pooling_grid_are_detected(weights, whole_scores, textured, monkeypatch):
    """The test above detects the mistake that it is meant to detect."""
    predictor = UNetPredictor(weights("2d"), precision="fp32", device="cpu")
    raw = textured((1, 2, 60, 60))
    monkeypatch.setattr(pipeline.planning.blocks, "check_multiple", lambda *_: None)
    off_grid = BlockPlan(
        shape=(2, 60, 60), core=(2, 30, 30), divisor=predictor.divisor,
        halo=Halo.same_on_both_sides(predictor.halo),
    )  # fmt: skip
    wrong = tiled_scores(raw, predictor, off_grid)
    assert np.abs(wrong - whole_scores(weights("2d"), raw)).max() > 0.05


@given(
    start=st.tuples(*[st.integers(0, 3)] * 3),
    sizes=st.tuples(*[st.integers(1, 40)] * 3),
    divisor=st.tuples(*[st.integers(1, 8)] * 3),
)
def test_halves_of_a_tile_cover_it_and_stay_on_the_grid(start, sizes, divisor):
    start = tuple(a * d for a, d in zip(start, divisor, strict=True))
    core = Box(start, tuple(a + n for a, n in zip(start, sizes, strict=True)))
    halves = halved(core, divisor)
    if halves is None:
        assert all(n <= d for n, d in zip(sizes, divisor, strict=True))
        return
    assert sum(half.voxels for half in halves) == core.voxels
    for half in halves:
        assert half.voxels > 0
        assert core.contains(half)
        assert all(a % d == 0 for a, d in zip(half.start, divisor, strict=True))


@pytest.mark.parametrize("path", ["device", "host"])
def test_a_tile_too_large_for_the_device_is_halved_with_equal_scores(
    path, weights, whole_scores, textured
):
    class SmallDevice(UNetPredictor):
        takes_raw_planes = path == "device"

        def __call__(self, x_nczyx):
            if x_nczyx[0, 0].size > 30 * 60 * 60:
                raise MemoryError
            return super().__call__(x_nczyx)

        def stored_planes(self, read, request, *, input_shape, core_shape):
            if np.prod(input_shape) > 30 * 60 * 60:
                raise MemoryError
            return super().stored_planes(
                read, request, input_shape=input_shape, core_shape=core_shape
            )

    predictor = SmallDevice(weights("3d"), precision="fp32", device="cpu")
    raw = textured((1, 20, 40, 40))
    plan = plan_for(predictor, (20, 40, 40), (1, 1, 1), (10, 20, 20))
    assert np.prod(predictor.input_shape(plan.tile)) > 30 * 60 * 60
    scores = tiled_scores(raw, predictor, plan)
    np.testing.assert_allclose(scores, whole_scores(weights("3d"), raw), atol=1e-5)


def test_halves_of_a_tile_are_computed_in_new_threads(weights, textured):
    threads = []

    class SmallDevice(UNetPredictor):
        def stored_planes(self, read, request, *, input_shape, core_shape):
            threads.append(threading.current_thread())
            if np.prod(input_shape) > 30 * 60 * 60:
                raise MemoryError  # as oneDNN, which then computes nothing new in this thread
            return super().stored_planes(
                read, request, input_shape=input_shape, core_shape=core_shape
            )

    predictor = SmallDevice(weights("3d"), precision="fp32", device="cpu")
    plan = plan_for(predictor, (20, 40, 40), (1, 1, 1), (10, 20, 20))
    tiled_scores(textured((1, 20, 40, 40)), predictor, plan)
    first, *others = threads
    assert first is threading.current_thread()
    assert len(others) >= 2
    assert first not in others


def test_a_sweep_too_large_for_the_device_is_halved_in_y_or_x_with_equal_scores(
    weights, whole_scores, textured
):
    swept = []

    class SmallDevice(UNetPredictor):
        def stored_planes(self, read, request, *, input_shape, core_shape):
            swept.append(input_shape)
            planes = super().stored_planes(
                read, request, input_shape=input_shape, core_shape=core_shape
            )
            if input_shape[1] * input_shape[2] > 40 * 60:
                yield next(planes)
                raise MemoryError
            yield from planes

    predictor = SmallDevice(weights("3d"), precision="fp32", device="cpu")
    raw = textured((1, 20, 40, 40))
    plan = plan_for(predictor, (20, 40, 40), (1, 1, 1), (10, 20, 20), "sweep")
    scores = tiled_scores(raw, predictor, plan)
    np.testing.assert_allclose(scores, whole_scores(weights("3d"), raw), atol=1e-5)
    assert len(swept) > len(list(plan.tiles(Box.of_shape(plan.shape))))
    assert len({depth for depth, _, _ in swept}) == 1


def test_a_sweep_without_its_last_plane_of_history_is_detected(
    weights, whole_scores, textured, monkeypatch
):
    compute = SweptConvolution.compute

    def old(self, x):
        y = compute(self, x)
        if x.shape[2] > 3 and self._kept.most == 2:
            self._kept._history[...] = x[:, :, -3:-1]
        return y

    monkeypatch.setattr(SweptConvolution, "compute", old)
    predictor = UNetPredictor(weights("3d"), precision="fp32", device="cpu")
    raw = textured((1, 40, 20, 20))
    wrong = tiled_scores(
        raw, predictor, plan_for(predictor, (40, 20, 20), (1, 1, 1), (20, 10, 10), "sweep")
    )
    assert np.abs(wrong - whole_scores(weights("3d"), raw)).max() > 0.05
