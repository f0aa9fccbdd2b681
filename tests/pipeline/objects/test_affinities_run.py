"""A run over stored affinities: the objects of the whole volume, merged by the mean of their edges.

References: union-find over all edges (conftest.py), and one merge after the other in fractions.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr

from pipeline.base.errors import PlanError, VolumeError
from pipeline.base.local_client import local_client
from pipeline.objects.definition.find_scores import find_scores
from pipeline.objects.definition.request import ObjectsRequest
from pipeline.objects.preparation.prepare import prepare_objects
from pipeline.objects.run import ObjectsRun

NEAREST = [[-1, 0, 0], [0, -1, 0], [0, 0, -1]]
OFFSETS = [[-4, 0, 0], NEAREST[2], NEAREST[0], NEAREST[1]]  # in an order of their own
SHAPE = (6, 9, 10)
DEPTH = {"method": "watershed", "depth": 0.2, "threshold": 0.2}
METHODS = {
    "components": {"threshold": 0.6},
    "components per slice": {"per_slice": True},
    "watershed from seeds": {"method": "watershed", "threshold": 0.3, "seed_threshold": 0.8},
    "watershed at a distance": {"method": "watershed", "threshold": 0.3, "seed_threshold": 0.1,
                                "seed_distance": 1.0},
    "merged by mean": {**DEPTH, "agglomerate": "mean", "merge_threshold": 0.55},
    "merged by threshold": {**DEPTH, "agglomerate": "threshold", "merge_threshold": 0.7},
}  # fmt: skip


def store(path, czyx, offsets=OFFSETS, *, stated=None, axes="czyx"):
    """Write scores as an OME-Zarr image that states what they are."""
    root = zarr.create_group(path)
    root.create_array("0", data=czyx, chunks=(1, *czyx.shape[1:]))
    listed = [{"name": "c", "type": "channel"}, *({"name": a, "type": "space"} for a in axes[1:])]
    scale = [{"type": "scale", "scale": [1.0] * len(axes)}]
    level = {"path": "0", "coordinateTransformations": scale}
    names = [{"label": f"affinity {offset}"} for offset in offsets or ()]
    root.attrs["ome"] = {
        "version": "0.5", "multiscales": [{"axes": listed, "datasets": [level]}],
        "omero": {"channels": names},
    }  # fmt: skip
    root.attrs["overtile"] = stated or {"outputs": "affinities", "offsets": offsets}
    return path


def of_labels(rng, *, noise=0.3):
    """Return noisy affinities of random lumps, in the order of OFFSETS, with many ties."""
    lumps = rng.integers(0, 4, [-(-n // 3) for n in SHAPE])
    labels = lumps.repeat(3, 0).repeat(3, 1).repeat(3, 2)[tuple(slice(n) for n in SHAPE)]
    channels = []
    for offset in OFFSETS:
        other = np.roll(labels, [-n for n in offset], (0, 1, 2))
        same = (labels == other) & (labels > 0)
        values = same + noise * rng.normal(size=SHAPE)  # whatever beyond the edge
        channels.append(np.rint(np.clip(values, 0, 1) * 20) / 20)
    return np.rint(np.stack(channels) * 255).astype(np.uint8)


@pytest.fixture(scope="module")
def affinities():
    return of_labels(np.random.default_rng(3))


@pytest.fixture(scope="module")
def source(affinities, tmp_path_factory):
    return store(tmp_path_factory.mktemp("affinities") / "scores.zarr", affinities)


@pytest.fixture(scope="module")
def threads():
    with local_client() as client:
        yield client


def edges_of(affinities, method):
    """Return the channels of the method's edges, in the order z, y, x."""
    return np.stack([affinities[OFFSETS.index(NEAREST[axis])] for axis in method.edge_axes])


