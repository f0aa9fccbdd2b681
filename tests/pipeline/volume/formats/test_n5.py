"""N5 is read voxel by voxel like the Zarr of the same image; what cannot be read is refused."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import tensorstore
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.base import tensorstore_use
from pipeline.base.errors import VolumeError
from pipeline.base.geometry import Box
from pipeline.volume.image_levels import levels_of
from pipeline.volume.volume import find_volume, open_volume

ZYX = np.random.default_rng(3).integers(1, 60000, (20, 30, 40)).astype(np.uint16)
CODECS = {
    "raw": {"type": "raw"},
    "gzip": {"type": "gzip", "level": 3},
    "zlib": {"type": "gzip", "useZlib": True},
    "bzip2": {"type": "bzip2"},
    "xz": {"type": "xz"},
    "blosc": {"type": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1},
    "zstd": {"type": "zstd"},
}


def write(folder: Path, values: np.ndarray, codec: str = "gzip", **attributes) -> Path:
    """Write an array, whose axes are those of N5 reversed, and its further attributes."""
    metadata = {
        "dimensions": values.shape[::-1], "blockSize": (16, 12, 8, 1)[: values.ndim],
        "dataType": values.dtype.name, "compression": CODECS[codec],
    }  # fmt: skip
    spec = {"driver": "n5", "kvstore": {"driver": "file", "path": f"{folder}/"}}
    store = tensorstore.open({**spec, "metadata": metadata}, create=True).result()
    store.write(values.T).result()
    return change(folder, **attributes)


def change(folder: Path, **attributes) -> Path:
    """Add attributes to those of a dataset or group, which is made if it is missing."""
    folder.mkdir(exist_ok=True, parents=True)
    file = folder / "attributes.json"
    stored = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(stored | attributes))
    return folder


def read_all(location, **choices) -> np.ndarray:
    """Return a volume as (c, z, y, x), after it travelled to a worker."""
    source = pickle.loads(pickle.dumps(find_volume(str(location), **choices)))
    return open_volume(source).read(Box.of_shape(source.shape_zyx))


@pytest.mark.parametrize("codec", CODECS)
def test_n5_is_read_like_its_zarr(tmp_path, codec):
    write(tmp_path / "a.n5", ZYX, codec)
    zarr.create_array(str(tmp_path / "a.zarr"), data=ZYX)
    expected = read_all(tmp_path / "a.zarr", axes="zyx")
    np.testing.assert_array_equal(read_all(tmp_path / "a.n5"), expected)


@pytest.mark.parametrize(
    "dtype", ["int8", "uint8", "int16", "int32", "uint32", "int64", "uint64", "float32", "float64"]
)
def test_every_dtype_is_read(tmp_path, dtype):
    values = ZYX.astype(dtype)
    read = read_all(write(tmp_path / "a", values))
    assert read.dtype == dtype
    np.testing.assert_array_equal(read[0], values)


@given(corners=st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), min_size=3, max_size=3))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_every_box_is_cut_out_of_the_whole(tmp_path, corners):
    if not (tmp_path / "a").exists():
        write(tmp_path / "a", ZYX)
    box = Box(tuple(map(min, corners)), tuple(max(one) + 1 for one in corners))
    volume = open_volume(find_volume(str(tmp_path / "a")))
    np.testing.assert_array_equal(volume.read(box)[0], ZYX[box.slices])


def test_channels_and_times_are_the_last_axes_of_n5(tmp_path):
    czyx = np.stack([ZYX, ZYX[::-1]])
    write(tmp_path / "c", czyx)
    np.testing.assert_array_equal(read_all(tmp_path / "c"), czyx)
    assert "assumed c z y x" in find_volume(str(tmp_path / "c")).notes[0]
    change(tmp_path / "c", axes=["x", "y", "z", "t"])
    np.testing.assert_array_equal(read_all(tmp_path / "c", time=1), czyx[1:])
    np.testing.assert_array_equal(read_all(tmp_path / "c", axes="czyx", channel=1), czyx[1:])
    np.testing.assert_array_equal(read_all(write(tmp_path / "yx", ZYX[0])), ZYX[None, :1])


def test_missing_chunks_are_zeros(tmp_path):
    write(tmp_path / "a", ZYX)
    (tmp_path / "a/0/0/0").unlink()
    expected = ZYX.copy()
    expected[:8, :12, :16] = 0
    np.testing.assert_array_equal(read_all(tmp_path / "a")[0], expected)


def test_blocks_that_java_cuts_at_the_end_are_read(tmp_path):
    write(tmp_path / "a", ZYX, "raw")
    sizes = (8, 6, 4)  # x y z of the last block, which starts at (32, 24, 16)
    header = struct.pack(">HHIII", 0, 3, *sizes)
    (tmp_path / "a/2/2/2").write_bytes(header + ZYX[16:, 24:, 32:].astype(">u2").tobytes())
    np.testing.assert_array_equal(read_all(tmp_path / "a")[0], ZYX)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_a_damaged_chunk_is_an_error_and_never_zeros(tmp_path, codec, kept):
    chunk = write(tmp_path / "a", ZYX, codec) / "0/0/0"
    content = chunk.read_bytes()
    chunk.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(VolumeError, match=r"cannot be read .*0/0/0") as caught:
        read_all(tmp_path / "a")
    assert "\n" not in str(caught.value)


def pyramid(root: Path) -> Path:
    """A group of two levels, the second one coarser in y and x."""
    write(root / "s0", ZYX)
    write(root / "s1", ZYX[:, ::2, ::2])
    return root


def test_levels_are_selected_by_number_name_and_location(tmp_path):
    root = pyramid(tmp_path / "a.n5/raw")
    coarse = ZYX[None, :, ::2, ::2]
    np.testing.assert_array_equal(read_all(root), ZYX[None])
    for choice in (1, "1", "s1"):
        np.testing.assert_array_equal(read_all(root, level=choice), coarse)
    np.testing.assert_array_equal(read_all(root / "s1"), coarse)
    assert find_volume(str(root / "s1")) == find_volume(str(root), level=1)
    levels = levels_of(find_volume(str(root)))
    assert [one.shape_zyx for _, one in levels] == [(20, 30, 40), (20, 15, 20)]
    with pytest.raises(VolumeError, match=r"no level 2; it has 0 \(s0, 20×30×40\), 1 \(s1, "):
        find_volume(str(root), level=2)
    with pytest.raises(VolumeError, match=r"s1 is one level already, but level 0"):
        find_volume(str(root / "s1"), level=0)


NM = ("nanometer",) * 3


@pytest.mark.parametrize(
    ("group", "fine", "coarse", "unit"),
    [
        ({}, {}, {}, (None,) * 3),
        (
            {"pixelResolution": {"dimensions": [4, 5, 40], "unit": "nm"}},
            {},
            {"downsamplingFactors": [2, 2, 1]},
            NM,
        ),
        (
            {"scales": [[1, 1, 1], [2, 2, 1]]},
            {"pixelResolution": {"dimensions": [4, 5, 40], "unit": "nm"}},
            {},
            NM,
        ),
        (
            {"resolution": [4, 5, 40], "units": ["nm", "nm", "nm"],
             "downsamplingFactors": [[1, 1, 1], [2, 2, 1]]},
            {},
            {},
            NM,
        ),
        (
            {},
            {"transform": {"axes": ["z", "y", "x"], "scale": [40, 5, 4], "units": ["nm"] * 3,
                           "translate": [0, 0, 0]}},
            {"transform": {"axes": ["z", "y", "x"], "scale": [40, 10, 8], "units": ["nm"] * 3,
                           "translate": [0, 2.5, 2]}},
            NM,
        ),
    ],
)  # fmt: skip
def test_voxel_sizes_are_read_from_the_attributes_of_known_writers(
    tmp_path, group, fine, coarse, unit
):
    root = pyramid(tmp_path / "a")
    change(root, **group)
    change(root / "s0", **fine)
    change(root / "s1", **coarse)
    one = (1, 1, 1) if unit[0] is None else (40, 5, 4)
    found = [find_volume(str(root), level=level) for level in (0, 1)]
    assert [source.unit for source in found] == [unit, unit]
    assert found[0].voxel_size == one
    assert found[1].voxel_size == (one[0], 2 * one[1], 2 * one[2])
    assert found[0].translation == (0, 0, 0)
    assert found[1].translation == (0, one[1] / 2, one[2] / 2)


def test_an_unusable_voxel_size_costs_a_note_only(tmp_path):
    source = find_volume(str(write(tmp_path / "a", ZYX, resolution=[4, 0, 4])))
    assert source.voxel_size == (1, 1, 1)
    assert "0, 4 is unusable: assumed 1" in source.notes[0]


def test_zarr_wins_where_a_folder_is_both(tmp_path):
    write(tmp_path / "a", ZYX)
    zarr.create_array(str(tmp_path / "a"), data=ZYX, zarr_format=2, overwrite=False)
    assert find_volume(str(tmp_path / "a")).format == "zarr"


def group_only(root: Path) -> Path:
    write(root / "volumes/raw/s0", ZYX)
    write(root / "mask", ZYX)
    return change(root, n5="2.5.1")


def empty_group(root: Path) -> Path:
    return change(root, n5="2.5.1")


def strings(root: Path) -> Path:
    return change(write(root, ZYX), dataType="object")


def lz4(root: Path) -> Path:
    return change(write(root, ZYX), compression={"type": "lz4"})


def huge_chunks(root: Path) -> Path:
    return change(write(root, ZYX), blockSize=[100000] * 3)


def no_json(root: Path) -> Path:
    write(root, ZYX)
    (root / "attributes.json").write_text('{"dimensions": [1')
    return root


def text_as_shape(root: Path) -> Path:
    return change(write(root, ZYX), dimensions="large")


def nothing(root: Path) -> Path:
    return change(write(root, ZYX), dimensions=[40, 0, 20])


def wrong_rank(root: Path) -> Path:
    return change(write(root, ZYX), blockSize=[8, 8])


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (group_only, r"without an image: pass one of mask, volumes/raw, e\.g\. .*/mask"),
        (empty_group, "without an image: no dataset was found"),
        (strings, "holds object, not grey values"),
        (lz4, "is compressed as lz4: expected blosc"),
        (huge_chunks, r"has chunks of .* expected at most 1\.00 GiB"),
        (no_json, "is damaged: expected a JSON object"),
        (text_as_shape, "is damaged: dimensions is not a list"),
        (nothing, "is empty: its shape is 20×0×40"),
        (wrong_rank, "dimensions and blockSize differ in length"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(tmp_path, make, text):
    with pytest.raises(VolumeError, match=text) as caught:
        find_volume(str(make(tmp_path / "input")))
    assert "\n" not in str(caught.value)


def test_without_tensorstore_the_extra_is_named(tmp_path, monkeypatch):
    write(tmp_path / "a", ZYX)
    monkeypatch.setattr(tensorstore_use, "is_installed", lambda: False)
    with pytest.raises(VolumeError, match=r"needs tensorstore.*'overtile\[tensorstore\]'"):
        find_volume(str(tmp_path / "a"))


def read_in_child(path: str, answers) -> None:
    try:
        open_volume(find_volume(path)).read(Box((0, 0, 0), (1, 1, 1)))
    except VolumeError as error:
        answers.put(str(error))
    else:
        answers.put("read")


def test_a_forked_process_gets_an_error_and_does_not_end(tmp_path):
    """tensorstore would end the child without a message."""
    path = str(write(tmp_path / "a", ZYX))
    read_all(path)
    fork = multiprocessing.get_context("fork")
    answers = fork.Queue()
    child = fork.Process(target=read_in_child, args=(path, answers))
    child.start()
    assert "forked" in answers.get(timeout=60)
    child.join()
    assert child.exitcode == 0


def test_an_input_that_changed_its_shape_is_reported(tmp_path):
    source = find_volume(str(write(tmp_path / "a", ZYX)))
    shutil.rmtree(tmp_path / "a")
    write(tmp_path / "a", ZYX[:9])
    with pytest.raises(VolumeError, match="was 20×30×40 uint16: the input changed"):
        open_volume(source)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
    | st.sampled_from([10**400, -1, 0, "x", "uint8", "raw"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=5,
)  # fmt: skip


@given(
    key=st.sampled_from(
        ["dimensions", "blockSize", "dataType", "compression", "axes", "units", "resolution",
         "offset", "downsamplingFactors", "pixelResolution", "transform", "multiscales", "scales"]
    ),
    inner=st.sampled_from(
        ["type", "axes", "scale", "translate", "units", "dimensions", "unit", "datasets", None]
    ),
    value=JSON | st.lists(JSON, min_size=3, max_size=3) | st.permutations(["x", "y", "z"]),
)  # fmt: skip
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_damaged_attributes_are_read_or_refused_in_one_line(
    tmp_path_factory, error_of, key, inner, value
):
    root = tmp_path_factory.mktemp("fuzz") / "a"
    write(root / "s0", ZYX[:2, :3, :4])
    damage = {key: value if inner is None else {"axes": ["z", "y", "x"], inner: value}}
    for folder in (change(root, **damage), change(root / "s0", **damage)):
        assert "\n" not in error_of(folder)
