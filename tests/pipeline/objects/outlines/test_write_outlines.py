"""GeoJSON of objects in blocks: exact, the same for all blocks, and as QuPath reads it."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import shutil

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr

import pipeline
from pipeline.base.errors import OutputError, VolumeError
from pipeline.base.local_client import local_client
from pipeline.base.location import Location
from pipeline.objects.outlines.pixel_grid import PixelGrid, grid_of_image
from pipeline.objects.outlines.read_outlines import outlines_of
from pipeline.objects.outlines.write_outlines import check_outlines, write_outlines
from pipeline.objects.table.finished import find_finished
from pipeline.volume.volume import open_volume


def store_image(path, array, *, pixel_um, translation_um=(0.0, 0.0, 0.0)):
    """Write an image with axes zyx, or yx, as OME-Zarr."""
    axes = "zyx"[-array.ndim :]
    root = zarr.create_group(path)
    root.create_array("0", data=array, chunks=tuple(min(16, n) for n in array.shape))
    scale = [1.0, pixel_um, pixel_um][-array.ndim :]
    moves = list(translation_um[-array.ndim :])
    root.attrs["ome"] = {"version": "0.5", "multiscales": [{
        "axes": [{"name": a, "type": "space", "unit": "micrometer"} for a in axes],
        "datasets": [{"path": "0", "coordinateTransformations": [
            {"type": "scale", "scale": scale}, {"type": "translation", "translation": moves}]}],
    }]}  # fmt: skip
    return path


@pytest.fixture(scope="module")
def scores(tmp_path_factory):
    """Return two slices of noise: objects with holes, islands and touching corners."""
    values = np.random.default_rng(0).integers(0, 256, (2, 50, 60)).astype(np.uint8)
    values[:, 20:46, 3:57] |= 128  # one object across many blocks
    return store_image(tmp_path_factory.mktemp("scores") / "s.zarr", values, pixel_um=0.5)


@pytest.fixture(scope="module")
def found(scores, tmp_path_factory):
    """Return a function from blocks to an output with the objects."""
    folder = tmp_path_factory.mktemp("found")
    outputs = {}

    def find(*block):
        if block not in outputs:
            outputs[block] = folder / f"{len(outputs)}.zarr"
            with local_client() as client:
                pipeline.find_objects(scores, outputs[block], client=client, per_slice=True,
                                      connectivity=26, block=block)  # fmt: skip
        return outputs[block]

    return find


def written(output, target, *, grid=None):
    objects = find_finished(Location.parse(output))
    location = Location.parse(target)
    check_outlines(objects, location, overwrite=False)
    write_outlines(objects, location, grid=grid or PixelGrid(), on_objects=lambda *_: None)
    return target


def rasterised(collection, shape):
    """Return labels (z, y, x) of all features by the even-odd rule at the pixels' centres."""
    labels = np.zeros(shape, int)
    y, x = np.indices(shape[1:]) + 0.5
    for feature in collection["features"]:
        geometry = feature["geometry"]
        parts = geometry["coordinates"]
        inside = np.zeros(shape[1:], bool)
        for polygon in [parts] if geometry["type"] == "Polygon" else parts:
            for ring in polygon:
                for (x0, y0), (x1, y1) in itertools.pairwise(ring):
                    if x0 == x1:
                        inside ^= (min(y0, y1) < y) & (y < max(y0, y1)) & (x0 < x)
        plane = labels[geometry["plane"]["z"] if "plane" in geometry else 0]
        assert not plane[inside].any()
        plane[inside] = feature["id"]
    return labels


def test_filled_outlines_are_the_labels_and_measurements_those_of_the_table(found, tmp_path):
    output = found(1, 16, 16)
    collection = json.loads(written(output, tmp_path / "o.geojson").read_text())
    labels = zarr.open_array(output / "labels/objects/0", mode="r")[...]
    np.testing.assert_array_equal(rasterised(collection, labels.shape), labels)
    kinds = {feature["geometry"]["type"] for feature in collection["features"]}
    assert kinds == {"Polygon", "MultiPolygon"}
    table = pq.read_table(output / "tables/objects.parquet").to_pylist()
    assert [feature["id"] for feature in collection["features"]] == [row["id"] for row in table]
    for row, feature in zip(table, collection["features"], strict=True):
        measured = feature["properties"]["measurements"]
        assert measured["area_um2"] == row["area_um2"] == row["voxels"] * 0.25
        assert measured["touches_edge"] in (0, 1)
        assert all(isinstance(value, int | float) for value in measured.values())


def test_blocks_windows_and_strips_do_not_matter(found, tmp_path):
    one = written(found(1, 16, 16), tmp_path / "one.geojson").read_bytes()
    other = written(found(2, 64, 64), tmp_path / "other.geojson").read_bytes()
    assert one == other
    objects = find_finished(Location.parse(found(1, 16, 16)))
    labels = open_volume(objects.labels)
    (rows,) = objects.rows(None, most=10**6)
    whole = outlines_of(rows, labels)
    for window, strip in ((1, 1), (7, 100), (30, 1)):
        parts = outlines_of(rows, labels, window=window, strip_pixels=strip)
        for ours, theirs in zip(parts, whole, strict=True):
            assert [[r.tolist() for r in p] for p in ours] == [
                [r.tolist() for r in p] for p in theirs
            ]
    few = [part for some in objects.rows(None, most=3) for part in outlines_of(some, labels)]
    assert len(few) == len(whole)


