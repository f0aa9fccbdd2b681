"""Laws of writing: what is created is valid OME-Zarr, and others read the voxels we wrote."""

from __future__ import annotations

import itertools
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import ome_zarr_models.v04
import ome_zarr_models.v05
import pytest
import tensorstore
import zarr
from hypothesis import given
from hypothesis import strategies as st

from pipeline.base.errors import OutputError, VolumeError
from pipeline.base.location import Location
from pipeline.base.stores import open_array
from pipeline.output.image_spec import ImageSpec, colour
from pipeline.output.ome_write import create_images
from pipeline.planning.levels import level_grids
from pipeline.volume.volume import find_volume

CLASSES = ("background", "membrane", "cell")
MODELS: dict[str, Any] = {"0.4": ome_zarr_models.v04, "0.5": ome_zarr_models.v05}
VERSIONS = pytest.mark.parametrize("version", ["0.5", "0.4"])


def labels(**changes: Any) -> ImageSpec:
    fields: dict[str, Any] = {
        "name": "classes", "is_label": True, "path": "labels/classes", "axes": "zyx",
        "dtype": "uint8", "class_names": CLASSES, "shapes": ((10, 40, 48), (10, 20, 24)),
        "shards": ((4, 16, 32),) * 2, "chunks": ((2, 8, 16),) * 2,
        "voxel_sizes": ((3.0, 0.5, 0.5), (3.0, 1.0, 1.0)),
        "translations": ((0.0, 0.0, 7.0), (0.0, 0.25, 7.25)),
        "unit": ("micrometer", "micrometer", "micrometer"),
    }  # fmt: skip
    return ImageSpec(**(fields | changes))


def scores(**changes: Any) -> ImageSpec:
    fields: dict[str, Any] = {
        "name": "scores", "is_label": False, "path": "", "axes": "czyx", "dtype": "float32",
        "shapes": ((3, 10, 40, 48), (3, 10, 20, 24)), "shards": ((3, 4, 16, 32),) * 2,
        "chunks": ((1, 2, 8, 16),) * 2,
    }  # fmt: skip
    return labels(**(fields | changes))


def flat(spec: ImageSpec) -> dict[str, Any]:
    """The same image without z."""
    axes = spec.axes.replace("z", "")
    z = spec.axes.index("z")
    cut = {
        field: tuple((*sizes[:z], *sizes[z + 1 :]) for sizes in getattr(spec, field))
        for field in ("shapes", "shards", "chunks")
    }
    return {"axes": axes, **cut}


def files(folder: Path) -> list[Path]:
    named = ("zarr.json", ".zarray", ".zattrs", ".zgroup")
    return [path for path in folder.rglob("*") if path.is_file() and path.name not in named]


@VERSIONS
@pytest.mark.parametrize("is_flat", [False, True])
def test_metadata_is_valid_for_others(tmp_path, version, is_flat):
    out = Location.parse(tmp_path / "out.zarr")
    specs = [scores(), labels()]
    if is_flat:
        specs = [replace(spec, **flat(spec)) for spec in specs]
    create_images(out, specs, version=version)
    models = MODELS[version]
    root = zarr.open_group(out.path, mode="r")
    image = models.Image.from_zarr(root)
    models.Labels.from_zarr(root["labels"])
    label = models.ImageLabel.from_zarr(root["labels/classes"])
    stated = (image.ome_attributes if version == "0.5" else image.attributes).model_dump()
    named = [channel["label"] for channel in stated["omero"]["channels"]]
    assert tuple(named) == CLASSES
    attributes = label.ome_attributes if version == "0.5" else label.attributes
    about = attributes.image_label
    assert about.source.image == "../../"
    assert [entry.label_value for entry in about.colors] == [0, 1, 2]
    assert about.colors[0].rgba[3] == 0


@VERSIONS
def test_voxel_sizes_come_back_as_they_were_given(tmp_path, version):
    out = Location.parse(tmp_path / "out.zarr")
    create_images(out, [labels()], version=version)
    for number, spec in enumerate([labels()] * 2):
        source = find_volume(f"{out}/labels/classes", level=number)
        assert source.voxel_size == spec.voxel_sizes[number]
        assert source.translation == spec.translations[number]
        assert source.unit == spec.unit
        assert (source.shape, source.axes) == (spec.shapes[number], "zyx")


