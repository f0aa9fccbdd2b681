"""``overtile meshes``: what it says of good input, and one line with exit code 2 of bad input."""

from __future__ import annotations

import signal
import threading

import numpy as np
import pytest
import zarr

import pipeline
from flows.cli import meshes
from pipeline.base.local_client import local_client


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder with objects of a volume and of a plane, and what is not objects."""
    folder = tmp_path_factory.mktemp("place")
    cells = np.zeros((1, 8, 30, 30), np.float32)
    cells[:, 1:7, 5:12, 6:20] = cells[:, 2:, 20:28, 3:9] = 0.9
    for name, scores in (("volume", cells), ("plane", cells[:, 3])):
        axes = ("c", "z", "y", "x") if scores.ndim == 4 else ("c", "y", "x")
        zarr.create_array(folder / f"s-{name}.zarr", data=scores, dimension_names=axes)
        with local_client() as client:
            pipeline.find_objects(folder / f"s-{name}.zarr", folder / f"{name}.zarr", client=client)
    (folder / "file").write_text("mine")
    (folder / "folder").mkdir()
    (folder / "folder/notes.txt").write_text("mine")
    return folder


@pytest.fixture(autouse=True)
def in_place(place, monkeypatch):
    monkeypatch.chdir(place)


def test_meshes_are_written_and_kept(place, shell):
    code, out, err = shell("meshes", "volume.zarr", "m", "--ids", "2")
    assert (code, out) == (0, "")
    assert "done: 1 mesh\n" in err
    assert f"meshes: {place / 'm'}, sized as the labels state" in err
    code, _, err = shell("meshes", "volume.zarr", "m")
    assert "done: 1 mesh, 1 were there" in err
    code, _, err = shell("meshes", "volume.zarr", "n", "--format", "precomputed")
    assert "done: 2 meshes\n" in err
    assert "open precomputed://URL in Neuroglancer" in err
    assert sorted(path.name for path in (place / "n").iterdir()) == [
        "1", "1:0", "2", "2:0", "info", "overtile-meshes.json"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["s-volume.zarr", "new"], "s-volume.zarr holds no objects"),
        (["plane.zarr", "new"], "has flat objects"),
        (["volume.zarr", "new", "--ids", "3"], "has no object 3: expected ids of 1 to 2"),
        (["volume.zarr", "new", "--ids", "0"], "has no object 0"),
        (["volume.zarr", "new", "--ids", "1,x"], "expected ids as 1,2,3"),
        (["volume.zarr", "new", "--ids", "-1"], "--ids"),
        (["volume.zarr", "new", "--ids", "99999999999999999999999"], "has no object 9999"),
        (["volume.zarr", "new", "--format", "stl"], "stl"),
        (["volume.zarr", "new", "--most-voxels", "1"], "--most-voxels"),
        (["volume.zarr", "file"], "is a file"),
        (["volume.zarr", "folder"], "contains other files, e.g. notes.txt"),
        (["volume.zarr", "folder", "--overwrite"], "contains other files, e.g. notes.txt"),
        (["volume.zarr", "volume.zarr/m"], "lies inside the input"),
        (["volume.zarr", "https://host/m"], "http cannot be written"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(arguments, message, place, shell):
    before = sorted(place.rglob("*"))
    code, out, err = shell("meshes", *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert sorted(place.rglob("*")) == before


def test_a_signal_lets_the_mesh_in_progress_be_the_last_and_the_same_command_resumes(
    place, shell, monkeypatch
):
    shell("meshes", "volume.zarr", "whole")
    asked, counted = threading.Event(), meshes.Counter.__call__

    def drain(until, drain=meshes._UntilDrained.drain):
        drain(until)
        asked.set()

    def count(counter, done, total):
        counted(counter, done, total)
        (listener,) = [one for one in threading.enumerate() if one.name == "drain"]
        signal.pthread_kill(listener.ident, signal.SIGUSR1)
        assert asked.wait(20)

    with monkeypatch.context() as patch:
        patch.setattr(meshes._UntilDrained, "drain", drain)
        patch.setattr(meshes.Counter, "__call__", count)
        code, _, err = shell("meshes", "volume.zarr", "drained")
    assert code == 75
    assert err.endswith(
        "overtile: drained: 1 of 2 objects have their meshes; start the same command again to "
        "resume\n"
    )
    assert shell("meshes", "volume.zarr", "drained")[0] == 0
    for file in (place / "whole").iterdir():
        assert (place / "drained" / file.name).read_bytes() == file.read_bytes()
