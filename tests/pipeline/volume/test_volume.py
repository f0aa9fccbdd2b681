"""However an image is stored, the same voxels are read as (c, z, y, x).

All tests run with both readers: zarr, and tensorstore if it is installed.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from pipeline.base.errors import GeometryError, VolumeError
from pipeline.base.geometry import Box
from pipeline.base.store_errors import redacted
from pipeline.volume.formats.axes import checked_axes, letters
from pipeline.volume.formats.ome_zarr import tensorstore_reader
from pipeline.volume.volume import VolumeSource, find_volume, open_volume

SIZES = {"t": 2, "c": 3, "z": 5, "y": 11, "x": 13}
DTYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"]
DTYPES += ["float16", "float32", "float64"]


@pytest.fixture(autouse=True, scope="module", params=["zarr", "tensorstore"])
def reader(request):
    """The reader of all arrays that are opened."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensorstore_reader, "is_installed", lambda: request.param == "tensorstore")
        yield request.param


def grey_values(axes: str, dtype: str = "uint16") -> np.ndarray:
    rng = np.random.default_rng(7)
    values = rng.integers(0, 120, tuple(SIZES[axis] for axis in axes))
    return values.astype(dtype)


def store(path: Path, values: np.ndarray, **kwargs: Any) -> zarr.Array[Any]:
    """Write an array whose shape is not a multiple of its chunks."""
    kwargs = {"chunks": tuple(min(4, n) for n in values.shape), "zarr_format": 3} | kwargs
    array = zarr.create_array(
        str(path), shape=values.shape, dtype=kwargs.pop("dtype", values.dtype), **kwargs
    )
    array[...] = values
    return array


def as_czyx(values: np.ndarray, axes: str, *, time: int = 0) -> np.ndarray:
    """The expected result of a read, computed independently of the reader."""
    if "t" in axes:
        values, axes = values.take(time, axis=axes.index("t")), axes.replace("t", "")
    for axis in "czyx":
        if axis not in axes:
            values, axes = values[None], axis + axes
    return np.einsum(f"{axes}->czyx", values)


def read_all(source: VolumeSource) -> np.ndarray:
    return open_volume(source).read(Box.of_shape(source.shape_zyx))


def write_image(path: Path, *, version: str = "0.4", channels: Any = (), **multiscale: Any) -> Any:
    """Write a small OME-Zarr image c z y x with levels s0, s1, s2, as other tools would."""
    zarr_format: Any = 3 if version == "0.5" else 2
    values = grey_values("czyx")
    scales = [[1.0, 2.0, 0.5, 0.5], [1.0, 2.0, 1.0, 1.0], [1.0, 2.0, 2.0, 2.0]]
    units = {"z": "micrometer", "y": "micrometer", "x": "micrometer"}
    image = {
        "name": "cells",
        "axes": [
            {"name": a, "type": "channel" if a == "c" else "space"}
            | ({"unit": units[a]} if a in units else {})
            for a in "czyx"
        ],
        "datasets": [
            {
                "path": f"s{number}",
                "coordinateTransformations": [
                    {"type": "scale", "scale": scale},
                    {
                        "type": "translation",
                        "translation": [0.0, 0.0, *((scale[2] - 0.5) / 2,) * 2],
                    },
                ],
            }
            for number, scale in enumerate(scales)
        ],
    } | multiscale
    image = {key: value for key, value in image.items() if value is not None}
    ome: dict[str, Any] = {"multiscales": [image]}
    if channels:
        ome["omero"] = {"channels": [{"label": name} for name in channels]}
    attributes = {"ome": {"version": "0.5", **ome}} if version == "0.5" else ome
    zarr.create_group(str(path), zarr_format=zarr_format, attributes=attributes)
    levels = [values, values[..., ::2, ::2], values[..., ::4, ::4]]
    for number, level in enumerate(levels):
        store(path / f"s{number}", level, zarr_format=zarr_format)
    return levels


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_every_dtype_and_byte_order_is_read_in_native_order(tmp_path, zarr_format, order, dtype):
    values = grey_values("zyx", dtype)
    layout: dict[str, Any] = {"zarr_format": zarr_format}
    if zarr_format == 2:
        layout["dtype"] = np.dtype(dtype).newbyteorder(order)
    else:
        endian = "little" if order == "<" else "big"
        layout["serializer"] = zarr.codecs.BytesCodec(endian=endian)
    store(tmp_path / "in.zarr", values, **layout)
    source = find_volume(str(tmp_path / "in.zarr"), axes="zyx")
    read = read_all(source)
    assert source.dtype == dtype
    assert read.dtype == np.dtype(dtype)
    assert read.dtype.isnative
    np.testing.assert_array_equal(read[0], values)