def merged(labels, reference, kind, threshold):
    """Return the clusters, the pair of the highest mean affinity first."""
    pairs = {}
    for affinity, voxel, _, other in reference.edges:
        low, high = sorted((int(labels.flat[voxel]), int(labels.flat[other])))
        if 0 < low < high:
            total, faces = pairs.get((low, high), (0, 0))
            pairs[low, high] = total + affinity, faces + 1
    cluster = np.arange(labels.max() + 1)
    if kind == "threshold":
        for (low, high), (total, faces) in pairs.items():
            if Fraction(total, faces) >= threshold:
                a, b = sorted((cluster[low], cluster[high]))
                cluster[cluster == b] = a
        return cluster[labels]
    while pairs:
        mean, low, high = max((Fraction(t, n), a, b) for (a, b), (t, n) in pairs.items())
        if mean < threshold:
            break
        cluster[cluster == high] = low
        sums = {}
        for ends, (total, faces) in pairs.items():
            pair = tuple(sorted(low if end == high else end for end in ends))
            if pair[0] != pair[1]:
                before = sums.get(pair, (0, 0))
                sums[pair] = before[0] + total, before[1] + faces
        pairs = sums
    return cluster[labels]


def numbered(labels):
    ids = np.unique(labels[labels > 0])
    return np.where(labels > 0, np.searchsorted(ids, labels) + 1, 0)


def find(client, source, output, **options):
    """Return the labels, the table, and the definition in stored integers."""
    request = ObjectsRequest(scores=str(source), output=str(output), **options)
    run = ObjectsRun.start(prepare_objects(request), client)
    run.complete()
    labels = zarr.open_array(output / "labels/objects/0", mode="r")[...].astype(int)
    table = pq.read_table(output / "tables/objects.parquet").to_pydict()
    return labels, table, run.prepared.method


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name == "merged by mean" else [])
        for name in METHODS
    ],
)
def test_stored_labels_of_affinities_are_those_of_the_whole_volume(
    name, threads, source, affinities, by_edges, tmp_path
):
    found, table, method = find(threads, source, tmp_path / "a", block=(3, 4, 6), **METHODS[name])
    reference = by_edges(edges_of(affinities, method), method)
    wanted = reference.labels()
    if method.agglomerate != "none":
        basins = wanted.max()
        wanted = numbered(merged(wanted, reference, method.agglomerate, method.merge_threshold))
        assert wanted.max() < basins
    np.testing.assert_array_equal(found, wanted)
    assert wanted.max() > 4
    assert table["voxels"] == np.bincount(wanted.ravel())[1:].tolist()


