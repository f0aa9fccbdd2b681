"""``overtile outlines``: what it says of good input, and one line with exit code 2 of bad input."""

from __future__ import annotations

import json

import numpy as np
import pytest
import zarr

import pipeline
from pipeline.base.local_client import local_client


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder with objects of a plane and of a volume, and what is not objects."""
    folder = tmp_path_factory.mktemp("place")
    nuclei = np.zeros((1, 3, 30, 30), np.float32)
    nuclei[:, :, 5:12, 6:20] = nuclei[:, :, 20:28, 3:9] = 0.9
    planes = {"plane": nuclei[:, 0], "empty": 0 * nuclei[:, 0], "volume": nuclei}
    for name, scores in planes.items():
        axes = "czyx" if scores.ndim == 4 else "cyx"
        zarr.create_array(folder / f"s-{name}.zarr", data=scores, dimension_names=tuple(axes))
        with local_client() as client:
            pipeline.find_objects(folder / f"s-{name}.zarr", folder / f"{name}.zarr", client=client)
    zarr.create_array(folder / "image.zarr", data=np.zeros((60, 60), np.uint8))
    (folder / "folder.geojson").mkdir()
    (folder / "there.geojson").write_text("mine")
    return folder


@pytest.fixture(autouse=True)
def in_place(place, monkeypatch):
    monkeypatch.chdir(place)


def test_outlines_are_written_with_the_class_that_was_named(place, shell):
    code, out, err = shell("outlines", "plane.zarr", "new.geojson", "--name", "nucleus")
    assert (code, out) == (0, "")
    assert f"outlines: 2 objects of class nucleus in {place / 'new.geojson'}" in err
    features = json.loads((place / "new.geojson").read_text())["features"]
    assert features[0]["geometry"]["coordinates"] == [[[6, 5], [20, 5], [20, 12], [6, 12], [6, 5]]]
    assert features[1]["properties"]["classification"]["name"] == "nucleus"
    assert features[1]["properties"]["measurements"]["voxels"] == 48
    assert shell("outlines", "plane.zarr", "new.geojson")[0] == 2
    assert shell("outlines", "plane.zarr/labels/objects", "new.geojson", "--overwrite")[0] == 0


def test_no_objects_are_an_empty_collection(place, shell):
    assert shell("outlines", "empty.zarr", "empty.geojson")[0] == 0
    collection = json.loads((place / "empty.geojson").read_text())
    assert collection == {"type": "FeatureCollection", "features": []}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["image.zarr", "o.geojson"],
            "image.zarr holds no objects: expected an output of overtile",
        ),
        (["plan.zarr", "o.geojson"], "plan.zarr does not exist (did you mean "),
        (["s-plane.zarr", "o.geojson"], "s-plane.zarr holds no objects"),
        (["volume.zarr", "o.geojson"], "has objects in three dimensions"),
        (["plane.zarr", "o.png"], "expected a name that ends in .geojson or .geojson.gz"),
        (["plane.zarr", "there.geojson"], "there.geojson exists: choose another file"),
        (["plane.zarr", "folder.geojson", "--overwrite"], "folder.geojson is a folder"),
        (["plane.zarr", "plane.zarr/o.geojson"], "lies inside the input"),
        (["plane.zarr", "there.geojson/o.geojson"], "is not a folder"),
        (["plane.zarr", "https://host/o.geojson"], "http cannot be written"),
        (["plane.zarr", "o.geojson", "--image", "image.zarr"], "states no voxel size"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(arguments, message, place, shell):
    before = sorted(place.rglob("*"))
    code, out, err = shell("outlines", *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert sorted(place.rglob("*")) == before
