"""Precomputed volumes are read voxel by voxel like their Zarr; others are refused in one line."""

from __future__ import annotations

import gzip
import json
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
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
from pipeline.base.location import Location
from pipeline.volume.find_labels import ReadAs, find_labelled
from pipeline.volume.image_levels import levels_of
from pipeline.volume.known_formats import format_named
from pipeline.volume.volume import find_volume, open_volume

ZYX = np.random.default_rng(3).integers(1, 250, (20, 30, 40)).astype(np.uint8)
SHARDING = {
    "@type": "neuroglancer_uint64_sharded_v1", "preshift_bits": 1, "minishard_bits": 1,
    "shard_bits": 2, "hash": "identity", "minishard_index_encoding": "gzip",
    "data_encoding": "gzip",
}  # fmt: skip
KINDS = {
    "raw": {"encoding": "raw"},
    "raw in shards": {"encoding": "raw", "sharding": SHARDING},
    "png": {"encoding": "png"},
    "segmentation": {
        "encoding": "compressed_segmentation", "compressed_segmentation_block_size": [8, 8, 8],
    },
    "segmentation in shards": {
        "encoding": "compressed_segmentation", "compressed_segmentation_block_size": [8, 8, 8],
        "sharding": SHARDING,
    },
}  # fmt: skip


def write(
    folder: Path,
    values: np.ndarray,
    kind: str = "raw",
    *,
    resolution: tuple[float, ...] = (4, 5, 40),
    offset: tuple[int, ...] = (0, 0, 0),
) -> Path:
    """Write (z, y, x) or (c, z, y, x) values as one more scale of a volume."""
    czyx = values if values.ndim == 4 else values[None]
    scale = {
        "size": czyx.shape[:0:-1], "chunk_size": [16, 12, 8], "resolution": resolution,
        "voxel_offset": offset, "key": "_".join(f"{one:g}" for one in resolution), **KINDS[kind],
    }  # fmt: skip
    common = {"data_type": czyx.dtype.name, "num_channels": len(czyx), "type": "image"}
    spec = {
        "driver": "neuroglancer_precomputed",
        "kvstore": {"driver": "file", "path": f"{folder}/"},
        "multiscale_metadata": common,
        "scale_metadata": scale,
    }
    tensorstore.open(spec, create=True).result().write(czyx.T).result()
    return folder


def change(folder: Path, **changes) -> Path:
    """Change the document of a volume, or its first scale where it has such a key."""
    info = json.loads((folder / "info").read_text())
    for key, value in changes.items():
        (info["scales"][0] if key in info["scales"][0] else info)[key] = value
    (folder / "info").write_text(json.dumps(info))
    return folder


def read_all(location, **choices) -> np.ndarray:
    """Return a volume as (c, z, y, x), after it travelled to a worker."""
    source = pickle.loads(pickle.dumps(find_volume(str(location), **choices)))
    return open_volume(source).read(Box.of_shape(source.shape_zyx))


def dtype_of(kind: str) -> str:
    return "uint64" if "segmentation" in kind else "uint8"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("offset", [(0, 0, 0), (7, 100, -3)])
def test_precomputed_is_read_like_its_zarr(tmp_path, kind, offset):
    values = ZYX.astype(dtype_of(kind))
    write(tmp_path / "a", values, kind, offset=offset)
    zarr.create_array(str(tmp_path / "a.zarr"), data=values)
    expected = read_all(tmp_path / "a.zarr", axes="zyx")
    np.testing.assert_array_equal(read_all(tmp_path / "a"), expected)


@given(corners=st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), min_size=3, max_size=3))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_every_box_is_cut_out_of_the_whole(tmp_path, corners):
    if not (tmp_path / "a").exists():
        write(tmp_path / "a", ZYX, "raw in shards", offset=(7, 100, -3))
    box = Box(tuple(map(min, corners)), tuple(max(one) + 1 for one in corners))
    volume = open_volume(find_volume(str(tmp_path / "a")))
    np.testing.assert_array_equal(volume.read(box)[0], ZYX[box.slices])


def test_channels_are_selected(tmp_path):
    czyx = np.stack([ZYX, ZYX[::-1], 255 - ZYX])
    write(tmp_path / "a", czyx)
    np.testing.assert_array_equal(read_all(tmp_path / "a"), czyx)
    np.testing.assert_array_equal(read_all(tmp_path / "a", channel=[2, 0]), czyx[[2, 0]])


