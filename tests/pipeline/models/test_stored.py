"""What a device stores of a tile is, to the bit, what the host computes from float32 scores."""

import contextlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import pipeline
import unet.predict.stored
from pipeline.base.tile_request import TileRequest
from pipeline.models.host_path import planes_on_host, stored_of
from pipeline.models.protocol import StoresPlanes
from pipeline.models.stored import stored_planes
from pipeline.output.kinds import OUTPUT_KINDS
from pipeline.planning.network import sweep_memory_bytes, takes_raw_planes
from pipeline.volume.intensity import Intensity
from unet import UNetPredictor
from unet.predict.runtime import has_bf16_convolutions
from unet.predict.stored import normalised, stored
from unet.predict.transfer import HostTransfer

DTYPES = [
    order + code
    for code in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8")
    for order in ("<", ">")
]
OUTPUTS = tuple((kind.name, dtype) for kind in OUTPUT_KINDS.values() for dtype in kind.dtypes)
CPU = HostTransfer(torch.device("cpu"))


def assert_same_bits(found, expected):
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert found.tobytes() == expected.tobytes()


def any_values(dtype, shape, seed):
    """Return values of any bits, NaN and infinity among them."""
    octets = np.random.default_rng(seed).bytes(np.dtype(dtype).itemsize * int(np.prod(shape)))
    values = np.frombuffer(octets, dtype).reshape(shape).copy()
    if values.dtype.kind == "f":
        values.flat[:4] = (np.nan, np.inf, -np.inf, -0.0)
    return values


def check_normalised(raw, offset, scale):
    request = TileRequest(offset=offset, scale=scale, outputs=())
    with np.errstate(all="ignore"):
        expected = Intensity(offset, scale).apply(raw)
    assert_same_bits(normalised(CPU.upload(raw), request).numpy(), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=10)
@given(
    seed=st.integers(0, 99),
    offset=st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3),
    scale=st.lists(st.floats(1e-12, 1e3), min_size=3, max_size=3),
    channels=st.sampled_from((1, 3)),
    is_one_for_all=st.booleans(),
)
def test_raw_values_are_normalised_with_the_same_bits(
    dtype, seed, offset, scale, channels, is_one_for_all
):
    raw = any_values(dtype, (channels, 4, 5, 6), seed)[:, 1:, :, 2:]  # a view, as of a block
    raw.flags.writeable = seed % 2 == 0
    before = raw.tobytes()
    entries = 1 if is_one_for_all else channels
    check_normalised(raw, tuple(offset[:entries]), tuple(scale[:entries]))
    assert raw.tobytes() == before


def check_stored(scores):
    expected = stored_of(scores, OUTPUTS)
    classes, *outputs = (t.numpy() for t in stored(torch.from_numpy(scores), OUTPUTS))
    assert_same_bits(classes, expected.classes_zyx)
    for found, wanted in zip(outputs, expected.outputs, strict=True):
        assert_same_bits(found, wanted)


@st.composite
def scores_with_ties(draw):
    """Draw scores of few values, so that classes tie, and many lie halfway between two of uint8."""
    classes = draw(st.integers(2, 5))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    halfway = (np.arange(0, 256, dtype=np.float32) / 2) / np.float32(255)
    few = random.choice(halfway, draw(st.integers(1, 3)))
    return random.choice([*few, *halfway], (classes, 3, 9, 10)).astype(np.float32)


@given(scores=scores_with_ties())
def test_classes_and_stored_scores_have_the_same_bits(scores):
    check_stored(scores)
    check_stored(np.where(scores > 0.3, scores[:1], scores))  # ties


def test_scores_that_are_not_numbers_are_class_0_in_both():
    scores = np.full((3, 1, 2, 2), np.nan, np.float32)
    scores[:, 0, 0, 0] = 0.2, 0.3, 0.3
    assert stored(torch.from_numpy(scores), ())[0].tolist() == [[[1, 0], [0, 0]]]
    assert stored_of(scores, ()).classes_zyx.tolist() == [[[1, 0], [0, 0]]]


