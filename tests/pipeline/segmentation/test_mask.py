"""Blocks outside a mask, and blocks of constant input, cost nothing; the rest is as ever."""

from dataclasses import replace

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import SegmentRequest, segment_volume
from pipeline.base.errors import OutputError, OvertileError, PlanError, RunError
from pipeline.base.geometry import Box
from pipeline.base.location import Location
from pipeline.ledger.progress import read_progress
from pipeline.ledger.shares import merge_shares
from pipeline.ledger.status import read_status
from pipeline.planning.block_selection import BlockSelection
from pipeline.planning.make_plan import make_plan
from pipeline.segmentation import mask_survey
from pipeline.segmentation.engines.block import is_constant
from pipeline.segmentation.mask_survey import survey_mask
from pipeline.segmentation.prepare import prepare
from pipeline.segmentation.run import SegmentRun
from pipeline.segmentation.sequence import complete
from pipeline.volume.mask import MaskAxis, MaskSource, find_mask
from pipeline.volume.volume import find_volume
from unet import UNetPredictor

SHAPE = (9, 50, 61)
BLOCK = (4, 16, 16)


def predictor_of(path):
    return UNetPredictor(path, precision="fp32", device="cpu")


@pytest.fixture
def volume(tmp_path, textured):
    """A test volume, stored as Zarr in chunks of its blocks."""
    raw = textured((1, *SHAPE))
    zarr.create_array(tmp_path / "in.zarr", data=raw[0], chunks=BLOCK)
    return raw, str(tmp_path / "in.zarr")


@pytest.fixture
def mask(tmp_path):
    """A coarser mask, (1, 2, 2) voxels of the volume each, and the same in the volume's voxels."""
    array = np.zeros((9, 25, 31), np.uint8)
    array[2:5, 3:11, 5:9] = 1
    array[8, 24, 30] = 7
    zarr.create_array(tmp_path / "mask.zarr", data=array, chunks=(4, 8, 8))
    whole = array.repeat(2, 1).repeat(2, 2)[:, :, :61].astype(bool)
    return str(tmp_path / "mask.zarr"), whole


