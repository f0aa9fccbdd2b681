"""Meshes of objects in blocks: one closed surface each, in physical units, in every format."""

from __future__ import annotations

import json
import os

import fsspec
import numpy as np
import pytest
import zarr

import pipeline
from pipeline.base.errors import OutputError, VolumeError
from pipeline.base.local_client import local_client
from pipeline.base.location import Location
from pipeline.objects.meshes.write_meshes import RECORD, plan_meshes, write_meshes
from pipeline.objects.table.finished import find_finished

SHAPE, SIZE_UM, START_UM = (24, 40, 300), (0.2, 0.1, 0.1), (2.0, 3.0, 4.0)


@pytest.fixture(scope="module")
def scores(tmp_path_factory):
    """Return scores with a ball across all blocks, a small ball, and a bar at the edge."""
    z, y, x = np.indices(SHAPE)
    inside = (z - 12) ** 2 * 4 + (y - 20) ** 2 + (x - 20) ** 2 <= 15**2
    inside |= (z - 4) ** 2 + (y - 4) ** 2 + (x - 38) ** 2 <= 9
    inside[20:, 36:, :] = True
    path = tmp_path_factory.mktemp("scores") / "s.zarr"
    root = zarr.create_group(path)
    root.create_array("0", data=(inside * 200).astype(np.uint8), chunks=(8, 16, 16))
    root.attrs["ome"] = {"version": "0.5", "multiscales": [{
        "axes": [{"name": a, "type": "space", "unit": "micrometer"} for a in "zyx"],
        "datasets": [{"path": "0", "coordinateTransformations": [
            {"type": "scale", "scale": list(SIZE_UM)},
            {"type": "translation", "translation": list(START_UM)}]}],
    }]}  # fmt: skip
    return path


@pytest.fixture(scope="module")
def found(scores, tmp_path_factory):
    """Return the objects of the scores, found in blocks of two sizes."""
    folder = tmp_path_factory.mktemp("found")
    with local_client() as client:
        for name, block in (("small", (12, 20, 24)), ("whole", (32, 48, 304))):
            pipeline.find_objects(scores, folder / f"{name}.zarr", client=client, block=block)
    return {
        name: find_finished(Location.parse(folder / f"{name}.zarr")) for name in ("small", "whole")
    }


def written(objects, target, *, kind="ply", **options):
    plan = plan_meshes(objects, Location.parse(target), kind=kind, **options)
    return write_meshes(plan, on_objects=lambda *_: None)


def test_a_damaged_chunk_of_labels_is_named_with_its_voxels(scores, tmp_path):
    output = tmp_path / "damaged.zarr"
    with local_client() as client:
        pipeline.find_objects(scores, output, client=client, block=(12, 20, 24))
    chunk = output / "labels/objects/0/c/0/0/0"
    chunk.write_bytes(chunk.read_bytes()[:-20])
    objects = find_finished(Location.parse(output))
    line = r"damaged\.zarr/labels/objects/0, voxels \d+:\d+,\d+:\d+,\d+:\d+: "
    with pytest.raises(VolumeError, match=line):
        written(objects, tmp_path / "meshes")


def read_ply(path):
    header, _, rest = path.read_bytes().partition(b"end_header\n")
    words = header.decode().split()
    vertices, faces = (int(words[words.index(name) + 1]) for name in ("vertex", "face"))
    corners = np.frombuffer(rest, "<f4", vertices * 3).reshape(-1, 3)
    rows = np.frombuffer(rest, [("n", "u1"), ("c", "<u4", 3)], faces, vertices * 12)
    assert (rows["n"] == 3).all()
    assert len(rest) == vertices * 12 + faces * 13
    return corners.astype(float), rows["c"]


def read_obj(path):
    lines = [line.split() for line in path.read_text().splitlines()]
    corners = np.array([line[1:] for line in lines if line[0] == "v"], float)
    return corners, np.array([line[1:] for line in lines if line[0] == "f"], int) - 1


def read_fragment(folder, identifier):
    assert json.loads((folder / "info").read_text()) == {"@type": "neuroglancer_legacy_mesh"}
    (name,) = json.loads((folder / f"{identifier}:0").read_text())["fragments"]
    content = (folder / name).read_bytes()
    count = int(np.frombuffer(content, "<u4", 1)[0])
    corners = np.frombuffer(content, "<f4", 3 * count, 4).reshape(-1, 3)
    return corners.astype(float), np.frombuffer(content, "<u4", -1, 4 + 12 * count).reshape(-1, 3)


def volume(corners, triangles):
    a, b, c = (corners[triangles[:, corner]] for corner in range(3))
    return (a * np.cross(b, c)).sum() / 6


def is_closed(triangles):
    a, b, c = triangles.astype(int).T
    edges = np.concatenate([np.stack(pair, 1) for pair in ((a, b), (b, c), (c, a))])
    return np.array_equal(np.unique(edges, axis=0), np.unique(edges[:, ::-1], axis=0))