def test_the_file_follows_rfc_7946_and_has_what_qupath_reads(found, tmp_path):
    collection = json.loads(written(found(1, 16, 16), tmp_path / "o.json").read_text())
    assert collection["type"] == "FeatureCollection"
    for feature in collection["features"]:
        assert feature["type"] == "Feature"
        properties, geometry = feature["properties"], feature["geometry"]
        assert properties["objectType"] == "detection"
        assert properties["classification"]["name"] == "object"  # the only class has no name
        assert len(properties["classification"]["color"]) == 3
        assert geometry.get("plane", {"c": -1, "z": 0, "t": 0}).keys() == {"c", "z", "t"}
        parts = geometry["coordinates"]
        for polygon in [parts] if geometry["type"] == "Polygon" else parts:
            for number, ring in enumerate(polygon):
                assert ring[0] == ring[-1]
                assert len(ring) >= 4
                x, y = np.array(ring, float).T
                area = (x[:-1] * y[1:] - x[1:] * y[:-1]).sum() / 2
                assert (area > 0) == (number == 0)  # exteriors counterclockwise, holes clockwise


def test_a_compressed_file_holds_the_same_text(found, tmp_path):
    plain = written(found(1, 16, 16), tmp_path / "o.geojson").read_bytes()
    packed = written(found(1, 16, 16), tmp_path / "o.geojson.gz").read_bytes()
    assert gzip.decompress(packed) == plain
    assert len(packed) < len(plain) / 4


def test_coordinates_can_count_the_pixels_of_a_finer_image(scores, found, tmp_path):
    finer = np.zeros((2, 104, 124), np.uint8)
    # its first pixel covers -0.75 to -0.5 µm, the scores' first one -0.25 to 0.25 µm
    image = store_image(
        tmp_path / "i.zarr", finer, pixel_um=0.25, translation_um=(0, -0.625, -0.625)
    )
    objects = find_finished(Location.parse(found(1, 16, 16)))
    grid = grid_of_image(objects.labels, Location.parse(image), output=objects.output)
    assert grid == PixelGrid(scale=(2.0, 2.0), shift=(2.0, 2.0), has_slices=True)
    collection = json.loads(
        written(objects.output.path, tmp_path / "o.geojson", grid=grid).read_text()
    )
    labels = zarr.open_array(objects.labels.location.path, mode="r")[...]
    expected = np.pad(labels.repeat(2, axis=1).repeat(2, axis=2), ((0, 0), (2, 2), (2, 2)))
    np.testing.assert_array_equal(rasterised(collection, expected.shape), expected)


def test_labels_that_are_not_those_of_the_table_are_refused_and_nothing_is_left(found, tmp_path):
    output = tmp_path / "copy.zarr"
    shutil.copytree(found(1, 16, 16), output)
    labels = zarr.open_array(output / "labels/objects/0", mode="r+")
    y, x = np.argwhere(labels[1] == 0)[0]
    labels[1, y, x] = labels[...].max()
    (tmp_path / "there").mkdir()
    with pytest.raises(OutputError, match="other pixels in the labels than in the table"):
        written(output, tmp_path / "there/o.geojson")
    assert list((tmp_path / "there").iterdir()) == []


def test_objects_of_an_unfinished_run_are_refused(found, tmp_path):
    output = tmp_path / "copy.zarr"
    shutil.copytree(found(1, 16, 16), output)
    shutil.rmtree(output / "tables")
    with pytest.raises(VolumeError, match="holds no finished objects"):
        find_finished(Location.parse(output))


@pytest.mark.slow
def test_objects_in_a_bucket_have_the_same_outlines_there(s3, found, tmp_path):
    local = written(found(1, 16, 16), tmp_path / "o.geojson").read_bytes()
    s3fs = fsspec.filesystem("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    s3fs.put(str(found(1, 16, 16)), f"{s3}/cells.zarr", recursive=True)
    written(f"{s3}/cells.zarr", f"{s3}/o.geojson")
    assert s3fs.cat_file(f"{s3}/o.geojson") == local
    with pytest.raises(OutputError, match="exists: choose another file"):
        written(f"{s3}/cells.zarr", f"{s3}/o.geojson")
    with pytest.raises(VolumeError, match="holds no objects"):
        find_finished(Location.parse(f"{s3}/other.zarr"))


@pytest.mark.parametrize("first", [0, 3])
def test_outlines_of_a_part_of_a_stack_lie_on_its_slices_of_the_image(found, tmp_path, first):
    values = np.zeros((6, 50, 60), np.uint8)
    image = store_image(
        tmp_path / "i.zarr", values, pixel_um=0.5, translation_um=(-float(first), 0.0, 0.0)
    )
    objects = find_finished(Location.parse(found(1, 16, 16)))
    grid = grid_of_image(objects.labels, Location.parse(image), output=objects.output)
    collection = json.loads(
        written(objects.output.path, tmp_path / "o.geojson", grid=grid).read_text()
    )
    slices = {one["geometry"]["plane"]["z"] for one in collection["features"]}
    assert slices == {first, first + 1}


def test_the_image_of_outlines_may_be_a_time_series(found, tmp_path):
    root = zarr.create_group(tmp_path / "i.zarr")
    root.create_array("0", data=np.zeros((3, 2, 50, 60), np.uint8))
    root.attrs["ome"] = {"version": "0.5", "multiscales": [{
        "axes": [{"name": "t", "type": "time"}, *(
            {"name": a, "type": "space", "unit": "micrometer"} for a in "zyx")],
        "datasets": [{"path": "0", "coordinateTransformations": [
            {"type": "scale", "scale": [1.0, 1.0, 0.25, 0.25]}]}],
    }]}  # fmt: skip
    objects = find_finished(Location.parse(found(1, 16, 16)))
    grid = grid_of_image(objects.labels, Location.parse(tmp_path / "i.zarr"), output=objects.output)
    assert (grid.scale, grid.slice_of(1)) == ((2.0, 2.0), 1)
