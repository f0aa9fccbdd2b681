"""What is exported for Neuroglancer reads back equal, at every level and place."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.base.errors import LabelError, OutputError
from pipeline.base.geometry import Box
from pipeline.base.location import Location
from pipeline.conversion.precomputed import export_labels, few_at_a_time, plan_layer
from pipeline.output import label_layer
from pipeline.output.precomputed import LayerWriter
from pipeline.output.pyramid import majority
from pipeline.volume.volume import VolumeSource, find_volume, open_volume


def labels(shape, dtype="uint8", seed=0) -> np.ndarray:
    """Return blobs of labels, so that most coarser voxels have a majority."""
    coarse = np.random.default_rng(seed).integers(0, 5, tuple(-(-n // 3) for n in shape))
    fine = np.kron(coarse, np.ones((3,) * len(shape), int))
    return fine[tuple(slice(n) for n in shape)].astype(dtype)


def stored(folder: Path, values: np.ndarray, **attributes) -> VolumeSource:
    """Write labels as a Zarr array and return them as a volume."""
    array = zarr.create_array(str(folder), data=values)
    array.attrs.update(attributes)
    return find_volume(str(folder), axes="zyx"[-values.ndim :])


def moved(source: VolumeSource, **changes) -> VolumeSource:
    import dataclasses

    return dataclasses.replace(source, **changes)


def read_all(location, level=0) -> np.ndarray:
    source = find_volume(str(location), level=level)
    return open_volume(source).read(Box.of_shape(source.shape_zyx))[0]


def export(source: VolumeSource, target: Path, **options):
    return export_labels(source, Location.parse(target), **options)


@pytest.mark.parametrize("sharded", [True, False])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "uint32", "int64", "uint64"])
def test_what_was_exported_reads_back_equal(tmp_path, dtype, sharded):
    values = labels((70, 130, 270), dtype)
    if dtype == "uint64":
        values[0, 0, :3] = 2**63 + 1
    export(stored(tmp_path / "a.zarr", values), tmp_path / "a", sharded=sharded)
    found = find_volume(str(tmp_path / "a"))
    assert found.dtype == ("uint64" if dtype.endswith("64") else "uint32")
    np.testing.assert_array_equal(read_all(tmp_path / "a"), values.astype(found.dtype))


@pytest.mark.parametrize("sharded", [True, False])
@pytest.mark.parametrize("offset", [(0, 0, 0), (1, 7, -3)])
def test_coarser_levels_hold_the_most_frequent_label_at_their_place(tmp_path, offset, sharded):
    values = labels((20, 300, 530))
    source = moved(
        stored(tmp_path / "a.zarr", values), voxel_size=(40.0, 8.0, 8.0),
        unit=("nanometer",) * 3, translation=tuple(np.multiply(offset, (40.0, 8.0, 8.0))),
    )  # fmt: skip
    layer = export(source, tmp_path / "a", sharded=sharded)
    assert [level.key for level in layer.levels] == ["8_8_40", "16_16_40", "32_16_40"]
    z, y, x = offset
    # The grid of a coarser level starts at a multiple of its factor: repeat the edge before it.
    expected = np.pad(values, ((0, 0), (y % 2, 0), (x % 2, 0)), mode="edge")
    coarse = majority(expected, (1, 2, 2)).astype(np.uint32)
    np.testing.assert_array_equal(read_all(tmp_path / "a", 1), coarse)
    fine, half = (find_volume(str(tmp_path / "a"), level=level) for level in (0, 1))
    assert fine.translation == tuple(np.multiply(offset, (40.0, 8.0, 8.0)))
    assert half.translation == (40.0 * z, 16 * (y // 2) + 4, 16 * (x // 2) + 4)


@given(
    shape=st.tuples(st.integers(1, 70), st.integers(1, 150), st.integers(1, 200)),
    offset=st.tuples(*[st.integers(-100, 100)] * 3),
    sharded=st.booleans(),
)
@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_shape_at_any_place_reads_back_equal(tmp_path_factory, shape, offset, sharded):
    folder = tmp_path_factory.mktemp("any")
    source = moved(stored(folder / "a.zarr", labels(shape)), translation=tuple(map(float, offset)))
    export(source, folder / "a", sharded=sharded)
    np.testing.assert_array_equal(read_all(folder / "a"), labels(shape))
    assert find_volume(str(folder / "a")).translation == offset


def test_no_file_holds_voxels_of_two_boxes(tmp_path, monkeypatch):
    """In small chunks, so that a level has several shards."""
    monkeypatch.setattr(label_layer, "CHUNK", (8, 8, 8))
    source = stored(tmp_path / "a.zarr", labels((40, 50, 70)) + np.uint8(1))
    layer = plan_layer(source)
    writer = LayerWriter(Location.parse(tmp_path / "a"), layer)
    seen: set[str] = set()
    volume = open_volume(source)
    boxes = list(writer.boxes(0))
    assert len(boxes) == 2 * 2 * 3
    for box in boxes:
        before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "a").rglob("*.shard")}
        writer.write(0, box, volume.read(box)[0])
        after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "a").rglob("*.shard")}
        changed = {name for name, time in after.items() if before.get(name) != time}
        assert len(changed) == 1
        assert not changed & seen
        seen |= changed


def test_the_document_is_a_segmentation_with_the_names_of_classes(tmp_path):
    source = moved(
        stored(tmp_path / "a.zarr", labels((9, 20, 30))),
        voxel_size=(0.05, 0.004, 0.004), unit=("micrometer",) * 3,
    )  # fmt: skip
    export(source, tmp_path / "a", class_names=("background", "cell", "membrane"))
    info = json.loads((tmp_path / "a/info").read_text())
    assert info["type"] == "segmentation"
    assert info["scales"][0]["resolution"] == [4.0, 4.0, 50.0]
    names = json.loads((tmp_path / "a" / info["segment_properties"] / "info").read_text())
    assert names["inline"]["ids"] == ["1", "2"]
    assert names["inline"]["properties"][0]["values"] == ["cell", "membrane"]


def test_an_image_without_z_is_one_slice(tmp_path):
    values = labels((90, 300))
    export(stored(tmp_path / "a.zarr", values), tmp_path / "a")
    np.testing.assert_array_equal(read_all(tmp_path / "a"), values[None])


def test_notes_state_what_was_assumed(tmp_path):
    source = stored(tmp_path / "a.zarr", labels((9, 20, 30)))
    assert "assumed nanometers" in plan_layer(source).notes[0]
    half = moved(source, translation=(0.0, 0.5, 0.0), unit=("nanometer",) * 3)
    assert "0, 0.5, 0 voxels (z, y, x): rounded" in plan_layer(half).notes[0]


class KilledError(BaseException):
    """A kill in the middle of an export."""


def test_an_interrupted_export_is_no_volume_and_is_replaced(tmp_path):
    source = stored(tmp_path / "a.zarr", labels((20, 300, 530), seed=1) + np.uint8(1))

    def kill(done: int, _: int) -> None:
        if done == 3:
            raise KilledError

    with pytest.raises(KilledError):
        export(source, tmp_path / "a", on_box=kill)
    assert any((tmp_path / "a").rglob("*.shard"))
    assert not (tmp_path / "a/info").exists()
    empty = stored(tmp_path / "b.zarr", np.zeros((20, 300, 530), np.uint8))
    export(empty, tmp_path / "a")
    assert not read_all(tmp_path / "a").any()


def negative(folder: Path) -> VolumeSource:
    return stored(folder, labels((9, 9, 9), "int16") - np.int16(1))


def floats(folder: Path) -> VolumeSource:
    return stored(folder, labels((9, 9, 9), "float32"))


def channels(folder: Path) -> VolumeSource:
    zarr.create_array(str(folder), data=labels((2, 9, 9, 9)))
    return find_volume(str(folder), axes="czyx")


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (negative, r"labels below 0 \(-1\)"),
        (floats, "labels of float32: expected integers"),
        (channels, "has 2 channels: expected labels with one"),
    ],
)
def test_what_is_not_labels_is_refused_in_one_line(tmp_path, make, text):
    with pytest.raises(LabelError, match=text) as caught:
        export(make(tmp_path / "a.zarr"), tmp_path / "a")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "a/info").exists()


def finished(target: Path, source: VolumeSource) -> Path:
    export(source, target)
    return target


def foreign(target: Path, source: VolumeSource) -> Path:
    target.mkdir()
    (target / "thesis.txt").write_text("mine")
    return target


def a_file(target: Path, source: VolumeSource) -> Path:
    target.write_text("mine")
    return target


def inside_the_input(target: Path, source: VolumeSource) -> Path:
    return source.store.path / "precomputed"


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (finished, "exists already: choose another output"),
        (foreign, r"contains other files, e\.g\. thesis\.txt"),
        (a_file, "is a file"),
        (inside_the_input, "the output lies inside the input"),
    ],
)
def test_an_output_that_is_in_use_is_not_touched(tmp_path, make, text):
    source = stored(tmp_path / "a.zarr", labels((9, 20, 30)))
    target = make(tmp_path / "a", source)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OutputError, match=text):
        export(source, target)
    assert sorted(tmp_path.rglob("*")) == before


def test_labels_are_exported_to_s3(s3, tmp_path):
    values = labels((9, 70, 80))
    target = Location.parse(f"{s3}/a")
    export_labels(stored(tmp_path / "a.zarr", values), target)
    np.testing.assert_array_equal(read_all(target), values)
    with pytest.raises(OutputError, match="exists already"):
        export_labels(find_volume(str(tmp_path / "a.zarr"), axes="zyx"), target)


def test_few_boxes_are_submitted_at_a_time_and_an_error_of_one_is_raised():
    """A volume may have millions of boxes, each with a future of two kilobytes."""
    taken, done = [], []

    def boxes():
        for number in range(100):
            taken.append(number)
            assert number < len(done) + 8
            yield number

    with ThreadPoolExecutor(3) as pool:
        done.extend(few_at_a_time(pool, lambda box: None, boxes(), most=4))
        assert (len(done), taken) == (100, list(range(100)))
        with pytest.raises(ZeroDivisionError):
            list(few_at_a_time(pool, lambda box: 1 // (box - 7), range(20), most=4))
