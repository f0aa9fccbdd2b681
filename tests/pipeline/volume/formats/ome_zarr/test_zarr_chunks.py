"""Chunks that are not where the metadata says are refused, and absent ones are noted."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import zarr

from pipeline.base.errors import VolumeError
from pipeline.volume.volume import find_volume

VALUES = np.random.default_rng(0).integers(60, 200, (16, 40, 40)).astype("u1")
V2 = [{"name": "v2", "separator": separator} for separator in "/."]
V3 = [*V2, *({"name": "default", "separator": separator} for separator in "/.")]
NAMES = {("v2", "/"): "z/y/x", ("v2", "."): "z.y.x",
         ("default", "/"): "c/z/y/x", ("default", "."): "c.z.y.x"}  # fmt: skip


def write(path, encoding, *, zarr_format, **layout):
    return zarr.create_array(
        path, data=VALUES, chunks=(4, 20, 20), zarr_format=zarr_format,
        chunk_key_encoding=encoding, **layout,
    )  # fmt: skip


def claim(path, encoding, *, zarr_format):
    """Let the metadata state another encoding of chunk keys; None: none at all."""
    document = path / (".zarray" if zarr_format == 2 else "zarr.json")
    stated = json.loads(document.read_text())
    if zarr_format == 2:
        stated.pop("dimension_separator", None)
        stated |= {"dimension_separator": encoding["separator"]} if encoding else {}
    else:
        stated["chunk_key_encoding"] = {
            "name": encoding["name"], "configuration": {"separator": encoding["separator"]}
        }  # fmt: skip
    document.write_text(json.dumps(stated))


def notes(path):
    return " ".join(note for note in find_volume(path, axes="zyx").notes)


CASES = [
    (zarr_format, stored, claimed)
    for zarr_format, encodings in ((2, V2), (3, V3))
    for stored in encodings
    for claimed in encodings
]


@pytest.mark.parametrize(("zarr_format", "stored", "claimed"), CASES)
def test_chunks_under_other_names_than_the_metadata_says_are_refused(
    tmp_path, zarr_format, stored, claimed
):
    write(tmp_path / "in.zarr", stored, zarr_format=zarr_format)
    claim(tmp_path / "in.zarr", claimed, zarr_format=zarr_format)
    if stored == claimed:
        assert notes(tmp_path / "in.zarr") == ""
        return
    named, said = (NAMES[one["name"], one["separator"]] for one in (stored, claimed))
    document = ".zarray" if zarr_format == 2 else "zarr.json"
    pattern = f"files are named {named}, the metadata says {said}; correct .* in {document}"
    with pytest.raises(VolumeError, match=pattern) as caught:
        find_volume(tmp_path / "in.zarr", axes="zyx")
    assert "\n" not in str(caught.value)


def test_a_separator_that_is_not_stated_is_a_dot(tmp_path):
    write(tmp_path / "in.zarr", V2[0], zarr_format=2)
    claim(tmp_path / "in.zarr", None, zarr_format=2)
    with pytest.raises(VolumeError, match=r'correct "dimension_separator": "/" in .zarray'):
        find_volume(tmp_path / "in.zarr", axes="zyx")


@pytest.mark.parametrize("layout", [{}, {"shards": (8, 40, 40)}])
def test_an_array_without_a_chunk_is_noted(tmp_path, layout):
    write(tmp_path / "in.zarr", V3[2], zarr_format=3, **layout)
    assert notes(tmp_path / "in.zarr") == ""
    shutil.rmtree(tmp_path / "in.zarr" / "c")
    count = 2 if layout else 16
    assert f"none of {count} chunks that were looked at are stored" in notes(tmp_path / "in.zarr")
    assert "fill value 0: is the copy of the input complete?" in notes(tmp_path / "in.zarr")


@pytest.mark.parametrize(("lost", "is_noted"), [(1, False), (2, False), (3, True)])
def test_an_array_that_lost_most_of_its_chunks_is_noted(tmp_path, lost, is_noted):
    write(tmp_path / "in.zarr", V3[2], zarr_format=3)
    for plane in range(lost):
        shutil.rmtree(tmp_path / "in.zarr" / "c" / str(plane))
    assert ("4 of 16 chunks" in notes(tmp_path / "in.zarr")) == is_noted


def test_a_level_of_an_image_is_checked_too(tmp_path):
    axes = [{"name": axis, "type": "space"} for axis in "zyx"]
    image = {"version": "0.4", "axes": axes, "datasets": [{"path": "0"}]}
    zarr.create_group(tmp_path / "in.zarr", zarr_format=2, attributes={"multiscales": [image]})
    write(tmp_path / "in.zarr" / "0", V2[0], zarr_format=2)
    claim(tmp_path / "in.zarr" / "0", None, zarr_format=2)
    with pytest.raises(VolumeError, match=r"named z/y/x, the metadata says z.y.x"):
        find_volume(tmp_path / "in.zarr")
