"""The objects of a volume in blocks are those of the whole volume, ids included.

References are in conftest.py: scipy's label, Prim's algorithm with a heap, Kruskal's by depth.
Controls break one thing each, which the same comparison must notice.
"""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.base.geometry import Box
from pipeline.objects.definition.method import Method
from pipeline.objects.fragments import forest, labelling
from pipeline.objects.merging import merge

KINDS = ("components", "seeds", "distance", "depth")
ROLES = ("foreground", "boundary")
CASES = 16


def random_case(rng, kind, role):
    """Return scores with many ties, a size of blocks, and a method."""
    shape = tuple(int(n) for n in rng.integers(1, 10, 3))
    core = tuple(int(rng.integers(1 + n // 5, n + 1)) for n in shape)
    top = int(rng.choice([2, 6, 40, 255]))
    scores = rng.integers(0, top + 1, shape).astype(rng.choice(["u1", "u2"]))
    per_slice = bool(rng.random() < 0.3)
    threshold = int(rng.integers(1, top + 1))
    options = {
        "role": role,
        "per_slice": per_slice,
        "connectivity": int(rng.choice([4, 6, 8, 18, 26] if per_slice else [6, 18, 26])),
        "threshold": threshold if kind == "components" or rng.random() < 0.6 else None,
    }
    if kind in ("seeds", "distance"):
        options["seed_threshold"] = int(rng.integers(1, top + 1))
    if kind == "distance":
        options["seed_distance"] = int(rng.choice([1000, 1500, 2300]))
        options["flood"] = str(rng.choice(["score", "distance"]))
        options["spacing"] = tuple(int(n) for n in rng.choice([700, 1000, 2500], 3))
    if kind == "depth":
        options["depth"] = int(rng.integers(1, top + 2))
    return scores, core, Method(**options)


def differing(solved, reference, cases, **options):
    """Return the cases whose labels in blocks are not those of the reference."""
    return [
        (scores.shape, core, method)
        for scores, core, method in cases
        if not np.array_equal(solved(scores, core, method, **options)[0],
                              reference(scores, method))
    ]  # fmt: skip


def cases_of(kind, role, *, seed=0, count=CASES):
    rng = np.random.default_rng((seed, KINDS.index(kind), ROLES.index(role)))
    return [random_case(rng, kind, role) for _ in range(count)]


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("kind", KINDS)
def test_objects_in_blocks_are_those_of_the_whole_volume(kind, role, solved, reference):
    cases = cases_of(kind, role)
    assert differing(solved, reference, cases) == []
    whole = [(scores, scores.shape, method) for scores, _, method in cases]
    assert differing(solved, reference, whole) == []


@pytest.mark.parametrize("kind", KINDS)
def test_sizes_and_edges_of_objects_in_blocks_are_those_of_the_whole_volume(kind, solved):
    for scores, core, method in cases_of(kind, "foreground", seed=1):
        labels, records = solved(scores, core, method)
        inner = labels[(slice(None), slice(1, -1), slice(1, -1))]
        if not method.per_slice and len(labels) > 1:
            inner = inner[1:-1]
        touching = set(np.unique(labels)) - {
            i for i in np.unique(labels) if (labels == i).sum() == (inner == i).sum()
        }
        found = {}
        for one in records:
            for name, voxels, at_edge in zip(one.names, one.voxels, one.at_edge, strict=True):
                label = labels.flat[int(name) - 1]
                assert np.flatnonzero(labels == label)[0] == int(name) - 1
                assert found.setdefault(label, (voxels, at_edge)) == (voxels, at_edge)
        counts = np.bincount(labels.ravel(), minlength=1)
        assert found == {
            i: (counts[i], i in touching) for i in range(1, len(counts))
        }, (scores.shape, core, method)  # fmt: skip


def ring_unread(scores):
    """Return a reader with a halo one voxel short: its outer ring repeats the voxels inside it."""

    def read(outer, inner):
        low = [b + 1 if b < a else b for a, b in zip(inner.start, outer.start, strict=True)]
        high = [b - 1 if b > a else b for a, b in zip(inner.stop, outer.stop, strict=True)]
        known = scores[Box(tuple(low), tuple(high)).slices]
        width = [
            (a - b, d - c) for a, b, c, d in zip(low, outer.start, high, outer.stop, strict=True)
        ]
        return np.pad(known, width, mode="edge")

    return read


@pytest.mark.parametrize("kind", ["seeds", "distance", "depth"])
def test_a_halo_one_voxel_short_is_noticed(kind, solved, reference):
    wrong = [
        case
        for scores, core, method in cases_of(kind, "boundary")
        for case in differing(solved, reference, [(scores, core, method)], read=ring_unread(scores))
    ]
    assert wrong


@pytest.mark.parametrize("kind", ["seeds", "depth"])
def test_ignoring_the_edges_to_other_blocks_is_noticed(kind, solved, reference, monkeypatch):
    monkeypatch.setattr(forest, "_lowest_ways_out", lambda *_: None)
    assert differing(solved, reference, cases_of(kind, "boundary"))


@pytest.mark.parametrize("kind", ["seeds", "depth"])
def test_ignoring_the_edges_to_other_groups_is_noticed(kind, solved, reference, monkeypatch):
    monkeypatch.setattr(merge, "_note_lowest_out", lambda *_: None)
    assert differing(solved, reference, cases_of(kind, "boundary", count=3 * CASES))


@pytest.mark.parametrize("kind", ["seeds", "depth"])
def test_ties_by_a_local_order_are_noticed(kind, solved, reference, monkeypatch):
    grow = labelling.grow_fragments

    def local(heights, *arguments, **options):
        inner = tuple(n - 2 for n in heights.shape)
        return grow(heights, *arguments, **{**options, "start": (0, 0, 0), "shape": inner})

    monkeypatch.setattr(labelling, "grow_fragments", local)
    assert differing(solved, reference, cases_of(kind, "boundary", count=3 * CASES))
