"""A preview shows what a run would give, of places that differ, for every kind of image."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
import zarr

from pipeline import segment_volume
from pipeline.base.errors import PlanError, VolumeError
from pipeline.base.geometry import Box
from pipeline.preview import normalisation, places, survey
from pipeline.preview.places import Place, chosen_places, given_places
from pipeline.preview.predict import box_scores
from pipeline.preview.preview import preview_volume
from pipeline.preview.survey import survey_volume
from pipeline.segmentation.request import SegmentRequest
from pipeline.volume.intensity import Intensity
from pipeline.volume.measure_intensity import measure_here, measure_intensity
from pipeline.volume.volume import find_volume, open_volume
from unet import UNetPredictor

BYTES = Intensity((0.0,), (1 / 255,))
VOLUMES = {
    # network: shape of the volume (c, z, y, x), boxes in odd places and at the edges
    "2d": ((1, 3, 70, 61), [((0, 0, 0), (1, 17, 61)), ((2, 33, 29), (3, 70, 44))]),
    "2d-rgb": ((3, 1, 50, 40), [((0, 7, 3), (1, 21, 40))]),
    "3d": ((1, 9, 40, 30), [((4, 11, 0), (5, 26, 13)), ((8, 0, 1), (9, 40, 30))]),
    "3d-anisotropic": ((1, 7, 44, 36), [((3, 5, 9), (4, 44, 24))]),
}


@pytest.mark.parametrize("tiles", ["one", "several"])
@pytest.mark.parametrize("name", VOLUMES)
def test_the_scores_of_a_box_equal_those_of_the_whole_volume(
    name, tiles, weights, whole_scores, textured, tmp_path
):
    shape, boxes = VOLUMES[name]
    raw = textured(shape)
    zarr.create_array(tmp_path / "in.zarr", data=raw, dimension_names=tuple("czyx"))
    source = find_volume(str(tmp_path / "in.zarr"))
    whole = whole_scores(weights(name), raw)
    predictor = UNetPredictor(weights(name), precision="fp32")
    smallest = tuple(max(4, size) for size in predictor.divisor)
    tile_memory = 2**31 if tiles == "one" else predictor.memory_bytes(smallest)
    for corners in boxes:
        box = Box(*corners)
        scores = box_scores(
            source, box, predictor=predictor, intensity=BYTES, memory_bytes=tile_memory
        )
        np.testing.assert_allclose(scores, whole[(slice(None), *box.slices)], atol=1e-5)


@pytest.mark.parametrize("name", ["2d", "3d-anisotropic"])
def test_a_preview_shows_the_classes_that_segment_writes(name, weights, textured, tmp_path):
    raw = textured(VOLUMES[name][0][1:])
    zarr.create_array(tmp_path / "in.zarr", data=raw)
    predictor = UNetPredictor(weights(name), precision="fp32")
    settings = {"normalisation": {"kind": "percentile", "low": 1, "high": 99}}
    where = str(tmp_path / "in.zarr"), str(tmp_path / "out.zarr")
    segment_volume(*where, predictor, **settings)
    classes = zarr.open_array(tmp_path / "out.zarr/labels/classes/0")[:]
    request = SegmentRequest(input=where[0], output=where[1], **settings)
    preview = preview_volume(request, predictor)
    assert len(preview.scenes) >= 2
    for scene in preview.scenes:
        shown = np.argmax(scene.scores_cyx, axis=0)
        np.testing.assert_array_equal(shown, classes[scene.place.box.slices][0])
        np.testing.assert_array_equal(scene.raw_cyx[0], raw[scene.place.box.slices][0])
    assert preview.picture.dtype == np.uint8


def test_the_picture_is_the_same_however_the_image_is_stored(weights, textured, tmp_path):
    raw = textured((5, 60, 64))
    zarr.create_array(tmp_path / "in.zarr", data=raw, dimension_names=tuple("zyx"))
    tifffile.imwrite(tmp_path / "in.tif", raw, metadata={"axes": "ZYX"}, ome=True)
    (tmp_path / "slices").mkdir()
    for z, plane in enumerate(raw):
        tifffile.imwrite(tmp_path / f"slices/{z}.tif", plane)
    pictures = [
        preview_volume(
            SegmentRequest(input=str(tmp_path / name), output="x.png"),
            UNetPredictor(weights("2d"), precision="fp32"),
        ).picture[60:]  # without the heading, which names the file
        for name in ("in.zarr", "in.tif", "slices")
    ]
    np.testing.assert_array_equal(pictures[0], pictures[1])
    np.testing.assert_array_equal(pictures[0], pictures[2])


def test_channels_of_other_images_than_rgb_are_shown_one_by_one(weights, tmp_path):
    random = np.random.default_rng(0)
    data = random.integers(0, 9000, (3, 1, 64, 64)).astype("u2")
    zarr.create_array(tmp_path / "in.zarr", data=data, dimension_names=tuple("czyx"))
    request = SegmentRequest(
        input=str(tmp_path / "in.zarr"), output="x.png", normalisation={"kind": "zscore"}
    )
    preview = preview_volume(request, UNetPredictor(weights("2d-rgb")))
    assert preview.picture.shape[1] > 5 * 400  # three channels, scores, overlay


def speckled(shape, *, bright, rough):
    """Return a dark volume with a bright, smooth place and a dark one with strong texture."""
    raw = np.full(shape, 20, np.uint8)
    raw[tuple(slice(a, a + 40) for a in bright)] = 200
    place = tuple(slice(a, a + 40) for a in rough)
    random = np.random.default_rng(0)
    raw[place] = random.integers(0, 2, raw[place].shape) * 60
    return raw


def pyramid_of(raw_zyx, path):
    group = zarr.create_group(path)
    datasets = []
    for level, step in enumerate((1, 2, 4)):
        group.create_array(str(level), data=raw_zyx[:, ::step, ::step])
        scale = [{"type": "scale", "scale": [1, step, step]}]
        datasets.append({"path": str(level), "coordinateTransformations": scale})
    axes = [{"name": name, "type": "space"} for name in "zyx"]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}


@pytest.mark.parametrize("how", ["itself", "level 1", "a sample"])
@pytest.mark.parametrize("depth", [1, 8])
def test_the_places_are_the_middle_the_brightest_and_the_most_textured(
    how, depth, tmp_path, monkeypatch
):
    raw = speckled((depth, 240, 240), bright=(0, 20, 160), rough=(0, 170, 30))
    if how == "level 1":
        pyramid_of(raw, tmp_path / "in.zarr")
    else:
        zarr.create_array(tmp_path / "in.zarr", data=raw)
    limits = {"itself": 2**24, "level 1": raw.size // 2, "a sample": 1000}
    monkeypatch.setattr(survey, "COARSE_VALUES", limits[how])
    window = (1, 32, 32)
    found = survey_volume(find_volume(str(tmp_path / "in.zarr")), window)
    assert how in found.where.replace("the volume", "itself")
    middle, brightest, textured = chosen_places(raw.shape, window, found)
    assert middle == Place(
        "middle", Box(((depth - 1) // 2, 104, 104), ((depth + 1) // 2, 136, 136))
    )
    assert raw[brightest.box.slices].mean() > 100
    assert np.abs(np.diff(raw[textured.box.slices].astype(int))).mean() > 10
    assert all(place.box.shape == window for place in (middle, brightest, textured))


def test_places_are_not_neighbouring_planes(tmp_path, textured):
    raw = np.repeat(textured((1, 64, 64)), 40, axis=0)
    raw[25] += 20  # brightest and, with its neighbour, alike
    raw[26] += 19
    zarr.create_array(tmp_path / "in.zarr", data=np.minimum(raw, 250))
    window = (1, 64, 64)
    found = survey_volume(find_volume(str(tmp_path / "in.zarr")), window)
    planes = sorted(place.box.start[0] for place in chosen_places(raw.shape, window, found))
    assert len(planes) == 3
    assert min(np.diff(planes)) >= 5


def test_places_lie_inside_the_volume_and_never_overlap(tmp_path, textured):
    for number, shape in enumerate([(1, 5, 7), (2, 32, 33), (1, 100, 40), (9, 64, 65)]):
        path = str(tmp_path / f"{number}.zarr")
        zarr.create_array(path, data=textured(shape))
        window = (1, *(min(32, size) for size in shape[1:]))
        places = chosen_places(shape, window, survey_volume(find_volume(path), window))
        covered = np.zeros(shape, int)
        for place in places:
            covered[place.box.slices] += 1
        assert covered.sum() == len(places) * np.prod(window)
        assert covered.max() == 1


def test_a_given_box_is_shown_in_its_middle_plane_and_a_wrong_one_is_refused():
    shape = (9, 50, 2000)
    (place,) = given_places(shape, [Box((2, 10, 20), (7, 30, 50))])
    assert place.box == Box((4, 10, 20), (5, 30, 50))
    for box, line in (
        (
            Box((2, 10, 20), (7, 51, 50)),
            "2:7,10:51,20:50: expected a box .* inside .*0:9,0:50,0:2000",
        ),
        (Box((2, 10, 20), (2, 30, 50)), "at least one voxel"),
        (Box((-1, 10, 20), (2, 30, 50)), "inside the volume"),
        (Box((0, 0, 0), (1, 50, 1025)), "1×50×1025 voxels: expected at most 1024"),
    ):
        with pytest.raises(PlanError, match=line):
            given_places(shape, [box])


@pytest.mark.parametrize(
    "record", [{"kind": "zscore"}, {"kind": "percentile", "low": 2, "high": 98}]
)
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_a_small_volume_is_measured_as_segment_measures_it(
    record, dtype, tmp_path, textured, one_worker, monkeypatch
):
    monkeypatch.setattr("pipeline.volume.measure_intensity._STEP_VOXELS", 1000)  # several boxes
    path = str(tmp_path / "in.zarr")
    zarr.create_array(path, data=(textured((6, 40, 50)) * 3.1).astype(dtype), chunks=(2, 16, 16))
    source = find_volume(path)
    here, there = (
        measure_here(source, record),
        measure_intensity(source, record, one_worker, token="t"),
    )
    np.testing.assert_allclose(here.offset, there.offset, rtol=1e-9)
    np.testing.assert_allclose(here.scale, there.scale, rtol=1e-9)


@pytest.mark.parametrize(
    "record", [{"kind": "zscore"}, {"kind": "percentile", "low": 2, "high": 98}]
)
def test_a_large_volume_is_measured_on_a_part_and_a_note_says_so(
    record, weights, tmp_path, textured, monkeypatch
):
    raw = textured((6, 160, 150))
    zarr.create_array(tmp_path / "in.zarr", data=raw)
    monkeypatch.setattr(normalisation, "EXACT_VALUES", 1000)
    monkeypatch.setattr(survey, "COARSE_VALUES", 1000)
    request = SegmentRequest(input=str(tmp_path / "in.zarr"), output="x.png", normalisation=record)
    source = request.find_source(level=None)
    found, note = normalisation.preview_intensity(
        request, source, record, survey=lambda: survey_volume(source, (1, 32, 32))
    )
    exact = measure_here(source, record)
    assert "measured on a sample of 75 places for the preview; segment measures all" in note
    assert found.offset[0] == pytest.approx(exact.offset[0], rel=0.05)
    assert found.scale[0] == pytest.approx(exact.scale[0], rel=0.05)
    preview = preview_volume(request, UNetPredictor(weights("2d")))
    assert note.partition(" is measured")[0] in " ".join(preview.notes)


def test_a_preview_refuses_what_a_run_refuses(weights, tmp_path):
    zarr.create_array(tmp_path / "in.zarr", data=np.zeros((4, 40, 40), "u1"))
    request = SegmentRequest(input=str(tmp_path / "in.zarr"), output="x.png")
    with pytest.raises(VolumeError, match=r"the weights expect 3"):
        preview_volume(request, UNetPredictor(weights("2d-rgb")))


def test_a_preview_reads_the_boxes_only_where_the_volume_is_large(weights, tmp_path, monkeypatch):
    zarr.create_array(
        tmp_path / "in.zarr", shape=(3, 20_000, 20_000), chunks=(1, 256, 256), dtype="u1"
    )
    source = find_volume(str(tmp_path / "in.zarr"))
    read = []
    volume = type(open_volume(source))
    original = volume.read

    def counted(self, box):
        read.append(box)
        return original(self, box)

    monkeypatch.setattr(volume, "read", counted)
    request = SegmentRequest(input=str(tmp_path / "in.zarr"), output="x.png")
    preview = preview_volume(request, UNetPredictor(weights("2d")))
    assert len(preview.scenes) == 3
    assert sum(box.voxels for box in read) < 0.01 * 3 * 20_000**2


def flat_preview(place, weights):
    request = SegmentRequest(input=str(place), output="x.png")
    return preview_volume(request, UNetPredictor(weights("2d"), precision="fp32"))


def names_of(preview):
    return [scene.place.name for scene in preview.scenes]


def test_a_flat_image_is_shown_whole_with_two_details_that_lie_apart(weights, textured, tmp_path):
    raw = textured((1, 300, 410))
    zarr.create_array(tmp_path / "in.zarr", data=raw, dimension_names=tuple("zyx"))
    preview = flat_preview(tmp_path / "in.zarr", weights)
    assert names_of(preview) == ["whole image", "brightest", "most textured"]
    whole, *details = preview.scenes
    np.testing.assert_array_equal(whole.raw_cyx, raw)
    covered = np.zeros(raw.shape, int)
    for one in details:
        part = one.place.box.slices
        covered[part] += 1
        np.testing.assert_array_equal(one.raw_cyx, raw[part])
        np.testing.assert_array_equal(one.scores_cyx, whole.scores_cyx[:, part[1], part[2]])
    assert covered.max() == 1
    assert covered.sum() == 2 * 136 * 136, "a third of the longer side"


def test_the_picture_of_a_flat_image_is_the_same_with_and_without_an_axis_z(
    weights, textured, tmp_path
):
    raw = textured((1, 260, 300))
    zarr.create_array(tmp_path / "plane.zarr", data=raw, dimension_names=tuple("zyx"))
    zarr.create_array(tmp_path / "flat.zarr", data=raw[0], dimension_names=tuple("yx"))
    pictures = [
        flat_preview(tmp_path / name, weights).picture[60:] for name in ("plane.zarr", "flat.zarr")
    ]
    np.testing.assert_array_equal(*pictures)


def test_a_flat_image_that_is_costly_has_three_places_and_a_small_one_is_shown_once(
    weights, textured, tmp_path, monkeypatch
):
    zarr.create_array(tmp_path / "small.zarr", data=textured((1, 200, 256))[0])
    small = flat_preview(tmp_path / "small.zarr", weights)
    assert names_of(small) == ["whole image"]
    assert small.scenes[0].raw_cyx.shape == (1, 200, 256)
    monkeypatch.setattr(places, "WHOLE_FLOPS", 0)
    zarr.create_array(tmp_path / "in.zarr", data=textured((1, 300, 310))[0])
    costly = flat_preview(tmp_path / "in.zarr", weights)
    assert names_of(costly) == ["middle", "brightest", "most textured"]
