"""Labels written into the image that they are made from: listed, resumed, nothing else touched."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
import zarr

import pipeline
from pipeline.base.errors import OvertileError
from pipeline.base.location import Location
from pipeline.base.stores import open_array
from pipeline.output.image_spec import ImageSpec
from pipeline.output.into_input import check_into_input
from pipeline.output.ome_write import create_images
from pipeline.segmentation.calibration import calibrate
from pipeline.segmentation.prepare import prepare
from pipeline.segmentation.request import SegmentRequest
from pipeline.viewing.layers import find_view
from unet import UNetPredictor


@pytest.fixture
def image(tmp_path, textured):
    """Return a function that makes an OME-Zarr image with a label image of somebody else."""

    def make(version, name="brain.zarr"):
        raw = textured((1, 6, 40, 48))[0]
        place = Location.parse(tmp_path / name)
        specs = [
            ImageSpec(
                name=path or "brain", is_label=bool(path), path=path, axes="zyx",
                dtype="uint8", class_names=(), shapes=(raw.shape,), shards=(raw.shape,),
                chunks=(raw.shape,), voxel_sizes=((0.2, 0.1, 0.1),),
                translations=((0.0, 0.0, 0.0),), unit=("micrometer",) * 3,
            )
            for path in ("", "labels/theirs")
        ]  # fmt: skip
        create_images(place, specs, version=version)
        open_array(place, "0")[...] = raw
        open_array(place, "labels/theirs/0")[...] = raw > 99
        return place

    return make


def files_of(place, *, without):
    """Return what every file holds, and when it was written, except in some folders."""
    return {
        path: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(place.path.rglob("*"))
        if path.is_file() and not any(part in without for part in path.parts)
    }


def listed(place):
    stated = zarr.open_group(f"{place}/labels", mode="r").attrs.asdict()
    return stated.get("ome", stated)["labels"]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_measuring_a_run_leaves_the_image_as_it_was(image, version, weights, one_worker):
    place = image(version)
    before = files_of(place, without=())
    request = SegmentRequest(
        input=str(place), output=f"{place}/labels/ours", into_input=True, block=(4, 16, 16),
        format=version,
    )  # fmt: skip
    prepared = prepare(request, UNetPredictor(weights("3d"), precision="fp32"))
    calibrate(prepared, one_worker, started_s=0, measure_s=5)
    assert files_of(place, without=()) == before


def segment(place, name, weights, **options):
    predictor = UNetPredictor(weights("3d"), precision="fp32", device="cpu")
    out = f"{place}/labels/{name}"
    return pipeline.segment_volume(str(place), out, predictor, into_input=True, **options)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("version", ["0.5", "0.4"])
def test_classes_become_labels_of_the_input_and_nothing_else_changes(version, image, weights):
    place = image(version)
    before = files_of(place, without=())
    segment(place, "ours", weights, format=version, block=(4, 16, 16))
    after = files_of(place, without=("ours",))
    changed = {
        path.relative_to(place.path).as_posix()
        for path in before
        if before[path][0] != after[path][0]
    }
    assert changed == {"labels/zarr.json" if version == "0.5" else "labels/.zattrs"}
    assert after.keys() == before.keys()
    assert listed(place) == ["theirs", "ours"]
    expected = pipeline.segment_volume(
        str(place), f"{place.path.parent}/apart.zarr",
        UNetPredictor(weights("3d"), precision="fp32", device="cpu"), block=(4, 16, 16),
    )  # fmt: skip
    assert expected.voxels == 6 * 40 * 48
    apart = open_array(Location.parse(place.path.parent / "apart.zarr"), "labels/classes/0")
    np.testing.assert_array_equal(open_array(place, "labels/ours/0")[...], apart[...])
    from napari_ome_zarr import napari_get_reader

    kinds = [kind for _, _, kind in napari_get_reader(str(place))(str(place))]
    assert kinds == ["image", "labels", "labels"]
    assert [one.name for one in find_view(place).layers] == ["raw", "theirs", "ours"]
    again = segment(place, "ours", weights, format=version, block=(4, 16, 16))
    assert again.voxels == 6 * 40 * 48  # those of the first run: nothing was computed again
    assert files_of(place, without=("ours",)) == after


def test_an_image_without_labels_gets_its_first(image, weights):
    place = image("0.5", "without.zarr")
    shutil.rmtree(place.path / "labels")
    segment(place, "ours", weights)
    assert listed(place) == ["ours"]


def test_objects_become_labels_of_their_scores(image):
    place = image("0.5")
    count = pipeline.find_objects(str(place), f"{place}/labels/cells", into_input=True)
    assert count > 0
    assert listed(place) == ["theirs", "cells"]
    assert open_array(place, "labels/cells/0")[...].max() == count


def test_what_may_not_be_written_into_is_refused_and_stays_as_it_is(image, weights, textured):
    place, old = image("0.5"), image("0.4", "old.zarr")
    folder = place.path.parent
    zarr.create_array(folder / "plain.zarr", data=textured((1, 6, 40, 48))[0])
    consolidated = image("0.5", "consolidated.zarr")
    with pytest.warns(UserWarning, match="onsolidated"):
        zarr.consolidate_metadata(str(consolidated))
    (place.path / "labels/itself").symlink_to(place.path)
    before = files_of(Location.parse(folder), without=("itself",))
    for source, name, options, reason in (
        (place, "theirs", {}, "was not made by overtile"),
        (place, "theirs", {"overwrite": True}, "replaces no labels of others"),
        (old, "ours", {}, "pass --format 0.4"),
        (Location.parse(folder / "plain.zarr"), "ours", {}, "not an OME-Zarr image"),
        (consolidated, "ours", {}, "consolidated"),
        (place, "ours", {"outputs": ("classes", "scores")}, "scores"),
        (place, "ours", {"box": "0:4,:,:"}, "--frame volume"),
        (place, "deeper/ours", {}, "expected the output"),
        (place, "itself", {"overwrite": True}, "is the input itself"),
        ("https://example.invalid/brain.zarr", "ours", {}, "http cannot be written"),
    ):
        with pytest.raises(OvertileError, match=reason) as caught:
            segment(source, name, weights, **options)
        assert "\n" not in str(caught.value)
    assert files_of(Location.parse(folder), without=("itself",)) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_input_that_cannot_be_written_is_refused(image, weights):
    place = image("0.5")
    (place.path / "labels").chmod(0o555)
    with pytest.raises(OvertileError, match="cannot be written by you"):
        segment(place, "ours", weights)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("version", ["0.5", "0.4"])
def test_consolidated_metadata_of_a_group_around_the_image_never_becomes_stale(version, image):
    place = image(version, "plate.zarr/A/1")
    plate, output = place.parent.parent, place / "labels/ours"
    zarr_format = 3 if version == "0.5" else 2
    for group in (plate, place.parent):
        zarr.open_group(str(group), mode="a", zarr_format=zarr_format, use_consolidated=False)
    linked = Location.parse(plate.path.with_name("linked.zarr"))
    linked.path.symlink_to(place.path)
    check_into_input(output, image=place, version=version)
    for group, image_seen in ((plate, place), (place.parent, place), (plate, linked)):
        zarr.consolidate_metadata(str(group))
        with pytest.raises(OvertileError, match="is consolidated") as caught:
            check_into_input(image_seen / "labels/ours", image=image_seen, version=version)
        assert f"the metadata of {group}, which lists {image_seen}, is" in str(caught.value)
        remove_consolidated(group)
    zarr.consolidate_metadata(str(place / "labels"))
    with pytest.raises(OvertileError, match="labels is consolidated"):
        check_into_input(output, image=place, version=version)
    remove_consolidated(place / "labels")
    zarr.open_group(f"{plate}/B", mode="a", zarr_format=zarr_format)
    zarr.consolidate_metadata(f"{plate}/B")  # lists nothing of the image
    check_into_input(output, image=place, version=version)


def remove_consolidated(group):
    (group.path / ".zmetadata").unlink(missing_ok=True)
    document = group.path / "zarr.json"
    if document.exists():
        kept = json.loads(document.read_text())
        kept.pop("consolidated_metadata")
        document.write_text(json.dumps(kept))