def last_maximum(scores_czyx):
    flipped = scores_czyx.flip(0).argmax(0)
    return (len(scores_czyx) - 1 - flipped).to(torch.uint8)


def truncated(scores_czyx, classes_zyx, dtype):
    return (scores_czyx * 255).to(dtype) if dtype == torch.uint8 else scores_czyx.to(dtype)


def test_another_choice_among_ties_is_noticed(monkeypatch):
    monkeypatch.setattr(unet.predict.stored, "classes_of", last_maximum)
    with pytest.raises(AssertionError):
        check_stored(np.full((2, 1, 1, 1), 0.5, np.float32))


def test_truncated_scores_are_noticed(monkeypatch):
    kinds = {**unet.predict.stored.STORED, "scores": truncated}
    monkeypatch.setattr(unet.predict.stored, "STORED", kinds)
    with pytest.raises(AssertionError):
        check_stored(np.array([0.1, 0.9], np.float32).reshape(2, 1, 1, 1))


@pytest.mark.parametrize("dtype", ["u4", "f8"])
def test_large_values_normalised_in_float32_are_noticed(dtype, monkeypatch):
    monkeypatch.setattr(unet.predict.stored, "working_dtype", lambda *_: "float32")
    with pytest.raises(AssertionError):
        check_normalised(np.full((1, 1, 1, 1), 16777217, dtype), (16777216.0,), (1.0,))


def planes_of(raw):
    return lambda start, stop: raw[:, start:stop]


def whole_of(planes):
    """Return classes and outputs of all planes."""
    found = list(planes)
    count = len(found[0].outputs)
    return [
        np.concatenate([planes.classes_zyx for planes in found]),
        *(np.concatenate([planes.outputs[n] for planes in found], axis=-3) for n in range(count)),
    ]


def check_tile(predictor, raw, request, core):
    """Compare device and host; ``raw`` is the tile's input."""
    shapes = {"input_shape": raw.shape[1:], "core_shape": core, "turn": contextlib.nullcontext}
    with np.errstate(all="ignore"):
        expected = whole_of(planes_on_host(predictor, planes_of(raw), request, **shapes))
    assert isinstance(predictor, StoresPlanes)
    assert takes_raw_planes(predictor)
    found = whole_of(stored_planes(predictor, planes_of(raw), request, **shapes))
    assert found[0].shape == core
    assert found[-1].std() > 0.01
    for one, other in zip(found, expected, strict=True):
        assert_same_bits(one, other)


def request_for(dtype, traversal, channels=1):
    """Return a request that brings values of this dtype to a network's range."""
    low, high = (0.0, 1.0)
    if np.dtype(dtype).kind != "f":
        low, high = map(float, (np.iinfo(dtype).min, np.iinfo(dtype).max))
    entries = tuple((low, (1 + n / 4) / (high - low)) for n in range(channels))
    offset, scale = zip(*entries, strict=True)
    return TileRequest(offset=offset, scale=scale, outputs=OUTPUTS, traversal=traversal)


