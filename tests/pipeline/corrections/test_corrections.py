"""Painted voxels are never lost or changed, and a corrected copy is what a full run would write."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import zarr

from pipeline import evaluate_volume, segment_volume
from pipeline.base.errors import LabelError, OutputError, RunError, VolumeError
from pipeline.base.local_client import local_client
from pipeline.base.location import Location
from pipeline.corrections.apply import apply_corrections
from pipeline.corrections.create import beside, create_corrections, find_corrections
from pipeline.corrections.painted import count_painted
from pipeline.corrections.segmented import find_segmented
from pipeline.evaluation.labels_inside import class_names_of
from pipeline.ledger.coarser_levels import level_jobs
from pipeline.output.pyramid import write_share
from pipeline.segmentation.prepare import prepare
from pipeline.segmentation.request import SegmentRequest
from pipeline.verification.verify import verify_output
from unet import UNetPredictor

SHAPE, BLOCK = (4, 20, 530), (4, 16, 64)
GRID = (1, 2, 9)
SHARDS = {1: (1, 2, 5), 2: (1, 2, 3)}
"""Shards of the coarser levels, in which x is halved."""
OUTPUTS = ("classes", "scores")


@pytest.fixture(scope="module")
def request_of(textured, tmp_path_factory):
    folder = tmp_path_factory.mktemp("corrected")
    zarr.create_array(folder / "in.zarr", data=textured(SHAPE), dimension_names=["z", "y", "x"])
    return SegmentRequest(
        input=str(folder / "in.zarr"), output=str(folder / "out.zarr"), outputs=OUTPUTS, block=BLOCK
    )


@pytest.fixture(scope="module")
def predictor(weights):
    return UNetPredictor(weights("3d"), precision="fp32")


@pytest.fixture(scope="module")
def segmented(request_of, predictor):
    with local_client() as client:
        segment_volume(
            str(request_of.input), str(request_of.output), predictor, client=client,
            outputs=OUTPUTS, block=BLOCK,
        )  # fmt: skip
    return find_segmented(request_of.output)


@pytest.fixture
def place(segmented, tmp_path):
    """Return the place of corrections in which nothing is painted."""
    location = Location.parse(tmp_path / "painted.zarr")
    create_corrections(location, segmented)
    return location


def array_of(place):
    return zarr.open_array(place.path / "0", mode="r+")


def paint(place, seed=3):
    """Paint the last class in a few voxels of one block, and a class at random in another one."""
    array = array_of(place)
    values = np.zeros(SHAPE, np.uint8)
    values[1, 3:9, 70:90] = 2
    values[2:, 17:, 300:310] = np.random.default_rng(seed).integers(0, 3, (2, 3, 10))
    array[...] = values
    return values


def stored(output):
    files = (path for path in output.rglob("*") if path.is_file())
    named = {str(path.relative_to(output)): path for path in files}
    return {name: p.read_bytes() for name, p in named.items() if not name.startswith("run/")}


def applied(segmented, place, target):
    corrections = find_corrections(place, segmented)
    painted = count_painted(corrections, segmented)
    return apply_corrections(segmented, corrections, Location.parse(target), painted=painted)


def test_corrections_lie_beside_the_output_with_its_voxels_and_one_level_without_shards(segmented):
    place = beside(segmented.output)
    assert place.path == segmented.output.path.with_name("out.corrections.zarr")
    assert find_corrections(place, segmented) is None
    before = stored(segmented.output.path)
    create_corrections(place, segmented)
    source, array = find_corrections(place, segmented), array_of(place)
    assert stored(segmented.output.path) == before
    assert (array.shape, array.dtype, array.fill_value) == (SHAPE, np.uint8, 0)
    assert (array.shards, array.chunks) == (None, (1, 20, 512))
    classes = segmented.classes
    assert (source.voxel_size, source.unit, source.translation) == (
        classes.voxel_size, classes.unit, classes.translation
    )  # fmt: skip
    label = zarr.open_group(place.path, mode="r").attrs["ome"]["image-label"]
    assert [one["class"] for one in label["properties"]] == ["unknown", *segmented.class_names]
    shutil.rmtree(place.path)


def test_painted_voxels_are_never_changed(segmented, place, tmp_path):
    paint(place)
    before = stored(place.path)
    create_corrections(place, segmented)
    count_painted(find_corrections(place, segmented), segmented)
    applied(segmented, place, tmp_path / "copy.zarr")
    assert stored(place.path) == before


def test_counts_are_those_of_the_whole_arrays(segmented, place):
    values = paint(place)
    found = count_painted(find_corrections(place, segmented), segmented)
    classes = zarr.open_array(segmented.classes.location.path, mode="r")[...]
    differs = (values > 0) & (values.astype(int) - 1 != classes)
    names = range(len(segmented.class_names))
    assert found.voxels == tuple(int((values == k + 1).sum()) for k in names)
    assert found.changed == tuple(int(((values == k + 1) & differs).sum()) for k in names)
    of_block = {
        index: int((values[segmented.core(index).slices] > 0).sum()) for index in np.ndindex(GRID)
    }
    assert found.blocks == {index: count for index, count in of_block.items() if count}
    values[3, 19, 529] = 1
    array_of(place)[...] = values
    assert count_painted(find_corrections(place, segmented), segmented).digest != found.digest


def test_a_corrected_copy_is_a_full_computation_and_only_what_changes_is_computed(
    segmented, place, tmp_path, request_of, predictor
):
    values = paint(place)
    result = applied(segmented, place, tmp_path / "copy.zarr")
    before, copy = zarr.open_group(segmented.output.path), zarr.open_group(tmp_path / "copy.zarr")
    known = values > 0
    classes = np.where(known, values - known, before["labels/classes/0"][...])
    assert np.array_equal(copy["labels/classes/0"][...], classes)
    scores = before["0"][...]
    for number in range(len(scores)):
        scores[number][known] = np.where(classes[known] == number, 255, 0)
    assert np.array_equal(copy["0"][...], scores)

    files = stored(tmp_path / "copy.zarr")
    images = prepare(request_of, predictor).images
    for level in level_jobs(images, Location.parse(tmp_path / "copy.zarr"), "full"):
        write_share(level, 0, 1)  # from the copy's own finest level
    assert stored(tmp_path / "copy.zarr") == files

    changed = np.zeros(GRID, bool)
    for path in ("labels/classes/0", "0"):
        differs = before[path][...] != copy[path][...]
        differs = differs.any(axis=0) if differs.ndim == 4 else differs
        for index in np.ndindex(GRID):
            changed[index] |= differs[segmented.core(index).slices].any()
    assert (result.blocks_written, result.blocks) == (changed.sum(), changed.size)
    assert 0 < result.blocks_written < result.blocks
    assert result.shards == 2 * sum(map(np.prod, SHARDS.values()))
    assert 0 < result.shards_copied < result.shards


def test_shards_are_copied_where_no_source_has_changed(segmented, place, tmp_path):
    coarsest = zarr.open_array(segmented.output.path / "labels/classes/2", mode="r")
    array_of(place)[0, 0, :4] = 2 - int(coarsest[0, 0, 0])  # the other class, at every level
    result = applied(segmented, place, tmp_path / "copy.zarr")
    assert result.blocks_written == 1
    assert result.shards_copied == result.shards - 2 * 2  # one per level and image


def test_a_corrected_copy_is_intact_and_says_what_it_is(segmented, place, tmp_path):
    paint(place)
    applied(segmented, place, tmp_path / "copy.zarr")
    target = Location.parse(tmp_path / "copy.zarr")
    result = verify_output(target, on_cell=lambda done, total: None)
    assert (result.findings, result.left, result.unrecorded_blocks) == ((), 0, 0)
    assert result.checked == 2 * (18 + 10 + 6)
    made = find_segmented(target)
    assert made.attributes["provenance"]["corrected"]["output"] == str(segmented.output)
    assert made.class_names == segmented.class_names


def test_the_same_corrections_are_applied_once_and_others_are_another_job(
    segmented, place, tmp_path
):
    paint(place)
    first = applied(segmented, place, tmp_path / "copy.zarr")
    shard = tmp_path / "copy.zarr/labels/classes/0/c/0/0/0"
    written = shard.stat().st_mtime_ns
    assert applied(segmented, place, tmp_path / "copy.zarr") == first
    assert shard.stat().st_mtime_ns == written
    array_of(place)[0, 0, 0] = 1
    with pytest.raises(OutputError, match=r"another job \(corrections was .*, now "):
        applied(segmented, place, tmp_path / "copy.zarr")


def test_an_application_that_was_interrupted_is_completed_by_the_same_command(
    segmented, place, tmp_path, monkeypatch
):
    paint(place)
    applied(segmented, place, tmp_path / "whole.zarr")

    def stop(done, total):
        if done == 7:
            raise KeyboardInterrupt

    corrections, target = find_corrections(place, segmented), Location.parse(tmp_path / "copy.zarr")
    with pytest.raises(KeyboardInterrupt):
        apply_corrections(
            segmented, corrections, target, painted=count_painted(corrections, segmented),
            on_block=stop,
        )  # fmt: skip
    applied(segmented, place, target.path)
    assert stored(target.path) == stored(tmp_path / "whole.zarr")
    assert not verify_output(target, on_cell=lambda done, total: None).findings


def test_a_damaged_block_is_reported_and_not_copied(segmented, place, tmp_path):
    paint(place)
    output = tmp_path / "out.zarr"
    shutil.copytree(segmented.output.path, output)
    shard = output / "labels/classes/0/c/0/1/8"
    shard.write_bytes(shard.read_bytes()[:-3])
    damaged = find_segmented(Location.parse(output))
    with pytest.raises(RunError, match=r"block 0,1,8 of .*out.zarr is not as it was written: see"):
        applied(damaged, place, tmp_path / "copy.zarr")


def test_what_cannot_be_corrections_is_refused(segmented, place, tmp_path):
    with pytest.raises(LabelError, match="nothing is painted in"):
        applied(segmented, place, tmp_path / "copy.zarr")
    array_of(place)[2, 5, 7] = 3
    with pytest.raises(
        LabelError, match=r"holds the value 3 at z 2, y 5, x 7: expected 0 \(unknown\), 1 \("
    ):
        count_painted(find_corrections(place, segmented), segmented)
    zarr.create_array(tmp_path / "other.zarr", shape=SHAPE, dtype="u1")
    with pytest.raises(OutputError, match="exists and holds no corrections"):
        find_corrections(Location.parse(tmp_path / "other.zarr"), segmented)
    small = shutil.copytree(place.path, tmp_path / "small.zarr")
    shutil.rmtree(small / "0")
    stated = zarr.open_array(place.path / "0").attrs.asdict()
    zarr.create_array(small / "0", shape=(4, 20, 300), dtype="u1", attributes=stated)
    with pytest.raises(VolumeError, match=r"4×20×300 voxels, and the classes .* are 4×20×530"):
        find_corrections(Location.parse(small), segmented)
    job = {**segmented.job, "input_sample": "0a 1b"}
    other = replace(segmented, attributes={**segmented.attributes, "job": job})
    with pytest.raises(VolumeError, match="was painted on another image than that of"):
        find_corrections(place, other)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_flat_image_in_both_formats_with_blocks_outside_of_a_mask(
    version, textured, weights, tmp_path
):
    raw, mask = textured((300, 90)), np.zeros((300, 90), np.uint8)
    mask[:150] = 1
    for name, array in (("in", raw), ("mask", mask)):
        zarr.create_array(tmp_path / f"{name}.zarr", data=array, dimension_names=["y", "x"])
    segment_volume(
        str(tmp_path / "in.zarr"), str(tmp_path / "out.zarr"),
        UNetPredictor(weights("2d"), precision="fp32"), outputs=OUTPUTS, block=(1, 64, 64),
        format=version, mask=str(tmp_path / "mask.zarr"),
    )  # fmt: skip
    segmented = find_segmented(Location.parse(tmp_path / "out.zarr"))
    place = beside(segmented.output)
    create_corrections(place, segmented)
    array_of(place)[290:, 80:] = 3  # in a block that was skipped
    result = applied(segmented, place, tmp_path / "copy.zarr")
    assert result.blocks_written == 1
    expected = zarr.open_array(tmp_path / "out.zarr/labels/classes/0")[...]
    expected[290:, 80:] = 2
    assert np.array_equal(zarr.open_array(tmp_path / "copy.zarr/labels/classes/0")[...], expected)
    coarse = zarr.open_array(tmp_path / "copy.zarr/labels/classes/1")[...]
    assert (coarse[145:, 80:] == 2).all()
    target = Location.parse(tmp_path / "copy.zarr")
    assert not verify_output(target, on_cell=lambda done, total: None).findings


def test_a_copy_never_replaces_the_corrections_that_it_is_made_with(segmented, place):
    paint(place)
    corrections = find_corrections(place, segmented)
    painted = count_painted(corrections, segmented)
    before = stored(place.path)
    for target in (place, place / "labels/copy"):
        with pytest.raises(OutputError, match="corrections"):
            apply_corrections(segmented, corrections, target, painted=painted, overwrite=True)
    assert stored(place.path) == before


def test_an_evaluation_against_corrections_counts_painted_voxels_only(segmented, place, tmp_path):
    paint(place)
    result = applied(segmented, place, tmp_path / "copy.zarr")
    before = evaluate_volume(str(segmented.output), str(place))
    after = evaluate_volume(str(tmp_path / "copy.zarr"), str(place))
    assert before.voxels == after.voxels == result.painted.total
    errors = sum(result.painted.changed) / result.painted.total
    assert before.classes.pixel_error == pytest.approx(errors)
    assert after.classes.pixel_error == 0


def test_the_classes_of_corrections_are_those_of_the_output(segmented, place):
    assert class_names_of(place) == segmented.class_names
