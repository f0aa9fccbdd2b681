"""Laws of the guard: no input, home or stranger's folder is ever written over or deleted."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import zarr

from pipeline.base.errors import OutputError
from pipeline.base.location import Location
from pipeline.base.stores import open_group
from pipeline.output.guard import check_output, delete_output
from pipeline.output.ome_write import create_images


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A folder with an input; home and current folder lie elsewhere."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    (tmp_path / "work").mkdir()
    zarr.create_array(str(tmp_path / "work/in.zarr"), shape=(4, 4), dtype="u1")
    return tmp_path / "work"


def check(place: Path, output: Any, *, overwrite: bool = False, source: str = "in.zarr") -> str:
    before = sorted(place.rglob("*"))
    try:
        return check_output(
            Location.parse(place / output),
            source=Location.parse(place / source),
            overwrite=overwrite,
        )
    finally:
        assert sorted(place.rglob("*")) == before


def refused(place: Path, output: Any, says: str, **kwargs: Any) -> None:
    with pytest.raises(OutputError, match=says) as caught:
        check(place, output, **kwargs)
    assert "\n" not in str(caught.value)


def make_ours(place: Path, name: str = "out.zarr", version: Any = "0.5") -> Path:
    create_images(Location.parse(place / name), (), version=version)
    open_group(Location.parse(place / name), mode="r+").create_group("run").attrs["job"] = {"a": 1}
    return place / name


def test_nothing_and_an_empty_folder_are_absent(place):
    (place / "empty.zarr").mkdir()
    for name in ("out.zarr", "new/folders/out.zarr", "empty.zarr"):
        assert check(place, name) == "absent"
        assert check(place, name, overwrite=True) == "absent"


@pytest.mark.parametrize("version", ["0.5", "0.4"])
def test_an_output_of_overtile_is_distinguished_from_another_zarr(place, version):
    make_ours(place, version=version)
    assert check(place, "out.zarr") == "ours"
    assert check(place, "out.zarr", overwrite=True) == "ours"
    create_images(Location.parse(place / "other.zarr"), (), version=version)
    refused(place, "other.zarr", "not made by overtile.*--overwrite")
    assert check(place, "other.zarr", overwrite=True) == "foreign"


@pytest.mark.parametrize("overwrite", [False, True])
def test_input_and_output_are_never_inside_each_other(place, overwrite):
    (place / "link.zarr").symlink_to(place / "in.zarr")
    (place / "here").symlink_to(place)
    for name in ("in.zarr", "in.zarr/", "./x/../in.zarr", "link.zarr", "here/in.zarr"):
        refused(place, name, "are the same", overwrite=overwrite)
    (place / "in.zarr/s0").mkdir()
    (place / "deep").symlink_to(place / "in.zarr/s0")
    for name in ("in.zarr/out.zarr", "link.zarr/a/b.zarr", "deep/out.zarr"):
        refused(place, name, "output lies inside the input", overwrite=overwrite)
    refused(place, "in.zarr", "input lies inside", source="in.zarr/s0", overwrite=overwrite)
    refused(place, ".", "input lies inside", source="link.zarr", overwrite=overwrite)
    assert check(place, "in.zarr.out") == "absent"


@pytest.mark.parametrize("version", [2, 3])
def test_an_output_is_never_inside_an_array_or_a_ledger(place, version):
    zarr.create_array(place / "other.zarr/0", shape=(4, 4), dtype="u1", zarr_format=version)
    for name in ("other.zarr/0/out.zarr", "other.zarr/0/c/0/out.zarr"):
        for overwrite in (False, True):
            refused(place, name, "lies inside an array, .*other.zarr/0:", overwrite=overwrite)
    make_ours(place, version="0.4" if version == 2 else "0.5")
    refused(place, "out.zarr/run/more.zarr", "lies inside the ledger of an output")
    assert check(place, "other.zarr/new.zarr") == check(place, "out.zarr/labels/mine") == "absent"


@pytest.mark.parametrize(
    ("output", "source"),
    [
        ("s3://b/in.zarr", "s3://b/in.zarr/"),
        ("s3://b/in.zarr/out.zarr", "s3://b/in.zarr"),
        ("S3://b/x/../in.zarr", "s3://b/in.zarr"),
        ("s3a://b//in.zarr", "s3://b/in.zarr/s0"),
        ("gcs://b/in.zarr", "gs://b/in.zarr"),
        ("memory://b/in.zarr", "memory://b/in.zarr"),
    ],
)
def test_nesting_is_seen_in_remote_addresses_without_asking_them(output, source):
    with pytest.raises(OutputError, match=r"same|inside"):
        check_output(Location.parse(output), source=Location.parse(source), overwrite=True)


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_no_zarr_is_never_replaced(place, overwrite):
    (place / "thesis").mkdir()
    (place / "thesis/chapter.txt").write_text("years of work")
    (place / "file.zarr").write_text("a file")
    refused(place, "thesis", "is not a Zarr group", overwrite=overwrite)
    refused(place, "file.zarr", "is a file", overwrite=overwrite)
    refused(place, "file.zarr/out.zarr", "is not a folder", overwrite=overwrite)
    for name in ("thesis", "file.zarr"):
        with pytest.raises(OutputError):
            delete_output(Location.parse(place / name))
    assert (place / "thesis/chapter.txt").read_text() == "years of work"


def test_one_stranger_in_a_zarr_folder_keeps_it_from_being_deleted(place):
    out = make_ours(place)
    (out / "thesis").mkdir()
    (out / "thesis/chapter.txt").write_text("years of work")
    refused(place, "out.zarr", "'thesis', which is not Zarr", overwrite=True)
    with pytest.raises(OutputError, match="thesis"):
        delete_output(Location.parse(out))
    assert (out / "run").exists()
    assert (out / "thesis/chapter.txt").exists()


def test_home_and_the_current_folder_are_never_deleted(place, monkeypatch):
    out = make_ours(place)
    for variable in ("home", "current"):
        with monkeypatch.context() as patch:
            (out / "run/deep").mkdir(exist_ok=True)
            if variable == "home":
                patch.setenv("HOME", str(out / "run/deep"))
            else:
                patch.chdir(out / "run/deep")
            refused(place, "out.zarr", f"{variable}", overwrite=True)
            with pytest.raises(OutputError):
                delete_output(Location.parse(out))
    assert (out / "run").exists()


@pytest.mark.parametrize("version", ["0.5", "0.4"])
def test_delete_leaves_nothing_and_touches_no_neighbour(place, version):
    out = make_ours(place, version=version)
    delete_output(Location.parse(out))
    assert not out.exists()
    assert (place / "in.zarr/zarr.json").exists()
    delete_output(Location.parse(out))


def test_delete_follows_no_link_out_of_the_output(place):
    out = make_ours(place)
    (out / "borrowed").symlink_to(place / "in.zarr")
    delete_output(Location.parse(out))
    assert (place / "in.zarr/zarr.json").exists()


def test_a_delete_that_is_cut_short_leaves_nothing_to_resume(place, monkeypatch):
    out = make_ours(place)
    zarr.open_group(str(out), mode="r+").create_group("labels")
    steps = []

    def once(path: Path) -> None:
        if steps:
            raise OSError(5, "Input/output error")
        steps.append(path)
        original(path)

    original = shutil.rmtree
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.output.guard.shutil.rmtree", once)
        with pytest.raises(OutputError, match="Input/output error"):
            delete_output(Location.parse(out))
    assert check(place, "out.zarr", overwrite=True) == "foreign"
    delete_output(Location.parse(out))
    assert check(place, "out.zarr") == "absent"


def test_a_folder_that_cannot_be_written_is_reported_before_the_run(place, monkeypatch):
    monkeypatch.setattr("pipeline.output.guard.os.access", lambda *_: False)
    refused(place, "out.zarr", "cannot be written by you")


def test_an_output_with_broken_metadata_is_refused(place):
    (place / "out.zarr").mkdir()
    (place / "out.zarr/zarr.json").write_text("{")
    refused(place, "out.zarr", "expected a JSON object", overwrite=True)
