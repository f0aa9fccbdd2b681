"""Objects of affinities in blocks are those of the whole volume, ids included.

The reference is plain Python over all edges of the volume, sorted, with union-find. Controls break
one thing each, which the same comparison must notice.
"""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.objects.definition.method import Method
from pipeline.objects.fragments import edge_forest, edge_labelling

KINDS = ("components", "seeds", "distance", "depth")
CASES = 16


def random_case(rng, kind):
    """Return affinities with many ties, a size of blocks, and a method."""
    shape = tuple(int(n) for n in rng.integers(1, 9, 3))
    core = tuple(int(rng.integers(1 + n // 5, n + 1)) for n in shape)
    top = int(rng.choice([2, 6, 40, 255]))
    per_slice = bool(rng.random() < 0.3)
    axes = (1, 2) if per_slice or shape[0] == 1 else (0, 1, 2)
    affinities = rng.integers(0, top + 1, (len(axes), *shape)).astype(rng.choice(["u1", "u2"]))
    for channel, axis in zip(affinities, axes, strict=True):
        channel.swapaxes(0, axis)[0] = 0  # as Scores reads them
    threshold = int(rng.integers(1, top + 1))
    options = {"threshold": threshold if rng.random() < 0.6 else 1}
    if kind == "seeds":
        options["seed_threshold"] = int(rng.integers(options["threshold"], top + 1))
    if kind == "distance":
        options["seed_threshold"] = int(rng.integers(1, 2 + top // 3))
        options["seed_distance"] = int(rng.choice([500, 1000, 1500]))
        options["spacing"] = tuple(int(n) for n in rng.choice([700, 1000, 2500], 3))
    if kind == "depth":
        options["depth"] = int(rng.integers(1, top + 2))
    method = Method(
        role="foreground", connectivity=6, per_slice=per_slice, edge_axes=axes, **options
    )
    return affinities, core, method


def cases_of(kind, *, count=CASES):
    rng = np.random.default_rng(KINDS.index(kind))
    return [random_case(rng, kind) for _ in range(count)]


def differing(solved, by_edges, cases, **options):
    """Return the cases whose labels in blocks are not those of the reference."""
    return [
        (affinities.shape, core, method)
        for affinities, core, method in cases
        if not np.array_equal(solved(affinities, core, method, **options)[0],
                              by_edges(affinities, method).labels())
    ]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_objects_of_affinities_in_blocks_are_those_of_the_whole_volume(kind, solved, by_edges):
    cases = cases_of(kind, count=2 * CASES)
    assert differing(solved, by_edges, cases) == []
    whole = [(affinities, affinities.shape[1:], method) for affinities, _, method in cases]
    assert differing(solved, by_edges, whole) == []
    assert (
        sum(by_edges(affinities, method).labels().max() > 1 for affinities, _, method in cases) > 5
    )


@pytest.mark.parametrize("kind", KINDS)
def test_reading_nothing_behind_a_block_is_noticed(kind, solved, by_edges):
    def short(affinities):
        def read(outer, inner):
            known = affinities[(..., *outer.slices)].copy()
            for axis in range(3):
                if outer.stop[axis] > inner.stop[axis]:
                    known.swapaxes(1, axis + 1)[:, -1] = 0
            return known

        return read

    assert any(
        differing(solved, by_edges, [case], read=short(case[0]))
        for case in cases_of(kind, count=3 * CASES)
    )


@pytest.mark.parametrize("kind", ["seeds", "depth"])
def test_ignoring_edges_to_other_blocks_is_noticed(kind, solved, by_edges, monkeypatch):
    monkeypatch.setattr(edge_forest, "_note_ways_out", lambda *_: None)
    assert differing(solved, by_edges, cases_of(kind))


@pytest.mark.parametrize("kind", ["seeds", "depth"])
def test_ties_of_edges_by_a_local_order_are_noticed(kind, solved, by_edges, monkeypatch):
    grow = edge_labelling.grow_along_edges

    def local(edges, seeded, **options):
        return grow(edges, seeded, **{**options, "start": (0, 0, 0), "shape": seeded.shape})

    monkeypatch.setattr(edge_labelling, "grow_along_edges", local)
    assert differing(solved, by_edges, cases_of(kind, count=3 * CASES))


def test_a_voxel_without_an_affinity_at_the_threshold_is_background(solved):
    affinities = np.zeros((3, 1, 2, 4), np.uint8)
    affinities[2, 0, 0] = [9, 200, 127, 128]  # along x: 0-1 connected, 1-2 not, 2-3 connected
    affinities[2, 0, 0, 0] = 0
    method = Method(
        role="foreground", threshold=128, connectivity=6, per_slice=False, edge_axes=(0, 1, 2)
    )
    for core in ((1, 2, 4), (1, 1, 1)):
        labels, _ = solved(affinities, core, method)
        assert labels.tolist() == [[[1, 1, 2, 2], [0, 0, 0, 0]]]


def test_a_seed_by_distance_lies_inside_all_of_its_affinities(solved):
    affinities = np.full((1, 1, 9), 255, np.uint8)[None].repeat(2, 0)
    affinities[1, 0, 0, [0, 4]] = 0, 10  # two lines of voxels that one weak edge connects
    affinities[0] = 0
    method = Method(
        role="foreground", threshold=1, connectivity=6, per_slice=False, edge_axes=(1, 2),
        seed_threshold=128, seed_distance=1500,
    )  # fmt: skip
    labels, _ = solved(affinities, (1, 1, 2), method)
    assert labels.tolist() == [[[1, 1, 1, 1, 2, 2, 2, 2, 2]]]