def pyramid(folder: Path, offset: int = 0) -> Path:
    write(folder, ZYX, offset=(offset, 0, 0))
    return write(folder, ZYX[:, ::2, ::2], resolution=(8, 10, 40), offset=(offset // 2, 0, 0))


def test_scales_are_selected_by_number_key_and_location(tmp_path):
    folder = pyramid(tmp_path / "a")
    coarse = ZYX[None, :, ::2, ::2]
    np.testing.assert_array_equal(read_all(folder), ZYX[None])
    for choice in (1, "1", "8_10_40"):
        np.testing.assert_array_equal(read_all(folder, level=choice), coarse)
    np.testing.assert_array_equal(read_all(folder / "8_10_40"), coarse)
    assert find_volume(str(folder / "8_10_40")) == find_volume(str(folder), level=1)
    levels = levels_of(find_volume(str(folder)))
    assert [one.shape_zyx for _, one in levels] == [(20, 30, 40), (20, 15, 20)]
    with pytest.raises(VolumeError, match=r"no level 2; it has 0 \(4_5_40, 20×30×40\), 1 \(8_10"):
        find_volume(str(folder), level=2)
    with pytest.raises(VolumeError, match="8_10_40 is one level already, but level 0"):
        find_volume(str(folder / "8_10_40"), level=0)


@pytest.mark.parametrize("offset", [0, 6])
def test_voxel_size_and_place_are_what_the_volume_states(tmp_path, offset):
    folder = pyramid(tmp_path / "a", offset)
    fine, coarse = (find_volume(str(folder), level=level) for level in (0, 1))
    assert fine.unit == coarse.unit == ("nanometer",) * 3
    assert (fine.voxel_size, coarse.voxel_size) == ((40, 5, 4), (40, 10, 8))
    assert fine.translation == (0, 0, 4 * offset)
    assert coarse.translation == (0, 2.5, 4 * offset + 2)  # centre of the first two voxels


def test_missing_chunks_are_zeros(tmp_path):
    write(tmp_path / "a", ZYX)
    (tmp_path / "a/4_5_40/0-16_0-12_0-8").unlink()
    expected = ZYX.copy()
    expected[:8, :12, :16] = 0
    np.testing.assert_array_equal(read_all(tmp_path / "a")[0], expected)


def test_a_scale_without_any_chunk_is_zeros_with_a_note(tmp_path):
    shutil.rmtree(write(tmp_path / "a", ZYX) / "4_5_40")
    assert "no chunk of 4_5_40 exists" in find_volume(str(tmp_path / "a")).notes[0]
    assert not read_all(tmp_path / "a").any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.9])
def test_a_damaged_chunk_is_an_error_and_never_zeros(tmp_path, kind, kept):
    write(tmp_path / "a", ZYX.astype(dtype_of(kind)), kind)
    chunk = min((tmp_path / "a/4_5_40").iterdir())
    content = chunk.read_bytes()
    chunk.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(VolumeError, match=r"cannot be read .*4_5_40") as caught:
        read_all(tmp_path / "a")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("level", [None, 0, 1, "8_10_40"])
def test_labels_are_read_at_the_level_of_their_image(tmp_path, level):
    raw, labels = (Location.parse(pyramid(tmp_path / name)) for name in ("raw", "labels"))
    placed = find_labelled(raw, labels, ReadAs(level=level))
    assert (
        placed.raw.shape_zyx
        == placed.labels.shape_zyx
        == ((20, 30, 40) if not level else (20, 15, 20))
    )


def test_labels_of_one_level_match_an_image_of_another_format(tmp_path):
    write(tmp_path / "labels", ZYX)
    zarr.create_array(str(tmp_path / "raw.zarr"), data=ZYX)
    places = (Location.parse(tmp_path / name) for name in ("raw.zarr", "labels"))
    placed = find_labelled(*places, ReadAs(level=0))
    assert (placed.raw.format, placed.labels.format) == ("zarr", "precomputed")


def gzipped(folder: Path) -> Path:
    """Compress the chunks of a volume, as CloudVolume writes them to local disks."""
    for chunk in [path for path in folder.glob("*/*") if path.is_file()]:
        chunk.with_name(f"{chunk.name}.gz").write_bytes(gzip.compress(chunk.read_bytes()))
        chunk.unlink()
    return folder


@pytest.mark.parametrize("kind", ["raw", "png", "segmentation"])
@pytest.mark.parametrize("offset", [(0, 0, 0), (7, 100, -3)])
def test_chunks_that_are_gz_files_are_read(tmp_path, kind, offset):
    values = np.stack([ZYX, 255 - ZYX] if kind == "raw" else [ZYX]).astype(dtype_of(kind))
    gzipped(write(tmp_path / "a", values, kind, offset=offset))
    np.testing.assert_array_equal(read_all(tmp_path / "a"), values)