def blocks_of(inside):
    """Return, on the grid of blocks, whether each has a voxel inside."""
    sizes = [-(-n // b) * b - n for n, b in zip(SHAPE, BLOCK, strict=True)]
    padded = np.pad(inside, [(0, size) for size in sizes])
    split = [size for n, b in zip(padded.shape, BLOCK, strict=True) for size in (n // b, b)]
    return padded.reshape(split).any(axis=(1, 3, 5))


def files_in(out):
    return [p for p in (out / "labels/classes/0/c").rglob("*") if p.is_file()]


@pytest.mark.parametrize("network", ["2d", "3d"])
def test_voxels_inside_a_mask_equal_the_whole_volumes_and_others_are_0(
    network, weights, whole_scores, volume, mask, tmp_path, one_worker
):
    (raw, path), (mask_path, inside), out = volume, mask, tmp_path / "out.zarr"
    figures = segment_volume(
        path, str(out), predictor_of(weights(network)), client=one_worker, block=BLOCK,
        mask=mask_path, outputs=("classes", "scores"), scores_dtype="float32",
    )  # fmt: skip
    scores, classes = zarr.open_group(out)["0"][...], zarr.open_group(out)["labels/classes/0"][...]
    expected = whole_scores(weights(network), raw)
    np.testing.assert_allclose(scores[:, inside], expected[:, inside], atol=1e-5)
    assert not scores[:, ~inside].any()
    assert not classes[~inside].any()
    assert figures.class_voxels == tuple(np.bincount(classes[inside], minlength=len(scores)))
    computed = blocks_of(inside)
    states = zarr.open_group(out)["run/done"][...]
    np.testing.assert_array_equal(states, np.where(computed, 1, 3))
    assert figures.blocks == computed.sum() == len(files_in(out)) < computed.size / 2


def test_what_lies_outside_a_mask_is_not_read(weights, volume, mask, tmp_path, one_worker):
    (_, path), (mask_path, inside) = volume, mask
    far = [index for index in np.argwhere(~blocks_of(inside)) if index[1] == 3 and index[2] < 2]
    for index in far:  # farther than a halo from every block that is computed
        (tmp_path / "in.zarr/c").joinpath(*map(str, index)).write_bytes(b"no chunk")
    out = tmp_path / "out.zarr"
    segment_volume(
        path, str(out), predictor_of(weights("3d")), client=one_worker, block=BLOCK, mask=mask_path
    )
    with pytest.raises(RunError, match="18 of 48 blocks failed"):
        segment_volume(
            path, str(tmp_path / "whole.zarr"), predictor_of(weights("3d")), client=one_worker,
            block=BLOCK, retries=0,
        )  # fmt: skip


@pytest.mark.parametrize("frame", ["box", "volume"])
def test_a_mask_and_a_box_select_together(
    frame, weights, whole_scores, volume, mask, tmp_path, one_worker
):
    (raw, path), (mask_path, inside), out = volume, mask, tmp_path / "out.zarr"
    segment_volume(
        path, str(out), predictor_of(weights("3d")), client=one_worker, block=BLOCK,
        mask=mask_path, box="3:,9:,13:", frame=frame, outputs=("scores",), scores_dtype="float32",
    )  # fmt: skip
    scores = zarr.open_group(out)["0"][...]
    box = (slice(3, None), slice(9, None), slice(13, None))
    wanted = np.zeros_like(inside)
    wanted[box] = inside[box]
    expected = np.where(wanted, whole_scores(weights("3d"), raw), 0)
    if frame == "box":
        expected = expected[(slice(None), *box)]
    np.testing.assert_allclose(scores, expected, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_the_survey_finds_the_blocks_with_a_voxel_inside(data, weights, tmp_path_factory):
    shape = data.draw(st.tuples(*[st.integers(1, 30)] * 3))
    factor = data.draw(st.tuples(*[st.integers(1, 5)] * 3))
    finer = data.draw(st.booleans())
    lengths = [n * f if finer else -(-n // f) for n, f in zip(shape, factor, strict=True)]
    array = np.random.default_rng(0).random(lengths) < data.draw(st.sampled_from([0.5, 0.02]))
    path = tmp_path_factory.mktemp("survey") / "mask.zarr"
    pieces = data.draw(st.tuples(*[st.integers(1, 6)] * 3))
    chunks = [-(-length // count) for length, count in zip(lengths, pieces, strict=True)]
    zarr.create_array(path, data=array, chunks=chunks)
    scales = [{"finer": f} if finer else {"coarser": f} for f in factor]
    axes = [MaskAxis(length=n, **scale) for n, scale in zip(lengths, scales, strict=True)]
    mask = MaskSource(find_volume(path, holds="anything"), tuple(axes))
    start = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    stop = tuple(data.draw(st.integers(a + 1, n)) for a, n in zip(start, shape, strict=True))
    box, is_box = Box(start, stop), data.draw(st.booleans())
    core = tuple(2 * data.draw(st.integers(1, 5)) for _ in range(3))
    plan = make_plan(
        box.shape if is_box else shape, predictor_of(weights("3d")), block=core, tile=core,
        origin=start if is_box else (0, 0, 0), within=None if is_box else box,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mask_survey, "PIECE_VOXELS", data.draw(st.sampled_from([1, 200, 10**6])))
        selection, _ = survey_mask(mask, BlockSelection.within(plan))
    with_inside = {
        block.index
        for block in plan.blocks()
        for part in [block.core.clipped_to(plan.computed)]
        if part.voxels and mask.inside(part.shifted(plan.origin)).any()
    }
    found = set(selection.all_indices())
    assert found >= with_inside
    if not finer:  # of a finer mask, voxels that are not at a centre may count too
        assert found == with_inside
    whole = replace(plan, core=(2, 2, 2), tile=(2, 2, 2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mask_survey, "PIECE_VOXELS", 10**6)
        reference = survey_mask(mask, BlockSelection.within(plan))[1]
        assert survey_mask(mask, BlockSelection.within(whole))[1] == reference


def test_the_contents_of_a_mask_are_part_of_the_job(weights, volume, mask, tmp_path, one_worker):
    predictor, out = predictor_of(weights("2d")), tmp_path / "out.zarr"
    segment_volume(volume[1], str(out), predictor, client=one_worker, mask=mask[0])
    request = SegmentRequest(input=volume[1], output=out, mask=mask[0])
    assert prepare(request, predictor).output_action == "resumed"
    zarr.open_array(mask[0])[2, 3, 5] = 0
    with pytest.raises(OutputError, match=r"belongs to another job \(mask_contents was"):
        prepare(request, predictor)
    with pytest.raises(OutputError, match="mask was"):
        prepare(replace(request, mask=None), predictor)


def test_a_mask_with_nothing_inside_is_refused(weights, volume, mask, tmp_path):
    predictor, out = predictor_of(weights("2d")), tmp_path / "out.zarr"
    request = SegmentRequest(input=volume[1], output=out, mask=mask[0])
    with pytest.raises(OvertileError, match="nothing inside the box"):
        prepare(replace(request, box="0:2,:,:"), predictor)
    zarr.open_array(mask[0])[...] = 0
    with pytest.raises(OvertileError, match="nothing inside the volume"):
        prepare(request, predictor)
    with pytest.raises(OutputError, match="output and mask are the same"):
        prepare(replace(request, output=Location.parse(mask[0]), overwrite=True), predictor)
    assert not out.exists()


def test_shares_of_a_masked_volume_write_the_bytes_of_one_run(
    weights, volume, mask, tmp_path, one_worker
):
    predictor, block = predictor_of(weights("2d")), (1, 16, 16)
    one, many = tmp_path / "one.zarr", tmp_path / "many.zarr"
    request = SegmentRequest(input=volume[1], output=one, mask=mask[0], block=block)
    complete(SegmentRun.open(request, predictor, one_worker))
    shares = [replace(request, output=Location.parse(many), shard=f"{n}/2") for n in (1, 2)]
    runs = [prepare(share, predictor) for share in shares]
    computed = [run.computed_blocks for run in runs]
    assert sum(computed) == len(runs[0].selection)
    assert max(computed) <= 2 * min(computed)
    complete(SegmentRun.open(shares[0], predictor, one_worker))
    status = read_status(Location.parse(many))
    assert [share.left for share in status.shares] == [0, computed[1]]
    complete(SegmentRun.open(shares[1], predictor, one_worker))
    merge_shares(Location.parse(many))
    finishing = prepare(replace(shares[0], shard=None), predictor, finishing=True)
    complete(SegmentRun.start(finishing, one_worker))
    for path in ("labels/classes/0", "run/done"):
        np.testing.assert_array_equal(
            zarr.open_group(many)[path][...], zarr.open_group(one)[path][...]
        )


@pytest.fixture
def slide(tmp_path, textured):
    """A volume of which a half, and a block apart from it, are glass of the value 255."""
    raw = np.minimum(textured((1, *SHAPE)), 254)
    raw[:, :, :, 30:] = 255
    raw[:, :, 48, 55] = 3
    raw[:, :4, :16, :16] = 255
    zarr.create_array(tmp_path / "in.zarr", data=raw[0])
    return raw, str(tmp_path / "in.zarr")


def test_blocks_of_constant_input_are_skipped_and_the_others_equal_the_whole_volumes(
    weights, whole_scores, slide, tmp_path, one_worker
):
    (raw, path), out = slide, tmp_path / "out.zarr"
    request = SegmentRequest(
        input=path, output=out, skip=255, block=BLOCK, outputs=("classes", "scores"),
        scores_dtype="float32",
    )  # fmt: skip
    predictor = predictor_of(weights("3d"))
    summary = complete(SegmentRun.open(request, predictor, one_worker))
    states = zarr.open_group(out)["run/done"][...]
    computed = states == 1
    np.testing.assert_array_equal(states[~computed], 3)
    assert (~computed[:, 0, 3]).all()  # glass, farther than a halo from everything else
    assert computed[:, 3, 3].all()  # one voxel is not glass
    assert computed[:, :, 1].all()  # the halo reaches tissue
    assert computed[0, 0, 0]
    inside = computed.repeat(4, 0).repeat(16, 1).repeat(16, 2)[:9, :50, :61]
    scores = zarr.open_group(out)["0"][...]
    expected = np.where(inside, whole_scores(weights("3d"), raw), 0)
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    progress = summary.progress
    assert (progress.done, progress.skipped, progress.left) == (
        computed.sum(),
        (~computed).sum(),
        0,
    )
    assert summary.figures.blocks == computed.sum() == len(files_in(out))
    assert read_progress(Location.parse(out))[0].skipped == progress.skipped
    again = SegmentRun.open(request, predictor, one_worker)
    assert again.progress().left == 0


def test_a_whole_number_and_a_float_to_skip_are_the_same_job(weights, slide, tmp_path):
    predictor = predictor_of(weights("2d"))
    digests = {
        prepare(
            SegmentRequest(input=slide[1], output=tmp_path / "out.zarr", skip=value), predictor
        ).job(predictor).digest
        for value in (255, 255.0)
    }  # fmt: skip
    assert len(digests) == 1


@pytest.mark.parametrize(("dtype", "value"), [("uint8", 256), ("uint8", 0.5), ("int16", np.nan)])
def test_a_value_that_the_volume_cannot_have_is_refused(dtype, value, weights, tmp_path):
    zarr.create_array(tmp_path / "in.zarr", shape=(1, 20, 20), dtype=dtype)
    request = SegmentRequest(input=tmp_path / "in.zarr", output=tmp_path / "out.zarr", skip=value)
    with pytest.raises(PlanError, match="never has this value"):
        prepare(request, predictor_of(weights("2d")))


def test_constant_means_every_voxel_of_every_channel():
    raw = np.full((2, 1, 3, 3), 7, np.uint16)
    assert is_constant(raw, 7)
    assert not is_constant(raw, 6)
    raw[1, 0, 2, 2] = 8
    assert not is_constant(raw, 7)
    assert is_constant(np.full((1, 2, 2, 2), np.nan, np.float32), np.nan)
    assert not is_constant(raw, np.nan)


def test_a_mask_is_found_by_its_levels_array(mask, volume):
    assert find_mask(Location.parse(mask[0]), find_volume(volume[1])).axes[1].coarser == 2