@pytest.mark.parametrize("axes", ["yx", "xy", "zyx", "xyz", "czyx", "yxc", "zyxc", "tczyx", "tyx"])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_every_axis_order_is_read_as_czyx(tmp_path, zarr_format, axes):
    values = grey_values(axes)
    store(tmp_path / "in.zarr", values, zarr_format=zarr_format)
    source = find_volume(str(tmp_path / "in.zarr"), axes=axes, time=1 if "t" in axes else None)
    assert source.shape_zyx == tuple(SIZES[a] if a in axes else 1 for a in "zyx")
    assert source.channel_count == (SIZES["c"] if "c" in axes else 1)
    assert source.spatial_axes == ("zyx" if "z" in axes else "yx")
    np.testing.assert_array_equal(read_all(source), as_czyx(values, axes, time=1))


@given(data=st.data(), axes=st.permutations("czyx").map("".join))
def test_a_read_of_any_box_equals_numpys_slice(tmp_path_factory, data, axes):
    path = tmp_path_factory.getbasetemp() / f"box-{axes}.zarr"
    values = grey_values(axes)
    if not path.exists():
        store(path, values)
    ends = [sorted(data.draw(st.tuples(*[st.integers(0, SIZES[a])] * 2))) for a in "zyx"]
    box = Box(tuple(a for a, _ in ends), tuple(b for _, b in ends))
    read = open_volume(find_volume(str(path), axes=axes)).read(box)
    np.testing.assert_array_equal(read, as_czyx(values, axes)[(slice(None), *box.slices)])


def test_a_sharded_array_is_read_exactly_and_states_its_inner_chunks(tmp_path):
    values = grey_values("zyx")
    store(tmp_path / "in.zarr", values, chunks=(1, 4, 4), shards=(2, 8, 8))
    source = find_volume(str(tmp_path / "in.zarr"))
    assert source.chunk_shape_zyx == (1, 4, 4)
    np.testing.assert_array_equal(read_all(source)[0], values)


