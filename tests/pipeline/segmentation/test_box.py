"""A box of a volume: its scores are those of the whole volume, whatever the frame."""

from dataclasses import replace

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import SegmentRequest, segment_volume
from pipeline.base.errors import OutputError, PlanError
from pipeline.base.geometry import Box
from pipeline.planning.block_selection import BlockSelection
from pipeline.planning.blocks import BlockPlan
from pipeline.planning.budget import Layout, reckon
from pipeline.planning.make_plan import make_plan
from pipeline.segmentation.engines.tile import StageClock, tile_scores
from pipeline.segmentation.prepare import prepare
from pipeline.volume.box_text import resolve_box
from pipeline.volume.intensity import Intensity
from pipeline.volume.mirror import read_mirrored
from pipeline.volume.volume import find_volume
from unet import UNetPredictor

RANGE = Intensity((0.0,), (1 / 255,))
SHAPE = (9, 50, 61)


class ArrayVolume:
    def __init__(self, czyx):
        self.czyx = czyx
        self.shape_zyx = czyx.shape[1:]

    def read(self, box):
        return self.czyx[(slice(None), *box.slices)]


def predictor_of(path):
    return UNetPredictor(path, precision="fp32", device="cpu")


def computed_scores(raw, predictor, plan):
    """Return the scores of the selected blocks, each read, tiled and cropped as on a worker."""
    scores = np.full((len(predictor.class_names), *plan.shape), np.nan, np.float32)
    for index in BlockSelection.within(plan).all_indices():
        core = plan.block(index).core
        outer = plan.outer(core, predictor.input_shape).shifted(plan.origin)
        read = read_mirrored(ArrayVolume(raw), outer)
        for tile in plan.tiles(core):
            found = tile_scores(
                lambda box, read=read, outer=outer, plan=plan: read[
                    (slice(None), *box.shifted(plan.origin).relative_to(outer.start).slices)
                ],
                tile, predictor=predictor, plan=plan, intensity=RANGE, clock=StageClock(),
            )  # fmt: skip
            kept = tile.clipped_to(core.clipped_to(plan.computed))
            place = (slice(None), *kept.slices)
            assert np.isnan(scores[place]).all(), "a voxel is computed twice"
            scores[place] = found[(slice(None), *kept.relative_to(tile.start).slices)]
    return scores


@st.composite
def boxes(draw, shape):
    ends = [
        (start, draw(st.integers(start + 1, size)))
        for size in shape
        for start in [draw(st.integers(0, size - 1))]
    ]
    return Box(tuple(a for a, _ in ends), tuple(b for _, b in ends))


def plan_of(predictor, shape, box, frame, *, block=None, tile=None):
    is_box = frame == "box"
    return make_plan(
        box.shape if is_box else shape, predictor, block=block, tile=tile,
        origin=box.start if is_box else (0, 0, 0), within=None if is_box else box,
    )  # fmt: skip


@pytest.mark.parametrize("frame", ["box", "volume"])
@pytest.mark.parametrize("network", ["2d", "3d", "3d-anisotropic"])
@settings(max_examples=12, deadline=None)
@given(
    box=boxes(SHAPE),
    tiles=st.one_of(st.none(), st.tuples(*[st.integers(1, 4)] * 3)),
    blocks=st.tuples(*[st.integers(1, 3)] * 3),
)
def test_scores_of_a_box_equal_the_whole_volumes(
    network, frame, box, tiles, blocks, weights, whole_scores, textured
):
    predictor = predictor_of(weights(network))
    raw = textured((1, *SHAPE))
    tile = tiles and tuple(d * n for d, n in zip(predictor.divisor, tiles, strict=True))
    block = tile and tuple(t * n for t, n in zip(tile, blocks, strict=True))
    plan = plan_of(predictor, SHAPE, box, frame, block=block, tile=tile)
    scores = computed_scores(raw, predictor, plan)
    inside = scores[(slice(None), *plan.computed.slices)]
    expected = whole_scores(weights(network), raw)[(slice(None), *box.slices)]
    np.testing.assert_allclose(inside, expected, atol=1e-5)


