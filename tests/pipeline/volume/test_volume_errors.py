"""Errors of bad input are one line with location, problem and remedy; nothing is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from pipeline.base.errors import VolumeError
from pipeline.volume.volume import find_volume

VALUES = np.ones((3, 8, 8), np.uint8)


def make_group(path: Path, attributes: dict[str, Any], *arrays: str) -> None:
    zarr.create_group(str(path), zarr_format=2, attributes=attributes)
    for name in arrays:
        zarr.create_array(str(path), name=name, data=VALUES, zarr_format=2)


def image(*paths: str, axes: Any = ("z", "y", "x")) -> dict[str, Any]:
    named = [{"name": axis} for axis in axes]
    return {"multiscales": [{"axes": named, "datasets": [{"path": path} for path in paths]}]}


@pytest.fixture
def images(tmp_path) -> Path:
    make_group(tmp_path / "image.zarr", image("s0", "s1", "gone"), "s0", "s1")
    make_group(tmp_path / "plain.zarr", {}, "raw", "deep/labels")
    make_group(tmp_path / "empty.zarr", {})
    make_group(tmp_path / "odd.zarr", image("s0", axes=("q", "y", "x")), "s0")
    make_group(tmp_path / "twice.zarr", image("s0", axes=("y", "y", "x")), "s0")
    make_group(tmp_path / "few.zarr", image("s0", axes=("y", "x")), "s0")
    make_group(tmp_path / "bad.zarr", {"multiscales": [{"datasets": "no"}]}, "s0")
    make_group(tmp_path / "attr.zarr", {"axes": ["angle", "y", "x"]}, "raw")
    make_group(tmp_path / "series.zarr", {"bioformats2raw.layout": 3}, "0", "1")
    wells = {"plate": {"wells": [{"path": "A/1"}, {"path": "B/2"}]}}
    make_group(tmp_path / "plate.zarr", wells)
    make_group(tmp_path / "plate.zarr/A/1", {"well": {"images": [{"path": "0"}, {"path": "1"}]}})
    for name, dtype in [("bool", "?"), ("complex", "c8"), ("text", "U4")]:
        zarr.create_array(f"{tmp_path}/{name}.zarr", shape=(4, 4), dtype=dtype, zarr_format=2)
    zarr.create_array(f"{tmp_path}/bool3.zarr", shape=(4, 4), dtype="?")
    records = {"dtype": [["a", "<u2"]], "shape": [4, 4], "zarr_format": 2}
    (tmp_path / "records.zarr").mkdir()
    (tmp_path / "records.zarr/.zarray").write_text(json.dumps(records))
    zarr.create_array(f"{tmp_path}/flat.zarr", shape=(4, 0), dtype="u1")
    zarr.create_array(f"{tmp_path}/line.zarr", shape=(4,), dtype="u1")
    zarr.create_array(f"{tmp_path}/six.zarr", shape=(1,) * 6, dtype="u1")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/notes.txt").write_text("no image")
    (tmp_path / "slide.svs").write_bytes(b"II*")
    (tmp_path / "broken.zarr").mkdir()
    (tmp_path / "broken.zarr/zarr.json").write_text("<html>\nnot found</html>")
    (tmp_path / "strange.zarr").mkdir()
    (tmp_path / "strange.zarr/zarr.json").write_text('{"zarr_format": 4}')
    codec = {"name": "nobody\nknows", "configuration": {}}
    document = json.loads(Path(f"{tmp_path}/bool3.zarr/zarr.json").read_text())
    document |= {"data_type": "uint8", "fill_value": 0, "codecs": [codec]}
    (tmp_path / "codec.zarr").mkdir()
    (tmp_path / "codec.zarr/zarr.json").write_text(json.dumps(document))
    return tmp_path


CASES: list[tuple[str, dict[str, Any], str]] = [
    ("missing.zarr", {}, "does not exist"),
    ("folder", {}, "holds no image"),
    ("slide.svs", {}, "is not an image that overtile reads"),
    ("", {}, "the path is empty"),
    ("broken.zarr", {}, "expected a JSON object"),
    ("strange.zarr", {}, "neither a Zarr v3 array nor a group"),
    ("codec.zarr", {}, "codec"),
    ("image.zarr", {"level": 7}, r"no level 7; it has 0 \(s0\), 1 \(s1\)"),
    ("image.zarr", {"level": -1}, "no level -1"),
    ("image.zarr", {"level": "s9"}, "no level s9"),
    ("image.zarr", {"level": 2}, "'gone', but there is no such array"),
    ("image.zarr/s1", {"level": 0}, "one level already"),
    ("image.zarr/s7", {}, "has no 's7'.*s0, s1"),
    ("image.zarr", {"channel": 0}, "no channel axis"),
    ("image.zarr", {"time": 0}, "no time axis"),
    ("image.zarr", {"axes": "zy"}, "axes 'zy'.*2.*3"),
    ("image.zarr", {"axes": "zyq"}, "'q'"),
    ("image.zarr", {"axes": "zyy"}, "twice"),
    ("image.zarr", {"axes": "tzy"}, "lack y or x"),
    ("image.zarr", {"axes": "cyx", "channel": 3}, "no channel 3; it has 0 to 2"),
    ("image.zarr", {"axes": "cyx", "channel": -1}, "no channel -1"),
    ("image.zarr", {"axes": "cyx", "channel": "DNA"}, "no channel 'DNA'"),
    ("image.zarr", {"axes": "cyx", "channel": [1, 1]}, "twice"),
    ("image.zarr", {"axes": "cyx", "channel": []}, "no channel is selected"),
    ("image.zarr", {"axes": "tyx", "time": 3}, "no time point 3; it has 0 to 2"),
    ("plain.zarr", {}, "pass one of deep/labels, raw"),
    ("plain.zarr/raw", {"level": 1}, "plain array"),
    ("empty.zarr", {}, "no array was found"),
    ("odd.zarr", {}, "axes q y x.*--axes"),
    ("twice.zarr", {}, "twice"),
    ("few.zarr", {}, "axes 'yx' are 2, but the array has 3"),
    ("bad.zarr", {}, "malformed"),
    ("attr.zarr/raw", {}, "axes angle y x"),
    ("series.zarr", {}, "collection of 2 images: pass one of 0, 1"),
    ("plate.zarr", {}, "plate of 2 wells: pass one of A/1/0, A/1/1, B/2/0, B/2/1"),
    ("plate.zarr/A/1", {}, "well of a plate: pass one of 0, 1"),
    ("bool.zarr", {}, "not grey values"),
    ("bool3.zarr", {}, "not grey values"),
    ("complex.zarr", {}, "not grey values"),
    ("text.zarr", {}, "not grey values"),
    ("records.zarr", {}, "not grey values"),
    ("flat.zarr", {}, "is empty.*4×0"),
    ("line.zarr", {}, "1 axes is not an image"),
    ("six.zarr", {}, "6 axes is not an image"),
]


def listing(folder: Path) -> dict[Path, float]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.parametrize(("name", "choice", "message"), CASES)
def test_bad_input_is_one_line_and_nothing_is_written(images, name, choice, message):
    before = listing(images)
    with pytest.raises(VolumeError, match=message) as caught:
        find_volume(str(images / name) if name else "  ", **choice)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert listing(images) == before


def test_channel_errors_list_the_existing_channels(tmp_path):
    attributes = image("s0", axes="cyx") | {
        "omero": {"channels": [{"label": "DNA"}, {"label": "actin"}, {"label": "actin"}]}
    }
    make_group(tmp_path / "in.zarr", attributes, "s0")
    with pytest.raises(VolumeError, match=r"it has 0 \(DNA\), 1 \(actin\)"):
        find_volume(str(tmp_path / "in.zarr"), channel="GFP")
    with pytest.raises(VolumeError, match="several channels are named 'actin'"):
        find_volume(str(tmp_path / "in.zarr"), channel="actin")


def test_a_file_without_read_permission_is_reported_as_denied(images, monkeypatch):
    def denied(*_: Any) -> None:
        raise PermissionError(13, "Permission denied\nby the server")

    monkeypatch.setattr("zarr.storage._local._get", denied)
    with pytest.raises(VolumeError, match="access is denied") as caught:
        find_volume(str(images / "image.zarr"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("uri", ["nope://a/b.zarr", "https://me:secret@host/in.zarr?signature=1"])
def test_the_error_of_a_uri_that_cannot_be_opened_shows_no_secret(uri):
    with pytest.raises(VolumeError) as caught:
        find_volume(uri)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "signature" not in str(caught.value)