LAYOUTS = {
    "zarr 2": {"zarr_format": 2},
    "zarr 2, Fortran order": {"zarr_format": 2, "order": "F"},
    "zarr 2, other separator, blosc": {
        "zarr_format": 2,
        "chunk_key_encoding": {"name": "v2", "separator": "/"},
        "compressors": numcodecs.Blosc(),
    },
    "zarr 3, shards": {"shards": (4, 8, 8)},
    "zarr 3, transposed": {"filters": [zarr.codecs.TransposeCodec(order=(2, 0, 1))]},
    "zarr 3, no compression": {"compressors": None},
    "gzip": {"compressors": [zarr.codecs.GzipCodec()]},
    "gzip in shards": {"shards": (4, 8, 8), "compressors": [zarr.codecs.GzipCodec()]},
    "zarr 2, zlib": {"zarr_format": 2, "compressors": numcodecs.Zlib()},
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_chunk_layout_is_read_exactly_with_the_fill_value_for_missing_chunks(
    reader, tmp_path, name
):
    layout = LAYOUTS[name]
    values = grey_values("zyx")
    array = store(tmp_path / "in.zarr", values, fill_value=9, **layout)
    array[4:, 8:, 8:] = values[4:, 8:, 8:] = 9  # zarr then removes these chunks
    np.testing.assert_array_equal(
        read_all(find_volume(str(tmp_path / "in.zarr"), axes="zyx"))[0], values
    )
    fast = tensorstore_reader.fastest_reader(array, str(tmp_path / "in.zarr"))
    checked_to_the_end = "gzip" not in name and "zlib" not in name
    assert isinstance(fast, tensorstore_reader.FastArray) == (
        reader == "tensorstore" and checked_to_the_end
    )


def test_a_chunk_larger_than_memory_is_read_by_zarr(tmp_path):
    path = str(tmp_path / "in.zarr")
    array = zarr.create_array(path, shape=(20_000,) * 3, chunks=(20_000,) * 3, dtype="uint16")
    assert tensorstore_reader.fastest_reader(array, path) is array


def test_a_forked_process_does_not_use_tensorstore(tmp_path):
    path = str(tmp_path / "in.zarr")
    code = f"""
import os, sys, zarr
from pipeline.volume.formats.ome_zarr import tensorstore_reader
array = zarr.create_array({path!r}, shape=(4, 4), dtype="uint8", fill_value=3)
fast = tensorstore_reader.fastest_reader(array, {path!r})
assert isinstance(fast, tensorstore_reader.FastArray) and fast[0:2, 0:2].sum() == 12
child = os.fork()
if child == 0:
    class Fives:  # zarr's threads do not exist in a fork
        def __getitem__(self, selection):
            return 5
    fast._array = Fives()
    again = tensorstore_reader.fastest_reader(array, {path!r})
    os._exit(0 if int(fast[0:2, 0:2]) == 5 and again is array else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_codec_that_only_zarr_supports_is_read_by_zarr(tmp_path):
    values = grey_values("zyx")
    store(
        tmp_path / "in.zarr", values, zarr_format=2, filters=[numcodecs.Delta("u2")],
        compressors=numcodecs.LZ4(),
    )  # fmt: skip
    np.testing.assert_array_equal(
        read_all(find_volume(str(tmp_path / "in.zarr"), axes="zyx"))[0], values
    )


def test_every_reader_raises_the_same_error_for_a_damaged_chunk(tmp_path):
    store(tmp_path / "in.zarr", grey_values("zyx"))
    (tmp_path / "in.zarr/c/0/0/0").write_bytes(b"no zstd frame")
    with pytest.raises(RuntimeError, match="Zstd"):
        read_all(find_volume(str(tmp_path / "in.zarr"), axes="zyx"))


def test_a_box_outside_the_volume_is_rejected(tmp_path):
    store(tmp_path / "in.zarr", grey_values("zyx"))
    volume = open_volume(find_volume(str(tmp_path / "in.zarr")))
    with pytest.raises(GeometryError, match="not inside"):
        volume.read(Box((0, 0, 0), (6, 1, 1)))


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_level_is_found_by_number_by_name_and_by_its_own_uri(tmp_path, version):
    levels = write_image(tmp_path / "in.zarr", version=version)
    uri = str(tmp_path / "in.zarr")
    for number, values in enumerate(levels):
        by_number = find_volume(uri, level=number)
        assert by_number == find_volume(uri, level=f"s{number}")
        assert by_number == find_volume(uri, level=str(number))
        assert by_number == find_volume(f"{uri}/s{number}")
        assert by_number.path == f"s{number}"
        np.testing.assert_array_equal(read_all(by_number), values)
    assert find_volume(uri) == find_volume(uri, level=0)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_voxel_size_unit_and_origin_are_read(tmp_path, version):
    write_image(tmp_path / "in.zarr", version=version)
    source = find_volume(str(tmp_path / "in.zarr"), level="s2")
    assert source.voxel_size == (2.0, 2.0, 2.0)
    assert source.translation == (0.0, 0.75, 0.75)
    assert source.unit == ("micrometer",) * 3
    assert source.name == "cells"
    assert source.notes == ()


def test_scale_of_all_levels_multiplies_the_scale_of_one(tmp_path):
    common = [
        {"type": "scale", "scale": [1.0, 10.0, 10.0, 10.0]},
        {"type": "translation", "translation": [0.0, 3.0, 0.0, 0.0]},
    ]
    write_image(tmp_path / "in.zarr", coordinateTransformations=common)
    source = find_volume(str(tmp_path / "in.zarr"), level=2)
    assert source.voxel_size == (20.0, 20.0, 20.0)
    assert source.translation == (3.0, 7.5, 7.5)


def test_an_unusable_voxel_size_is_noted_not_used(tmp_path):
    broken = [
        {"path": "s0", "coordinateTransformations": [{"type": "scale", "scale": [0, 0, 0, 0]}]}
    ]
    write_image(tmp_path / "in.zarr", datasets=broken)
    source = find_volume(str(tmp_path / "in.zarr"))
    assert source.voxel_size == (1.0, 1.0, 1.0)
    assert "voxel size" in source.notes[0]


def test_older_versions_are_read(tmp_path):
    write_image(tmp_path / "v3.zarr", axes=["c", "z", "y", "x"])
    assert find_volume(str(tmp_path / "v3.zarr")).axes == "czyx"
    write_image(tmp_path / "v1.zarr", axes=None, datasets=[{"path": "s0"}])
    source = find_volume(str(tmp_path / "v1.zarr"))
    assert (source.axes, source.voxel_size) == ("czyx", (1.0, 1.0, 1.0))


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_channels_named_by_numbers_are_selected_by_name_first(tmp_path, version):
    write_image(tmp_path / "lasers.zarr", version=version, channels=("405", "488", "561"))
    write_image(tmp_path / "counted.zarr", version=version, channels=("1", "2", "3"))
    for name, requested, numbers in (
        ("lasers", "488", (1,)), ("lasers", "1", (1,)), ("lasers", 1, (1,)),
        ("lasers", ["561", " 405", "1"], (2, 0, 1)), ("counted", "1", (0,)), ("counted", 1, (1,)),
        ("counted", "0", (0,)),
    ):  # fmt: skip
        source = find_volume(str(tmp_path / f"{name}.zarr"), channel=requested)
        assert source.channels == numbers, (name, requested)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_channels_are_selected_by_name_or_number_in_the_requested_order(tmp_path, version):
    levels = write_image(tmp_path / "in.zarr", version=version, channels=("DNA", "actin", "ER"))
    for requested, numbers in [
        ("actin", (1,)),
        (2, (2,)),
        (["ER", 0], (2, 0)),
        (["0", "1"], (0, 1)),
    ]:
        source = find_volume(str(tmp_path / "in.zarr"), channel=requested)
        assert source.channels == numbers
        assert source.channel_count == len(numbers)
        np.testing.assert_array_equal(read_all(source), levels[0][list(numbers)])


def test_a_single_time_point_is_the_default_and_of_several_one_must_be_selected(tmp_path):
    values = grey_values("tczyx")
    store(tmp_path / "two.zarr", values)
    store(tmp_path / "one.zarr", values[:1])
    assert find_volume(str(tmp_path / "one.zarr")).time == 0
    with pytest.raises(VolumeError, match=r"2 time points.*--time 0 to 1"):
        find_volume(str(tmp_path / "two.zarr"))
    source = find_volume(str(tmp_path / "two.zarr"), time=1)
    np.testing.assert_array_equal(read_all(source), values[1])


def test_axes_of_a_plain_array_come_from_the_first_source_that_states_them(tmp_path):
    values = grey_values("zyx")
    group = zarr.create_group(str(tmp_path / "in.zarr"), zarr_format=2)
    store(tmp_path / "in.zarr/raw", values, zarr_format=2)
    uri = str(tmp_path / "in.zarr/raw")
    assumed = find_volume(uri)
    assert (assumed.axes, len(assumed.notes)) == ("zyx", 1)
    assert "--axes" in assumed.notes[0]
    group.attrs["_ARRAY_DIMENSIONS"] = ["y", "z", "x"]
    assert find_volume(uri).axes == "yzx"
    group.attrs["axes"] = ["z", "x", "y"]
    assert find_volume(uri).axes == "zxy"
    zarr.open_array(uri, mode="r+").attrs["axes"] = "cyx"
    assert find_volume(uri).axes == "cyx"
    assert find_volume(uri).notes == ()
    assert find_volume(uri, axes="zyx").axes == "zyx"


def test_dimension_names_are_used_if_they_are_known_axes(tmp_path):
    store(tmp_path / "known.zarr", grey_values("zyx"), dimension_names=("c", "y", "x"))
    store(tmp_path / "others.zarr", grey_values("zyx"), dimension_names=("dim_0", "lat", "lon"))
    assert find_volume(str(tmp_path / "known.zarr")).axes == "cyx"
    others = find_volume(str(tmp_path / "others.zarr"))
    assert (others.axes, len(others.notes)) == ("zyx", 1)


@pytest.mark.parametrize(("key", "unit"), [("um", "micrometer"), ("nm", "nanometer")])
def test_voxel_size_attributes_of_a_plain_group_are_read(tmp_path, key, unit):
    zarr.create_group(
        str(tmp_path / "in.zarr"), attributes={f"voxel_size_{key}": [50, 4, 4], "axes": list("zyx")}
    )
    store(tmp_path / "in.zarr/raw", grey_values("zyx"))
    source = find_volume(str(tmp_path / "in.zarr/raw"))
    assert source.voxel_size == (50.0, 4.0, 4.0)
    assert source.unit == (unit,) * 3


def test_a_collection_of_one_image_is_opened_as_that_image(tmp_path):
    zarr.create_group(
        str(tmp_path / "in.zarr"), zarr_format=2, attributes={"bioformats2raw.layout": 3}
    )
    levels = write_image(tmp_path / "in.zarr/0")
    source = find_volume(str(tmp_path / "in.zarr"), level=1)
    assert source == find_volume(str(tmp_path / "in.zarr/0"), level=1)
    np.testing.assert_array_equal(read_all(source), levels[1])


def test_the_digest_is_the_same_for_every_way_to_name_an_array(tmp_path, monkeypatch):
    write_image(tmp_path / "in.zarr")
    (tmp_path / "link.zarr").symlink_to(tmp_path / "in.zarr")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    names = ["in.zarr", "./in.zarr/", "~/in.zarr", f"file://{tmp_path}/in.zarr", "in.zarr/s0"]
    sources = [find_volume(name) for name in [*names, "link.zarr"]]
    assert len({source.metadata_digest for source in sources}) == 1
    assert len(set(sources[:-1])) == 1
    assert str(sources[0].store) == str(tmp_path / "in.zarr")
    assert find_volume("in.zarr", level=1).metadata_digest != sources[0].metadata_digest


def test_the_digest_changes_with_the_stored_array(tmp_path):
    store(tmp_path / "in.zarr", grey_values("zyx"))
    before = find_volume(str(tmp_path / "in.zarr")).metadata_digest
    zarr.open_array(str(tmp_path / "in.zarr"), mode="r+").attrs["note"] = "read by a person"
    assert find_volume(str(tmp_path / "in.zarr")).metadata_digest == before
    store(tmp_path / "in.zarr", grey_values("zyx"), chunks=(5, 5, 5), overwrite=True)
    assert find_volume(str(tmp_path / "in.zarr")).metadata_digest != before


def test_a_source_survives_pickling_and_is_opened_once_per_process(tmp_path):
    store(tmp_path / "in.zarr", grey_values("zyx"))
    source = find_volume(str(tmp_path / "in.zarr"))
    travelled = pickle.loads(pickle.dumps(source))
    assert travelled == source
    assert len(pickle.dumps(source)) < 2000
    with ThreadPoolExecutor(8) as threads:
        opened = set(threads.map(open_volume, [source, travelled] * 8))
    assert len(opened) == 1


def test_threads_read_the_same_voxels_as_one_thread(tmp_path):
    values = grey_values("zyx")
    store(tmp_path / "in.zarr", values)
    volume = open_volume(find_volume(str(tmp_path / "in.zarr")))
    boxes = [Box((z, 0, 0), (z + 1, 11, 13)) for z in range(5)] * 8
    with ThreadPoolExecutor(8) as threads:
        slices = list(threads.map(volume.read, boxes))
    for box, read in zip(boxes, slices, strict=True):
        np.testing.assert_array_equal(read[0, 0], values[box.start[0]])


def test_a_replaced_array_is_rejected(tmp_path):
    store(tmp_path / "in.zarr", grey_values("zyx"))
    source = find_volume(str(tmp_path / "in.zarr"))
    store(tmp_path / "in.zarr", grey_values("zyx")[:3], overwrite=True)
    with pytest.raises(VolumeError, match="was 5×11×13"):
        open_volume(source)


def test_redacted_texts_show_no_credentials(tmp_path):
    for uri in ("https://me:pa:ss@host/a.zarr", "s3://key:secret@bucket/a", "ftp://u@h/x?sig=9"):
        shown = redacted(f"before {uri} after")
        assert not any(secret in shown for secret in ("pa:ss", "secret", "sig=9"))
        assert shown.endswith("after")
    assert redacted("/data/me@home/in.zarr") == "/data/me@home/in.zarr"
    assert redacted("s3://bucket/me@home/in.zarr") == "s3://bucket/me@home/in.zarr"


@given(st.permutations("tczyx"), st.integers(2, 5))
def test_axes_are_taken_in_any_order_that_holds_y_and_x(order, count):
    axes = "".join(order[:count])
    if {"y", "x"} <= set(axes):
        assert checked_axes(axes, ndim=count, where="in.zarr") == axes
        assert letters(list(axes)) == axes
    else:
        with pytest.raises(VolumeError, match="lack y or x"):
            checked_axes(axes, ndim=count, where="in.zarr")
