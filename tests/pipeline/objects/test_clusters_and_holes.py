"""Agglomeration, holes and filters in blocks are those of the whole volume, ids and table included.

References are plain Python: a list of pairs in exact fractions, scipy's components of background.
"""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr
from distributed import Client, LocalCluster
from scipy import ndimage

import pipeline
from pipeline.base.errors import OutputError, PlanError
from pipeline.objects import run as run_module
from pipeline.objects.definition.request import ObjectsRequest
from pipeline.objects.preparation import memory
from pipeline.objects.preparation.choices import choose_method
from pipeline.objects.preparation.prepare import prepare_objects
from pipeline.objects.run import ObjectsRun
from pipeline.objects.tasks import write_tasks

CASES = 4


@pytest.fixture(scope="module")
def threads():
    with (
        LocalCluster(1, threads_per_worker=2, processes=False, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield client


def find(client, folder, scores, block, **settings):
    """Return the labels and the voxels in the table."""
    path = folder / "scores.zarr"
    zarr.create_array(path, data=scores, chunks=scores.shape, overwrite=True)
    request = ObjectsRequest(
        scores=str(path), output=str(folder / "out.zarr"), axes="zyx", block=block, overwrite=True,
        **settings,
    )  # fmt: skip
    run = ObjectsRun.start(prepare_objects(request), client)
    run.complete()
    labels = zarr.open_array(folder / "out.zarr/labels/objects/0", mode="r")[...].astype(int)
    table = pq.read_table(folder / "out.zarr/tables/objects.parquet").to_pydict()
    return labels, table["voxels"], choose_method(request, run.prepared.scores)


def numbered(labels):
    """Return labels whose order is that of their first voxels, as 1, 2 …"""
    ids = np.unique(labels[labels > 0])
    return np.where(labels > 0, np.searchsorted(ids, labels) + 1, 0)


def edge_of(shape, per_slice):
    edge = np.ones(shape, bool)
    inner = slice(1, -1)
    edge[(slice(None) if per_slice or shape[0] == 1 else inner, inner, inner)] = False
    return edge


def kept(labels, *, per_slice, min_voxels, border):
    keeps = np.bincount(labels.ravel()) >= min_voxels
    keeps[0] = False
    if border == "drop":
        keeps[np.unique(labels[edge_of(labels.shape, per_slice)])] = False
    return np.where(keeps[labels], labels, 0)


def touching(labels, scores, per_slice):
    pairs = {}
    for axis in range(1 if per_slice else 0, 3):
        n = labels.shape[axis]
        low, high = range(n - 1), range(1, n)
        ends = np.stack([labels.take(low, axis).ravel(), labels.take(high, axis).ravel()])
        higher = np.maximum(scores.take(low, axis), scores.take(high, axis)).ravel()
        for one, other, score in zip(*np.sort(ends, axis=0), higher, strict=True):
            if 0 < one < other:
                total, faces = pairs.get((one, other), (0, 0))
                pairs[one, other] = total + int(score), faces + 1
    return pairs


def agglomerated(labels, scores, kind, threshold, per_slice):
    """Return the clusters, one pair at a time; a cluster has its lowest label."""
    pairs = touching(labels, scores, per_slice)
    cluster = np.arange(labels.max() + 1)
    if kind == "threshold":
        for (one, other), (total, faces) in pairs.items():
            if Fraction(total, faces) < threshold:
                a, b = sorted((cluster[one], cluster[other]))
                cluster[cluster == b] = a
        return cluster[labels]
    while pairs:
        mean, one, other = min((Fraction(t, n), -a, -b) for (a, b), (t, n) in pairs.items())
        if mean >= threshold:
            break
        one, other = -one, -other
        cluster[cluster == other] = one
        merged = {}
        for ends, (total, faces) in pairs.items():
            pair = tuple(sorted(one if end == other else end for end in ends))
            if pair[0] != pair[1]:
                sums = merged.get(pair, (0, 0))
                merged[pair] = sums[0] + total, sums[1] + faces
        pairs = merged
    return cluster[labels]


def filled(labels, per_slice):
    """Return labels with the background that does not reach the edge and touches one object."""
    structure = ndimage.generate_binary_structure(3, 1)
    if per_slice:
        structure[0] = structure[2] = False
    background, count = ndimage.label(labels == 0, structure)
    at_edge = np.unique(background[edge_of(labels.shape, per_slice)])
    result = labels.copy()
    faces = structure
    for number in set(range(1, count + 1)) - set(at_edge.tolist()):
        around = labels[ndimage.binary_dilation(background == number, faces)]
        touched = np.unique(around[around > 0])
        if len(touched) == 1:
            result[background == number] = touched[0]
    return result


def random_volume(rng):
    shape = tuple(int(n) for n in rng.integers(2, 11, 3))
    top = int(rng.choice([6, 40, 255]))
    scores = rng.integers(0, top + 1, shape).astype(np.uint8)
    block = tuple(int(rng.integers(1 + n // 4, n + 1)) for n in shape)
    keeps = {"min_voxels": int(rng.choice([1, 3])), "border": str(rng.choice(["keep", "drop"]))}
    return scores, top, block, keeps


def cluster_case(seed, kind):
    rng = np.random.default_rng((seed, kind == "mean"))
    scores, top, block, keeps = random_volume(rng)
    settings = {
        "role": "boundary", "method": "watershed", "agglomerate": kind,
        "connectivity": int(rng.choice([6, 26])), "per_slice": bool(rng.random() < 0.2),
        "merge_threshold": int(rng.integers(1, top + 1)) / 255,
        "depth": int(rng.integers(1, 1 + top // 2)) / 255,
    }  # fmt: skip
    return scores, block, {**settings, **keeps}


def clusters_differ(client, folder, reference, case):
    scores, block, settings = case
    labels, voxels, method = find(client, folder, scores, block, **settings)
    basins = reference(scores, method)
    per_slice = settings["per_slice"]
    wanted = agglomerated(
        basins, scores, settings["agglomerate"], method.merge_threshold, per_slice
    )
    wanted = numbered(
        kept(wanted, per_slice=per_slice, min_voxels=settings["min_voxels"],
             border=settings["border"])
    )  # fmt: skip
    return not np.array_equal(labels, wanted) or voxels != np.bincount(wanted.ravel())[1:].tolist()


@pytest.mark.parametrize("kind", [pytest.param("mean", marks=pytest.mark.slow), "threshold"])
def test_clusters_in_blocks_are_those_of_the_whole_volume(kind, threads, tmp_path, reference):
    cases = [cluster_case(seed, kind) for seed in range(CASES)]
    assert [c for c in cases if clusters_differ(threads, tmp_path, reference, c)] == []


def open_basin_case(name):
    """Return a basin that two groups of blocks know, which a closed one of only one group joins."""
    settings = {
        "role": "boundary", "method": "watershed", "depth": 20 / 255, "agglomerate": "threshold",
        "merge_threshold": 100 / 255, "connectivity": 6, "per_slice": False, "border": "keep",
        "min_voxels": 1,
    }  # fmt: skip
    row = np.zeros((1, 1, 16), np.uint8)
    row[0, 0, [4, 11]] = 200, 50
    deep = np.full((5, 5, 18), 255, np.uint8)
    deep[2, 2, 1:] = 0
    deep[2, 2, [5, 12]] = 200, 50
    return {
        "sum below the least": (row, (1, 1, 4), {**settings, "min_voxels": 9}),
        "sum above the least": (row, (1, 1, 4), {**settings, "min_voxels": 12}),
        "mirrored": (row[..., ::-1].copy(), (1, 1, 4), {**settings, "min_voxels": 10}),
        "at the edge": (
            deep, (5, 5, 5), {**settings, "threshold": 220 / 255, "border": "drop"}),
    }[name]  # fmt: skip


@pytest.mark.parametrize(
    "name", ["sum below the least", "sum above the least", "mirrored", "at the edge"]
)
def test_a_basin_that_several_groups_know_counts_once_in_its_cluster(
    name, threads, tmp_path, reference
):
    assert not clusters_differ(threads, tmp_path, reference, open_basin_case(name))


def hole_case(seed):
    rng = np.random.default_rng((seed, 7))
    scores, top, block, keeps = random_volume(rng)
    share = rng.choice([0.25, 0.4])
    settings = {
        "role": "foreground", "threshold": max(1, int(share * top)) / 255, "fill_holes": True,
        "connectivity": int(rng.choice([6, 18, 26])), "per_slice": bool(rng.random() < 0.3),
    }  # fmt: skip
    return scores, block, {**settings, **keeps}


def holes_differ(client, folder, reference, case):
    scores, block, settings = case
    labels, voxels, method = find(client, folder, scores, block, **settings)
    wanted = kept(
        reference(scores, method), per_slice=settings["per_slice"],
        min_voxels=settings["min_voxels"], border=settings["border"],
    )  # fmt: skip
    wanted = numbered(filled(wanted, settings["per_slice"]))
    counts = np.bincount(wanted.ravel(), minlength=1)[1:].tolist()
    return not np.array_equal(labels, wanted) or voxels != counts


def test_filled_holes_in_blocks_are_those_of_the_whole_volume(threads, tmp_path, reference):
    cases = [hole_case(seed) for seed in range(CASES)]
    assert [case for case in cases if holes_differ(threads, tmp_path, reference, case)] == []


def test_a_hole_of_a_slice_is_judged_by_its_slice_alone(threads, tmp_path, reference):
    scores = np.zeros((2, 7, 7), np.uint8)
    scores[0, 1:6, 1:6] = scores[1, 2:5, 2:5] = 255
    scores[0, 3, 3] = 0
    settings = {"role": "foreground", "threshold": 0.5, "fill_holes": True, "connectivity": 6}
    keeps = {"per_slice": True, "min_voxels": 1, "border": "keep"}
    case = (scores, (1, 7, 7), {**settings, **keeps})
    assert not holes_differ(threads, tmp_path, reference, case)
    assert find(threads, tmp_path, *case[:2], **case[2])[1] == [25, 9]


def plugged_hole():
    """Return a hole that one object encloses in its block, and another plugs in the next one."""
    scores = np.zeros((5, 5, 6), np.uint8)
    scores[1:4, 1:4, 2:4] = 255
    scores[2, 2, 3] = 0
    scores[2, 2, 4] = 255
    settings = {"role": "foreground", "threshold": 0.5, "fill_holes": True, "connectivity": 6}
    keeps = {"per_slice": False, "min_voxels": 1, "border": "keep"}
    return scores, (5, 5, 4), {**settings, **keeps}


def test_background_that_does_not_see_the_objects_of_other_blocks_is_noticed(
    threads, tmp_path, reference, monkeypatch
):
    assert not holes_differ(threads, tmp_path, reference, plugged_hole())
    monkeypatch.setattr(write_tasks, "_put_face", lambda *_: None)
    assert holes_differ(threads, tmp_path, reference, plugged_hole())


@pytest.mark.slow
def test_other_thresholds_reuse_the_labelled_blocks_and_give_the_same_bytes(
    threads, tmp_path, monkeypatch
):
    scores = np.random.default_rng(3).integers(0, 256, (8, 9, 10)).astype(np.uint8)
    common = {"role": "boundary", "method": "watershed", "depth": 0.1, "agglomerate": "mean"}
    find(threads, tmp_path, scores, (4, 5, 6), **common, merge_threshold=0.3,
         keep_intermediates=True)  # fmt: skip
    first, others = tmp_path / "out.zarr", []
    for name, settings in (("a", {}), ("b", {"reuse": str(first)})):
        request = ObjectsRequest(
            scores=str(tmp_path / "scores.zarr"), output=str(tmp_path / name), axes="zyx",
            block=(4, 5, 6), merge_threshold=0.6, **common, **settings,
        )  # fmt: skip
        prepared = prepare_objects(request)
        if settings:
            monkeypatch.setattr(run_module, "label", lambda *_: pytest.fail("labelled"))
        ObjectsRun.start(prepared, threads).complete()
        others.append(
            {path.relative_to(tmp_path / name): path.read_bytes()
             for path in (tmp_path / name).rglob("*") if path.is_file() and "run" not in path.parts}
        )  # fmt: skip
    assert others[0] == others[1]
    with pytest.raises(PlanError, match="cannot be reused: depth was"):
        prepare_objects(dataclasses.replace(request, output=str(tmp_path / "c"), depth=0.2))
    with pytest.raises(PlanError, match="no intermediate graphs; make it with --keep-interm"):
        prepare_objects(
            dataclasses.replace(request, output=str(tmp_path / "c"), reuse=str(tmp_path / "a"))
        )


def test_python_finds_the_same_objects_as_a_run(threads, tmp_path):
    scores = np.random.default_rng(4).integers(0, 256, (6, 7, 8)).astype(np.uint8)
    labels, _, _ = find(threads, tmp_path, scores, (3, 4, 8), role="foreground", threshold=0.7)
    count = pipeline.find_objects(
        str(tmp_path / "scores.zarr"), str(tmp_path / "python.zarr"), axes="zyx",
        role="foreground", threshold=0.7,
    )  # fmt: skip
    found = zarr.open_array(tmp_path / "python.zarr/labels/objects/0", mode="r")[...]
    assert count == labels.max() > 5
    assert np.array_equal(found, labels)


def test_what_was_not_segmented_is_in_no_object(threads, tmp_path):
    scores = np.random.default_rng(5).integers(1, 255, (6, 8, 9)).astype(np.uint8)
    outside = np.zeros(scores.shape, bool)
    outside[:, :, 5:] = True
    both = np.where(outside, 0, np.stack([255 - scores, scores])).astype(np.uint8)
    root = zarr.create_group(tmp_path / "part.zarr", attributes=image_of("0"))
    root.create_array("0", data=both, chunks=(1, 6, 8, 9))
    root.create_group("run", attributes={"job": {"mask": "digest"}})
    for method in ({"method": "watershed", "depth": 0.2}, {"threshold": 0.9}):
        pipeline.find_objects(
            str(tmp_path / "part.zarr"), str(tmp_path / "out.zarr"), client=threads,
            role="boundary", block=(3, 4, 4), overwrite=True, **method,
        )  # fmt: skip
        labels = zarr.open_array(tmp_path / "out.zarr/labels/objects/0", mode="r")[...]
        assert not labels[outside].any()
        assert (labels[~outside] > 0).mean() > 0.8


def image_of(path):
    axes = [{"name": "c", "type": "channel"}, *({"name": a, "type": "space"} for a in "zyx")]
    scale = [{"type": "scale", "scale": [1.0] * 4}]
    level = {"path": path, "coordinateTransformations": scale}
    return {"ome": {"version": "0.5", "multiscales": [{"axes": axes, "datasets": [level]}]}}


def test_a_finished_output_gets_the_csv_that_its_run_would_have_written(threads, tmp_path):
    scores = np.random.default_rng(6).integers(0, 256, (5, 6, 7)).astype(np.uint8)
    settings = {"role": "foreground", "threshold": 0.6}
    find(threads, tmp_path, scores, (5, 3, 7), csv=True, **settings)
    written = (tmp_path / "out.zarr/tables/objects.csv").read_bytes()
    assert written.count(b"\n") > 5
    (tmp_path / "out.zarr/tables/objects.csv").unlink()
    pipeline.find_objects(
        str(tmp_path / "scores.zarr"), str(tmp_path / "out.zarr"), client=threads, axes="zyx",
        block=(5, 3, 7), csv=True, **settings,
    )  # fmt: skip
    assert (tmp_path / "out.zarr/tables/objects.csv").read_bytes() == written


def test_an_output_that_does_not_fit_its_disk_is_refused_before_anything_is_written(
    threads, tmp_path, monkeypatch
):
    scores = np.full((8, 16, 16), 200, np.uint8)
    monkeypatch.setattr(memory, "free_bytes", lambda _: 3000)
    with pytest.raises(OutputError, match=r"may need 3.00 KiB, .* its disk has 2.93 KiB left"):
        find(threads, tmp_path, scores, (8, 16, 16), role="foreground")
    assert not (tmp_path / "out.zarr").exists()