def test_tiles_that_start_at_the_box_instead_of_the_pooling_grid_are_detected(
    weights, whole_scores, textured, monkeypatch
):
    """The test above detects the mistake that it is meant to detect."""
    predictor = predictor_of(weights("2d"))
    raw = textured((1, *SHAPE))
    box = Box((0, 7, 9), (2, 40, 50))
    plan = plan_of(predictor, SHAPE, box, "box")
    ranges = BlockPlan.tile_ranges
    monkeypatch.setattr(
        BlockPlan, "tile_ranges",
        lambda plan, axis, start, stop: [
            (a + plan.phase[axis], b) for a, b in ranges(plan, axis, start, stop)
        ],
    )  # fmt: skip
    wrong = computed_scores(raw, predictor, plan)
    expected = whole_scores(weights("2d"), raw)[(slice(None), *box.slices)]
    assert np.nanmax(np.abs(wrong - expected)) > 0.05


@settings(max_examples=12, deadline=None)
@given(box=boxes((20, 90, 90)), frame=st.sampled_from(["box", "volume"]), data=st.data())
def test_the_budget_of_a_box_equals_a_count_over_its_blocks(box, frame, data, weights):
    predictor = predictor_of(weights("3d"))
    tile = tuple(2 * data.draw(st.integers(1, 8)) for _ in range(3))
    plan = plan_of(predictor, (20, 90, 90), box, frame, block=tile, tile=tile)
    selection = BlockSelection.within(plan)
    layout = Layout(
        channels=1, itemsize=1, chunk_zyx=(1, 1, 1), output_bytes_per_voxel=1, files_per_block=1,
        volume_zyx=(20, 90, 90),
    )  # fmt: skip
    budget = reckon(plan, predictor, layout, regions=1, summed=selection.summed)
    cores = [plan.block(index).core for index in selection.all_indices()]
    tiles = [tile for core in cores for tile in plan.tiles(core)]
    volume = Box.of_shape((20, 90, 90))
    outers = [plan.outer(core, predictor.input_shape).shifted(plan.origin) for core in cores]
    assert budget.blocks == budget.files == len(cores)
    assert budget.tiles == len(tiles)
    assert budget.flops == sum(predictor.flops(tile.shape) for tile in tiles)
    assert budget.voxels == sum(core.voxels for core in cores)
    assert budget.bytes_read == sum(outer.clipped_to(volume).voxels for outer in outers)
    skipped = [b for b in plan.blocks() if b.core not in cores]
    assert all(not list(plan.tiles(block.core)) for block in skipped)