@VERSIONS
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint64", "float16", "float32"])
def test_tensorstore_reads_what_we_write(tmp_path, version, dtype):
    out = Location.parse(tmp_path / "out.zarr")
    create_images(out, [scores(dtype=dtype)], version=version)
    values = np.random.default_rng(0).integers(0, 200, (3, 10, 40, 48)).astype(dtype)
    open_array(out, "0")[...] = values
    driver = "zarr3" if version == "0.5" else "zarr"
    kvstore = {"driver": "file", "path": f"{out}/0"}
    other = tensorstore.open({"driver": driver, "kvstore": kvstore}).result()
    np.testing.assert_array_equal(other.read().result(), values)
    assert other.dtype.numpy_dtype == np.dtype(dtype)


def test_a_full_shard_is_one_file_also_at_the_edge(tmp_path):
    out = Location.parse(tmp_path / "out.zarr")
    create_images(out, [labels()], version="0.5")
    array = open_array(out, "labels/classes/0")
    array[0:4, 0:16, 0:32] = 1
    assert len(files(tmp_path)) == 1
    array[8:10, 32:40, 32:48] = 1
    assert len(files(tmp_path)) == 2


@VERSIONS
def test_a_shard_that_is_written_again_holds_nothing_of_before(tmp_path, version):
    out = Location.parse(tmp_path / "out.zarr")
    create_images(out, [labels()], version=version)
    array = open_array(out, "labels/classes/0")
    again = np.zeros((4, 16, 32), np.uint8)
    again[:, :8] = 2
    array[4:8, 16:32, 0:32] = 1
    array[4:8, 16:32, 0:32] = again
    np.testing.assert_array_equal(array[4:8, 16:32, 0:32], again)


def test_zarr_v2_stores_chunks_in_folders(tmp_path):
    out = Location.parse(tmp_path / "out.zarr")
    create_images(out, [labels()], version="0.4")
    open_array(out, "labels/classes/0")[0:4, 0:16, 0:32] = 1
    stored = {os.path.relpath(path, f"{out}/labels/classes/0") for path in files(tmp_path)}
    assert stored == {f"{z}/{y}/{x}" for z in (0, 1) for y in (0, 1) for x in (0, 1)}


@VERSIONS
def test_what_was_never_written_reads_as_background(tmp_path, version):
    create_images(Location.parse(tmp_path / "out.zarr"), [labels()], version=version)
    assert not np.any(open_array(Location.parse(tmp_path / "out.zarr"), "labels/classes/1")[...])


@VERSIONS
def test_all_label_images_are_listed(tmp_path, version):
    out = Location.parse(tmp_path / "out.zarr")
    cells = labels(path="labels/cells", class_names=(), dtype="uint64")
    create_images(out, [labels(), cells], version=version)
    MODELS[version].Labels.from_zarr(zarr.open_group(out.path, mode="r")["labels"])
    attributes = zarr.open_group(f"{out}/labels", mode="r").attrs.asdict()
    assert attributes.get("ome", attributes)["labels"] == ["classes", "cells"]


@VERSIONS
def test_creating_again_keeps_voxels_and_another_array_is_refused(tmp_path, version):
    out = Location.parse(tmp_path / "out.zarr")
    create_images(out, [labels()], version=version)
    open_array(out, "labels/classes/0")[...] = 2
    create_images(out, (), version=version)
    create_images(out, [labels()], version=version)
    assert np.all(open_array(out, "labels/classes/0")[...] == 2)
    with pytest.raises(OutputError, match="is another array"):
        create_images(out, [labels(dtype="uint16")], version=version)


def test_dimension_names_are_written_in_v3(tmp_path):
    create_images(Location.parse(tmp_path / "out.zarr"), [scores()], version="0.5")
    array: Any = open_array(Location.parse(tmp_path / "out.zarr"), "0")
    assert array.metadata.dimension_names == tuple("czyx")


def test_an_array_is_kept_under_one_token_and_opened_anew_under_another(tmp_path):
    out = Location.parse(tmp_path / "out.zarr")
    create_images(out, [labels()], version="0.5")
    first = open_array(out, "labels/classes/0", token="run-1")
    assert open_array(out, "labels/classes/0", token="run-1") is first
    assert open_array(out, "labels/classes/0", token="run-2") is not first