@pytest.mark.parametrize(("merge_threshold", "objects"), [(100 / 255, 1), (101 / 255, 2)])
@pytest.mark.parametrize("block", [(1, 1, 4), (1, 1, 2)])
def test_objects_of_a_mean_affinity_at_the_threshold_are_merged(
    merge_threshold, objects, block, threads, tmp_path
):
    along_x = np.array([77, 255, 100, 255], np.uint8)  # two pairs of voxels, and an edge between
    values = np.stack([np.zeros_like(along_x), along_x])[:, None]
    path = store(tmp_path / "line.zarr", values, [[0, -1, 0], [0, 0, -1]], axes="cyx")
    options = {**DEPTH, "agglomerate": "mean", "merge_threshold": merge_threshold}
    labels, table, _ = find(threads, path, tmp_path / "a", block=block, **options)
    assert labels.max() == objects
    assert table["voxels"] == [4 // objects] * objects


def test_the_score_of_an_object_is_the_mean_of_its_voxels_highest_affinities(
    threads, source, affinities, tmp_path
):
    labels, table, method = find(threads, source, tmp_path / "a", threshold=0.6)
    edges = edges_of(affinities, method)
    for channel, axis in zip(edges, method.edge_axes, strict=True):
        channel.swapaxes(0, axis)[0] = 0  # no voxel before them
    highest = edges.max(axis=0) / 255
    wanted = [highest[labels == label].mean() for label in range(1, labels.max() + 1)]
    np.testing.assert_allclose(table["mean_score"], wanted)


def request_for(source, **options):
    return ObjectsRequest(scores=str(source), output="out.zarr", **options)


def test_a_named_channel_of_affinities_is_a_class_like_any_other(source, affinities):
    scores = find_scores(request_for(source, score_class=2, role="boundary"))
    assert scores.edge_axes == ()
    assert scores.source.channels == (2,)
    assert find_scores(request_for(source)).source.channels == (2, 3, 1)


def test_floats_of_affinities_are_rounded_and_checked(tmp_path, affinities, source):
    path = store(tmp_path / "float.zarr", affinities.astype(np.float32) / 255)
    scores, stored = find_scores(request_for(path)), find_scores(request_for(source))
    box = prepare_objects(request_for(source, threshold=0.5)).plan.block((0, 0, 0)).core
    wanted = stored.read_weights(box).astype(int) * 257
    np.testing.assert_array_equal(scores.read_weights(box), wanted)


def test_affinities_of_a_plane_connect_along_y_and_x(tmp_path):
    values = np.full((2, 5, 6), 200, np.uint8)
    offsets = [[0, -1, 0], [0, 0, -1]]
    flat = find_scores(request_for(store(tmp_path / "flat.zarr", values, offsets, axes="cyx")))
    assert flat.edge_axes == (1, 2)
    stack = store(tmp_path / "stack.zarr", values[:, None].repeat(4, 1), offsets)
    assert find_scores(request_for(stack, per_slice=True)).edge_axes == (1, 2)
    with pytest.raises(VolumeError, match=r"no affinities of the offset -1,0,0 .* --per-slice$"):
        find_scores(request_for(stack))


REFUSED = {
    "a role": ({"role": "boundary"}, OFFSETS,
               r"--role boundary: .* holds affinities, .*; leave --role out$"),
    "neighbours through edges": ({"connectivity": 18}, OFFSETS,
                                 r"--connectivity 18: .* through faces; leave --connectivity out$"),
    "too few offsets": ({}, OFFSETS[:3], r"has 4 channels and states 3 offsets: expected one for"),
    "no nearest neighbour": ({}, [*OFFSETS[:3], [0, -2, 0]],
                             r"no affinities of the offset 0,-1,0 \(only -4,0,0; 0,0,-1; -1,0,0; "
                             r"0,-2,0\): expected .*; train with offsets that include it$"),
    "seeds below the threshold": (
        {"method": "watershed", "seed_threshold": 0.3}, OFFSETS,
        r"expected a seed threshold above it, since affinities are high inside objects$"),
}  # fmt: skip


@pytest.mark.parametrize(("options", "offsets", "line"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_affinities_is_refused_in_one_line(
    options, offsets, line, affinities, tmp_path
):
    path = store(tmp_path / "scores.zarr", affinities, offsets)
    with pytest.raises((PlanError, VolumeError), match=line) as refused:
        prepare_objects(request_for(path, **options))
    assert "\n" not in str(refused.value)


def test_coarser_levels_are_no_affinities_of_their_voxels(tmp_path, affinities):
    path = store(tmp_path / "scores.zarr", affinities)
    root = zarr.open_group(path)
    root.create_array("1", data=affinities[:, ::2, ::2, ::2])
    ome = root.attrs["ome"]
    scale = [{"type": "scale", "scale": [1.0, 2.0, 2.0, 2.0]}]
    ome["multiscales"][0]["datasets"].append({"path": "1", "coordinateTransformations": scale})
    root.attrs["ome"] = ome
    with pytest.raises(VolumeError, match=r"expected 0, not 1; leave --level out$"):
        find_scores(request_for(path, level=1))


def test_each_channel_adds_to_the_stated_memory(source):
    options = {"block": (3, 4, 6), "threshold": 0.5}
    in_volume = prepare_objects(request_for(source, **options)).budget.block_memory_bytes
    per_slice = prepare_objects(request_for(source, per_slice=True, **options))
    assert in_volume > per_slice.budget.block_memory_bytes