@settings(max_examples=25, deadline=None)
@given(shape=st.tuples(*[st.integers(1, 300)] * 3), start=st.tuples(*[st.integers(0, 40)] * 3))
def test_no_chosen_block_of_a_box_has_a_remainder_tile_of_its_phase(shape, start, weights):
    plan = make_plan(shape, predictor_of(weights("3d")), origin=start, memory_bytes=2**28)
    for axis, (tile, core) in enumerate(zip(plan.tile, plan.core, strict=True)):
        ranges = plan.tile_ranges(axis, 0, min(core, shape[axis]))
        assert len(ranges) <= max(1, -(-(core + plan.divisor[axis]) // tile))


@pytest.fixture
def volume(tmp_path, textured):
    """A test volume of 20 x 4 x 4 nm voxels, stored as Zarr."""
    raw = textured((1, *SHAPE))
    array = zarr.create_array(tmp_path / "in.zarr", data=raw[0])
    array.attrs["voxel_size_nm"] = [20, 4, 4]
    return raw, str(tmp_path / "in.zarr")


@pytest.mark.parametrize("frame", ["box", "volume"])
@pytest.mark.parametrize("network", ["2d", "3d"])
def test_the_stored_scores_of_a_box_equal_the_whole_volumes(
    network, frame, weights, whole_scores, volume, tmp_path, one_worker
):
    raw, path = volume
    box = (slice(1, 8), slice(13, 41), slice(7, 61))
    out = tmp_path / "out.zarr"
    figures = segment_volume(
        path, str(out), predictor_of(weights(network)), client=one_worker, block=(4, 16, 32),
        box="1:8,13:41,7:", frame=frame, outputs=("classes", "scores"), scores_dtype="float32",
    )  # fmt: skip
    expected = whole_scores(weights(network), raw)[(slice(None), *box)]
    scores, classes = zarr.open_group(out)["0"][...], zarr.open_group(out)["labels/classes/0"][...]
    if frame == "volume":
        assert scores.shape[1:] == SHAPE
        outside = np.ones(SHAPE, bool)
        outside[box] = False
        assert not scores[:, outside].any()
        assert not classes[outside].any()
        scores, classes = scores[(slice(None), *box)], classes[box]
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    assert figures.class_voxels == tuple(np.bincount(classes.ravel(), minlength=len(scores)))
    states = zarr.open_group(out)["run/done"][...]
    files = [p for p in (out / "labels/classes/0/c").rglob("*") if p.is_file()]
    assert len(files) == (states == 1).sum() == figures.blocks
    assert (states == 3).sum() == (0 if frame == "box" else 3 * 4 * 2 - 2 * 3 * 2)


def test_an_output_of_the_boxs_shape_has_the_boxs_origin(weights, volume, tmp_path, one_worker):
    _, path = volume
    out = tmp_path / "out.zarr"
    segment_volume(
        path, str(out), predictor_of(weights("2d")), client=one_worker, box="20nm:160nm,8:40,:"
    )
    found = find_volume(out / "labels/classes")
    assert found.shape == (7, 32, 61)
    assert found.voxel_size == (20, 4, 4)
    assert np.divide(found.translation, found.voxel_size) == pytest.approx((1, 8, 0))


def test_a_box_with_a_unit_is_the_box_in_voxels(volume):
    source = find_volume(volume[1])
    lengths = resolve_box("20nm:0.16um,0:100nm,40nm:", source)
    assert lengths == resolve_box("1:8,0:25,10:61", source) == Box((1, 0, 10), (8, 25, 61))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("0:5,0:5,0:62", "ends at 62 along x, outside the volume"),
        ("5:5,:,:", "empty along z"),
        ("7:5,:,:", "empty along z"),
        (":,:", "expected three ranges"),
        ("1,2,3", "expected Z0:Z1"),
        ("-1:5,:,:", "expected Z0:Z1"),
        ("0.5:5,:,:", "expected Z0:Z1"),
        ("1:20nm,:,:", "a unit at both ends"),
        ("0:1mm,:,:", "outside the volume"),
        ("0:9nm,:,:", "empty along z"),
    ],
)
def test_a_box_that_does_not_fit_is_refused_in_one_line(text, why, volume, weights, tmp_path):
    with pytest.raises(PlanError, match=why) as refused:
        prepare(
            SegmentRequest(input=volume[1], output=tmp_path / "out.zarr", box=text),
            predictor_of(weights("2d")),
        )
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out.zarr").exists()


def test_a_box_is_part_of_the_job_unless_it_is_the_whole_volume(
    volume, weights, tmp_path, one_worker
):
    predictor, out = predictor_of(weights("2d")), tmp_path / "out.zarr"

    def prepared(**settings):
        return prepare(SegmentRequest(input=volume[1], output=out, **settings), predictor)

    whole = prepared()
    assert prepared(box="0:9,:,:61").job(predictor) == whole.job(predictor)
    assert not {"box", "frame"} & set(whole.job(predictor).parts)
    digests = {
        prepared(box=box, frame=frame).job(predictor).digest
        for box in ("0:8,:,:", "1:,:,:")
        for frame in ("box", "volume")
    }
    assert len(digests) == 4
    segment_volume(volume[1], str(out), predictor, client=one_worker, box="0:8,:,:")
    with pytest.raises(OutputError, match=r"belongs to another job \(box was"):
        prepared(box="1:,:,:")


def test_a_box_in_one_chunk_is_read_once_and_has_no_note_about_chunks(weights, tmp_path):
    zarr.create_array(tmp_path / "in.zarr", shape=(64, 512, 512), chunks=(64, 512, 512), dtype="u1")
    request = SegmentRequest(input=tmp_path / "in.zarr", output=tmp_path / "out.zarr")
    predictor = predictor_of(weights("3d"))

    def notes(**settings):
        prepared = prepare(replace(request, block=(8, 64, 64), **settings), predictor)
        return [note for note in prepared.notes if "every chunk" in note]

    assert notes()
    assert not notes(box="0:8,0:64,0:64")


def test_a_box_needs_the_engine_store(volume, tmp_path):
    with pytest.raises(PlanError, match="expected the engine store"):
        SegmentRequest(
            input=volume[1], output=tmp_path / "o.zarr", box="0:8,:,:", engine="map_overlap"
        )
