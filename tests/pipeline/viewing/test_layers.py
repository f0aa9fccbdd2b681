"""The layers of images whose metadata are unusual, incomplete or wrong."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import zarr

from pipeline.base.location import Location
from pipeline.viewing.layers import find_view

SCALE = {"type": "scale", "scale": [1.0, 1.0, 1.0]}


def write_image(folder, dtype="uint8", **more):
    """Write an OME-Zarr image of one level."""
    axes = [{"name": name, "type": "space"} for name in "zyx"]
    levels = [{"path": "0", "coordinateTransformations": [SCALE]}]
    ome = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": levels}], **more}
    group = zarr.create_group(folder, attributes={"ome": ome})
    group.create_array("0", data=np.ones((2, 8, 8), dtype))
    return folder


def write_labels(image, name, properties=()):
    """Write labels of an image, without the list of them."""
    stated = {"properties": [*properties]}
    return write_image(image / "labels" / name, "uint32", **{"image-label": stated})


def list_labels(image, *names):
    zarr.create_group(image / "labels", attributes={"ome": {"version": "0.5", "labels": names}})


def names_of(view):
    return [layer.name for layer in view.layers]


def test_a_collection_of_one_image_is_shown_as_that_image_with_its_labels(tmp_path):
    zarr.create_group(tmp_path / "in.zarr", attributes={"ome": {"bioformats2raw.layout": 3}})
    image = write_image(tmp_path / "in.zarr/0")
    list_labels(image, "cells")
    write_labels(image, "cells")
    view = find_view(Location.parse(tmp_path / "in.zarr"))
    assert view == find_view(Location.parse(image))
    assert names_of(view) == ["raw", "cells"]


def test_listed_labels_that_were_deleted_are_noted_and_the_others_are_shown(tmp_path):
    image = write_image(tmp_path / "in.zarr")
    list_labels(image, "gone", "cells")
    for name in ("gone", "cells"):
        write_labels(image, name)
    shutil.rmtree(image / "labels/gone")
    view = find_view(Location.parse(image))
    assert names_of(view) == ["raw", "cells"]
    (note,) = view.notes
    assert note.startswith("labels gone are not shown (")


@pytest.mark.parametrize("value", [4_000_000_000, 256, -1, "7", 2.0, True, [2]])
def test_names_of_labels_that_are_not_classes_are_left_out(tmp_path, value):
    image = write_image(tmp_path / "in.zarr")
    list_labels(image, "good", "other")
    good = {"label-value": 2, "class": "axon"}
    write_labels(image, "good", [good, {"label-value": 1}, "no mapping"])
    write_labels(image, "other", [good, {"label-value": value, "class": "odd"}])
    _, known, other = find_view(Location.parse(image)).layers
    assert known.class_names == ("0", "1", "axon")
    assert other.class_names == ()


def test_an_output_that_names_itself_as_its_input_is_shown(tmp_path):
    image = write_image(tmp_path / "out.zarr", "uint32", **{"image-label": {}})
    run = {"job": {"kind": "objects"}, "provenance": {"input": str(image)}}
    zarr.create_group(image / "run", attributes=run)
    assert names_of(find_view(Location.parse(image)))[-1] == "out.zarr"