def test_threads_that_read_one_gz_file_at_once_all_get_its_voxels(tmp_path):
    """Each decodes it from memory for a moment; zeros stand for what is missing there."""
    gzipped(write(tmp_path / "a", ZYX))
    source = find_volume(str(tmp_path / "a"))
    array = format_named(source.format).open(source.store, source.path)
    with ThreadPoolExecutor(4) as pool:
        for _ in range(60):
            found = list(pool.map(array._read_chunk, [(0, 0, 0, 0)] * 4))
            assert all((one == found[0]).all() and one.any() for one in found)


def test_a_missing_gz_file_is_zeros_and_a_damaged_one_an_error(tmp_path):
    gzipped(write(tmp_path / "a", ZYX))
    first, *_, last = sorted((tmp_path / "a/4_5_40").iterdir())
    first.unlink()
    expected = ZYX.copy()
    expected[:8, :12, :16] = 0
    np.testing.assert_array_equal(read_all(tmp_path / "a")[0], expected)
    content = last.read_bytes()
    for damaged in (b"", content[:-9], content[:30], gzip.compress(b"short")):
        last.write_bytes(damaged)
        with pytest.raises(VolumeError, match="cannot be read") as caught:
            read_without_cache(tmp_path / "a")
        assert "\n" not in str(caught.value)


def read_without_cache(location: Path) -> np.ndarray:
    source = find_volume(str(location))
    array = format_named(source.format).open(source.store, source.path)
    return array[tuple(slice(0, size) for size in source.shape)]


def brotli(folder: Path) -> Path:
    for chunk in list((write(folder, ZYX) / "4_5_40").iterdir()):
        chunk.rename(chunk.with_name(f"{chunk.name}.br"))
    return folder


def no_json(folder: Path) -> Path:
    write(folder, ZYX)
    (folder / "info").write_text('{"scales": [')
    return folder


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (brotli, r"holds chunks compressed as \.br files"),
        (no_json, "info is damaged: expected a JSON object"),
        (lambda path: change(write(path, ZYX), scales=[]), "lists no scales"),
        (
            lambda path: change(write(path, ZYX), size=[4, 4]),
            "size of a scale is not three int",
        ),
        (lambda path: change(write(path, ZYX), chunk_sizes=[]), "chunk_sizes of a scale is not"),
        (lambda path: change(write(path, ZYX), size=[4, 0, 4]), "is empty: its shape is 4×0×4"),
        (lambda path: change(write(path, ZYX), encoding="compresso"), "is encoded as compresso: "),
        (lambda path: change(write(path, ZYX), data_type="float16"), "holds float16, not grey"),
        (
            lambda path: change(write(path, ZYX), chunk_sizes=[[9**5] * 3]),
            "has chunks of .* at most",
        ),
        (lambda path: change(write(path, ZYX), resolution=[4, "x", 4]), "resolution of a scale is"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(tmp_path, make, text):
    with pytest.raises(VolumeError, match=text) as caught:
        find_volume(str(make(tmp_path / "input")))
    assert "\n" not in str(caught.value)


def test_a_foreign_file_named_info_is_ignored(tmp_path):
    zarr.create_array(str(tmp_path / "a.zarr"), data=ZYX)
    (tmp_path / "a.zarr/info").write_text('{"author": "me"}')
    assert find_volume(str(tmp_path / "a.zarr")).format == "zarr"


def test_without_tensorstore_the_extra_is_named(tmp_path, monkeypatch):
    write(tmp_path / "a", ZYX)
    monkeypatch.setattr(tensorstore_use, "is_installed", lambda: False)
    with pytest.raises(VolumeError, match=r"needs tensorstore.*'overtile\[tensorstore\]'"):
        find_volume(str(tmp_path / "a"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
    | st.sampled_from([10**400, -1, 0, "x", "uint8", "raw"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=5,
)  # fmt: skip


@given(
    key=st.sampled_from(
        ["size", "chunk_sizes", "voxel_offset", "resolution", "key", "encoding", "sharding",
         "num_channels", "data_type", "scales", "type", "@type"]
    ),
    value=JSON | st.lists(JSON, min_size=3, max_size=3) | st.lists(st.lists(JSON, max_size=3)),
)  # fmt: skip
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_damaged_document_is_read_or_refused_in_one_line(
    tmp_path_factory, error_of, key, value
):
    folder = change(write(tmp_path_factory.mktemp("fuzz") / "a", ZYX[:2, :3, :4]), **{key: value})
    assert "\n" not in error_of(folder)