def test_an_array_that_is_not_there_is_an_output_error(tmp_path):
    create_images(Location.parse(tmp_path / "out.zarr"), (), version="0.5")
    with pytest.raises(OutputError) as caught:
        open_array(Location.parse(tmp_path / "out.zarr"), "labels/classes/0")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"axes": "xyz"},
        {"dtype": "float32"},
        {"chunks": ((3, 8, 16),) * 2},
        {"shards": ((4, 16, 32),)},
        {"shapes": ((10, 40), (10, 20))},
        {"shapes": ((0, 40, 48), (0, 20, 24))},
    ],
)
def test_an_image_that_cannot_be_stored_is_refused(changes):
    with pytest.raises(OutputError):
        labels(**changes)


def test_colours_of_all_classes_differ():
    colours = [colour(value) for value in range(1, 256)]
    assert len(set(colours)) == 255
    assert all(0 <= part <= 255 for one in colours for part in one)


SHAPES = st.tuples(*[st.integers(1, 5000)] * 3)
VOXELS = st.tuples(*[st.sampled_from([0.25, 1.0, 1.4, 4.0, 10.0, 50.0])] * 3)


@given(SHAPES, VOXELS, st.integers(1, 512))
def test_levels_are_ceiled_parts_of_the_volume_down_to_the_minimum(shape, voxels, minimum):
    grids = level_grids(shape, voxels, minimum=minimum)
    assert grids[0] == ((1, 1, 1), shape)
    for factor, level in grids:
        assert level == tuple(-(-n // f) for n, f in zip(shape, factor, strict=True))
    for (finer, long), (coarser, _) in itertools.pairwise(grids):
        steps = [c // f for c, f in zip(coarser, finer, strict=True)]
        assert set(steps) <= {1, 2}
        assert 2 in steps
        assert all(n > minimum for n, step in zip(long, steps, strict=True) if step == 2)
    assert max(grids[-1][1]) <= minimum


@given(SHAPES, VOXELS)
def test_a_level_never_makes_voxels_less_isotropic(shape, voxels):
    for factor, level in level_grids(shape, voxels):
        sizes = [v * f for v, f in zip(voxels, factor, strict=True)]
        halved = [size for size, f in zip(sizes, factor, strict=True) if f > 1]
        kept = [s for s, n in zip(sizes, level, strict=True) if n > 256]
        assert not halved or not kept or max(halved) <= 3.0 * max(*kept, *voxels)


@VERSIONS
@pytest.mark.parametrize("is_flat", [False, True])
def test_the_root_of_an_output_of_labels_alone_is_an_image_with_their_levels(
    tmp_path, version, is_flat
):
    spec = replace(labels(), **flat(labels())) if is_flat else labels()
    out = Location.parse(tmp_path / "out.zarr")
    create_images(out, [spec], version=version)
    MODELS[version].Image.from_zarr(zarr.open_group(out.path, mode="r"))
    for number in range(2):
        found = find_volume(out, level=number, holds="labels")
        inside = find_volume(f"{out}/labels/classes", level=number, holds="labels")
        assert found.path == f"labels/classes/{number}"
        assert found.location == inside.location
        for field in ("axes", "shape", "dtype", "voxel_size", "unit", "translation"):
            assert getattr(found, field) == getattr(inside, field), field
    group = zarr.open_group(f"{out}/labels/classes", mode="r").attrs.asdict()
    source = group.get("ome", group)["image-label"]["source"]["image"]
    assert os.path.normpath(f"{out}/labels/classes/{source}") == str(out)
    with pytest.raises(VolumeError, match="holds labels"):
        find_volume(out)


@VERSIONS
def test_an_image_at_the_root_keeps_its_metadata_beside_labels(tmp_path, version):
    out = Location.parse(tmp_path / "out.zarr")
    create_images(out, [labels(), scores()], version=version)
    assert find_volume(out).path == "0"


@VERSIONS
def test_an_older_output_whose_root_is_no_image_is_left_as_it_is(tmp_path, version):
    out = Location.parse(tmp_path / "out.zarr")
    create_images(out, (), version=version)
    before = zarr.open_group(out.path, mode="r").attrs.asdict()
    create_images(out, [labels()], version=version)
    assert zarr.open_group(out.path, mode="r").attrs.asdict() == before