def raw_of(dtype, shape, textured):
    """Return a textured tile over the whole range of a dtype, with some NaN and infinity."""
    values = textured(shape) / 255
    if np.dtype(dtype).kind == "f":
        raw = values.astype(dtype)
        raw[..., ::7, ::5] = np.nan
        raw[..., 3, 4] = np.inf
        return raw
    info = np.iinfo(dtype)
    return (values * (info.max // 2) + values * (info.max // 4) + info.min // 4).astype(dtype)


CASES = [
    (network, traversal, tta)
    for network in ("2d", "2d-rgb", "3d", "3d-anisotropic")
    for traversal in ("tiles", "sweep")
    for tta in ("none", "rotations", "full")
    if traversal == "tiles" or network.startswith("3d")
]
SOME_DTYPES = ("<u1", ">u2", "<i4", ">u8", "<f2", "<f8", "<f4")


@pytest.mark.parametrize(
    ("dtype", "network", "traversal", "tta"),
    [
        *((SOME_DTYPES[n % len(SOME_DTYPES)], *case) for n, case in enumerate(CASES)),
        *((dtype, "2d", "tiles", "none") for dtype in DTYPES),
        *((dtype, "3d", "sweep", "none") for dtype in SOME_DTYPES),
    ],
)
def test_a_tile_is_stored_with_the_bits_of_its_scores(
    dtype, network, traversal, tta, weights, textured
):
    predictor = UNetPredictor(weights(network), precision="fp32", device="cpu")
    predictor = pipeline.with_tta(predictor, tta)
    core = (11, 5, 7) if network.startswith("3d") else (3, 9, 14)  # smaller than the valid output
    raw = raw_of(dtype, (predictor.in_channels, *predictor.input_shape(core)), textured)
    check_tile(predictor, raw, request_for(dtype, traversal, predictor.in_channels), core)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize(("network", "traversal", "tta"), CASES)
@pytest.mark.parametrize("dtype", SOME_DTYPES)
def test_a_gpu_stores_the_bits_of_its_scores(network, traversal, tta, dtype, weights, textured):
    predictor = UNetPredictor(weights(network), precision="fp32", device="cuda")
    predictor = pipeline.with_tta(predictor, tta)
    core = (40, 25, 27) if network.startswith("3d") else (5, 39, 44)  # several slabs in flight
    raw = raw_of(dtype, (predictor.in_channels, *predictor.input_shape(core)), textured)
    check_tile(predictor, raw, request_for(dtype, traversal, predictor.in_channels), core)


def test_mirrored_sweeps_reach_a_core_that_is_far_from_the_tile_s_end(weights, textured):
    predictor = pipeline.with_tta(
        UNetPredictor(weights("3d"), precision="fp32", device="cpu"), "full"
    )
    raw = raw_of("<u1", (1, *predictor.input_shape((27, 2, 2))), textured)
    check_tile(predictor, raw, request_for("<u1", "sweep"), (3, 2, 2))


@pytest.mark.parametrize(
    ("network", "traversal"), [("2d", "tiles"), ("3d", "tiles"), ("3d", "sweep")]
)
def test_sub_batches_and_bfloat16_are_those_of_a_call(
    network, traversal, weights, textured, monkeypatch
):
    predictor = UNetPredictor(weights(network), precision="fp32", device="cpu")
    core = (5, 8, 8)
    monkeypatch.setattr(UNetPredictor, "images_together", lambda *_, **__: 2)
    raw = raw_of("<u1", (1, *predictor.input_shape(core)), textured)
    request = request_for("<u1", traversal)
    check_tile(predictor, raw, request, core)
    if has_bf16_convolutions(CPU.device):
        check_tile(replace(predictor, precision="bf16"), raw, request, core)


def test_a_subclass_with_other_scores_is_stored_with_its_scores(weights, textured):
    predictor = Inverted(weights("2d"), precision="fp32", device="cpu")
    core = (1, 9, 14)
    raw = raw_of("<u1", (1, *predictor.input_shape(core)), textured)
    request = request_for("<u1", "tiles")
    shapes = {"input_shape": raw.shape[1:], "core_shape": core, "turn": contextlib.nullcontext}
    (planes,) = stored_planes(predictor, planes_of(raw), request, **shapes)
    x = Intensity(request.offset, request.scale).apply(raw)
    expected = predictor(x[None])[0][:, :, :9, :14]
    assert_same_bits(planes.outputs[-1], expected)


class Inverted(UNetPredictor):
    def __call__(self, x_nczyx):
        return 1 - super().__call__(x_nczyx)


class SweptInverted(UNetPredictor):
    def sweep(self, read, input_shape):
        for scores in super().sweep(read, input_shape):
            yield 1 - scores


class InvertedBothWays(Inverted, SweptInverted):
    pass


@pytest.mark.parametrize(
    ("kind", "is_swept"),
    [(UNetPredictor, True), (Inverted, False), (SweptInverted, False), (InvertedBothWays, True)],
)
def test_a_predictor_with_other_scores_in_one_of_two_ways_is_not_swept(kind, is_swept, weights):
    predictor = kind(weights("3d"), precision="fp32", device="cpu")
    assert (sweep_memory_bytes(predictor, (16, 16, 16)) is not None) is is_swept