def test_an_object_across_blocks_has_one_closed_mesh_of_its_volume_and_place(found, tmp_path):
    assert written(found["small"], tmp_path / "m").written == 3
    (rows,) = found["small"].rows(None, most=10)
    large = int(np.argmax(rows.voxels))
    corners, triangles = read_ply(tmp_path / f"m/{rows.ids[large]}.ply")
    assert is_closed(triangles)
    expected = rows.columns["volume_um3"][large].as_py()
    assert volume(corners, triangles) == pytest.approx(expected, rel=0.03)
    centre = [rows.columns[f"centroid_{axis}_um"][large].as_py() for axis in "xyz"]
    np.testing.assert_allclose((corners.min(axis=0) + corners.max(axis=0)) / 2, centre, atol=1e-5)


def test_blocks_do_not_matter(found, tmp_path):
    for name in ("small", "whole"):
        written(found[name], tmp_path / name)
    for number in (1, 2, 3):
        one, other = (tmp_path / name / f"{number}.ply" for name in ("small", "whole"))
        assert one.read_bytes() == other.read_bytes()


def test_formats_hold_the_same_surface_neuroglancer_in_nm_from_the_corner(found, tmp_path):
    for kind in ("ply", "obj", "precomputed"):
        written(found["small"], tmp_path / kind, kind=kind)
    corners, triangles = read_ply(tmp_path / "ply/2.ply")
    others, other_triangles = read_obj(tmp_path / "obj/2.obj")
    np.testing.assert_allclose(others, corners, rtol=1e-6)
    np.testing.assert_array_equal(other_triangles, triangles)
    in_nm, other_triangles = read_fragment(tmp_path / "precomputed", 2)
    half_a_voxel = np.array(SIZE_UM[::-1]) / 2  # OME-Zarr states where the centre of a voxel is
    np.testing.assert_allclose(in_nm, 1000 * (corners + half_a_voxel), rtol=1e-5)
    np.testing.assert_array_equal(other_triangles, triangles)


def test_a_large_object_is_made_from_a_coarser_level(found, tmp_path):
    objects = found["small"]
    (rows,) = objects.rows(None, most=10)
    large = int(np.argmax(rows.voxels))
    identifier = int(rows.ids[large])
    fine = written(objects, tmp_path / "fine", ids=[identifier])
    assert not fine.coarser
    coarse = written(objects, tmp_path / "coarse", ids=[identifier], most_voxels=10_000)
    assert coarse.coarser == {identifier: 1}
    one, other = (read_ply(tmp_path / f"{name}/{identifier}.ply") for name in ("fine", "coarse"))
    assert len(other[1]) < 0.8 * len(one[1])
    assert volume(*other) == pytest.approx(volume(*one), rel=0.05)
    np.testing.assert_allclose(other[0].mean(axis=0), one[0].mean(axis=0), atol=0.2)


def test_what_is_there_is_kept_and_other_meshes_are_refused(found, tmp_path):
    target = tmp_path / "m"
    written(found["small"], target, ids=[2])
    before = (target / "2.ply").stat().st_mtime_ns
    again = written(found["small"], target)
    assert (again.written, again.kept) == (2, 1)
    assert (target / "2.ply").stat().st_mtime_ns == before
    with pytest.raises(OutputError, match="meshes of other objects or of another format"):
        written(found["small"], target, kind="obj")
    with pytest.raises(OutputError, match="meshes of other objects"):
        written(found["whole"], target)
    written(found["small"], target, kind="obj", ids=[1], overwrite=True)
    assert sorted(path.name for path in target.iterdir()) == ["1.obj", RECORD]


def test_ids_that_are_not_there_and_folders_with_other_files_are_refused(found, tmp_path):
    for ids in ([0], [4], [1, 9]):
        with pytest.raises(VolumeError, match="has no object"):
            written(found["small"], tmp_path / "m", ids=ids)
    assert not (tmp_path / "m").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match=r"contains other files, e\.g\. notes\.txt"):
            written(found["small"], tmp_path / "mine", overwrite=overwrite)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_meshes_in_a_bucket_are_the_same_and_resumed_and_replaced(s3, found, tmp_path):
    written(found["small"], tmp_path / "m")
    s3fs = fsspec.filesystem("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    written(found["small"], f"{s3}/m", ids=[3])
    assert written(found["small"], f"{s3}/m").kept == 1
    for number in (1, 2, 3):
        ours = (tmp_path / f"m/{number}.ply").read_bytes()
        assert s3fs.cat_file(f"{s3}/m/{number}.ply") == ours
    written(found["small"], f"{s3}/m", kind="precomputed", ids=[2], overwrite=True)
    s3fs.invalidate_cache()
    names = [path.rsplit("/", 1)[-1] for path in s3fs.ls(f"{s3}/m")]
    assert sorted(names) == ["2", "2:0", "info", RECORD]
