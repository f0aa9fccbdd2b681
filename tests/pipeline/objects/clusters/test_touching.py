"""Laws of adjacency: the sum over blocks and the planes between them is that of the whole."""

import itertools
from collections import defaultdict

import numpy as np
import pytest

from pipeline.objects.clusters.adjacency import Adjacency, renamed
from pipeline.objects.clusters.agglomeration import agglomerate, threshold_merges
from pipeline.objects.clusters.touching import LabelledPlane, adjacency_across, adjacency_of, named


def random_volume(rng, *, side=12, dtype=np.uint8):
    """Random labels in lumps of 2 × 2 × 2 voxels, with background, and scores."""
    shape = tuple(rng.integers(1, side, 3).tolist())
    lumps = rng.integers(0, 30, [-(-size // 2) for size in shape]).astype(np.int32)
    labels = lumps.repeat(2, 0).repeat(2, 1).repeat(2, 2)[tuple(slice(size) for size in shape)]
    return np.ascontiguousarray(labels), rng.integers(0, np.iinfo(dtype).max + 1, shape, dtype)


def by_loops(labels, scores, *, per_slice=False):
    sums = defaultdict(lambda: [0, 0])
    steps = [(0, 0, 1), (0, 1, 0)] + [(1, 0, 0)] * (not per_slice)
    for here, step in itertools.product(np.ndindex(labels.shape), steps):
        there = tuple(np.add(here, step).tolist())
        if all(at < size for at, size in zip(there, labels.shape, strict=True)):
            one, other = int(labels[here]), int(labels[there])
            if one and other and one != other:
                pair = sums[min(one, other), max(one, other)]
                pair[0] += int(max(scores[here], scores[there]))
                pair[1] += 1
    return rows_of_dict(sums)


def rows_of_dict(sums):
    return sorted((*pair, *map(int, row)) for pair, row in sums.items())


def rows_of(adjacency):
    columns = (adjacency.low, adjacency.high, adjacency.total, adjacency.faces)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def random_cuts(rng, size):
    inner = np.flatnonzero(rng.random(size - 1) < 0.3) + 1
    return list(itertools.pairwise([0, *inner.tolist(), size]))


def blocks_of(rng, shape):
    return list(itertools.product(*(random_cuts(rng, size) for size in shape)))


def localised(labels):
    """Return labels 1 … n in order of the names, and the name of each."""
    names = np.unique(np.append(labels, 0)).astype(np.uint64)
    return np.searchsorted(names, labels.astype(np.uint64)).astype(np.int32), names


def parts_by_blocks(labels, scores, blocks):
    """Return the adjacency of each block and of the planes between two, by the set of blocks."""
    views = {b: tuple(slice(*edges) for edges in b) for b in blocks}
    local = {b: localised(labels[view]) for b, view in views.items()}
    parts = {
        frozenset([b]): named(adjacency_of(local[b][0], scores[views[b]]), local[b][1])
        for b in blocks
    }
    for one, other in itertools.permutations(blocks, 2):
        for axis in range(3):
            rest = [k for k in range(3) if k != axis]
            if one[axis][1] == other[axis][0] and all(one[k] == other[k] for k in rest):
                planes = [
                    LabelledPlane(
                        labels=local[b][0].take(at, axis), scores=scores[views[b]].take(at, axis),
                        names=local[b][1],
                    )
                    for b, at in ((one, -1), (other, 0))
                ]  # fmt: skip
                parts[frozenset([one, other])] = adjacency_across(*planes)
    return parts


def by_groups(rng, parts, decide):
    """Decide for random groups of blocks, two at a time, until one is left; return all merges.

    The planes between two groups are counted when these are merged.
    """
    groups = [(part, Adjacency.empty(), ()) for part in parts if len(part) == 1]
    inside = [frozenset()]
    merges = []
    while groups:
        taken = [groups.pop(int(rng.integers(len(groups)))) for _ in range(min(2, len(groups)))]
        blocks = frozenset().union(*(group[0] for group in taken))
        new = {part for part in parts if part <= blocks and not any(part <= k for k in inside)}
        outside = Adjacency.merged(parts[part] for part in parts if not part <= blocks)
        result = decide(
            Adjacency.merged([*(group[1] for group in taken), *(parts[part] for part in new)]),
            outside.names(),
            [group[2] for group in taken if group[2]],
        )
        merges.append((result.merges_from, result.merges_to))
        inside.append(blocks)
        if groups:
            groups.append((blocks, result.adjacency, result))
    return merges


def mean_rule(adjacency, open_names, _children):
    return agglomerate(adjacency, threshold=180, open_names=open_names)


def threshold_rule(adjacency, open_names, children):
    links = tuple(
        np.concatenate([np.empty(0, np.uint64), *(getattr(child, column) for child in children)])
        for column in ("links_from", "links_to")
    )
    return threshold_merges(adjacency, threshold=150, open_names=open_names, links=links)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("per_slice", [False, True])
def test_every_face_between_two_objects_is_counted_once(dtype, per_slice):
    for seed in range(25):
        labels, scores = random_volume(np.random.default_rng(seed), dtype=dtype)
        counted = adjacency_of(labels, scores, per_slice=per_slice)
        assert rows_of(counted) == by_loops(labels, scores, per_slice=per_slice)


def test_the_adjacencies_of_blocks_and_planes_sum_to_that_of_the_whole():
    for seed in range(40):
        rng = np.random.default_rng(seed)
        labels, scores = random_volume(rng)
        parts = list(parts_by_blocks(labels, scores, blocks_of(rng, labels.shape)).values())
        whole = adjacency_of(labels, scores)
        assert Adjacency.merged(parts) == whole
        assert Adjacency.merged(parts[::-1]) == whole


def test_more_pairs_than_the_first_table_holds_are_counted():
    rng = np.random.default_rng(0)
    labels = rng.permutation(30**3).reshape(30, 30, 30).astype(np.int32) + 1
    scores = rng.integers(0, 256, labels.shape, np.uint8)
    counted = adjacency_of(labels, scores)
    assert len(counted) == counted.faces.sum() == 3 * 30 * 30 * 29


def test_a_volume_without_voxels_or_objects_has_no_pairs():
    for shape in ((0, 3, 3), (3, 0, 3), (3, 3, 0), (1, 1, 1), (2, 3, 4)):
        empty = adjacency_of(np.zeros(shape, np.int32), np.zeros(shape, np.uint8))
        assert empty == Adjacency.empty()


def test_renaming_objects_equals_counting_the_renamed_labels():
    for seed in range(25):
        rng = np.random.default_rng(seed)
        labels, scores = random_volume(rng)
        old = rng.permutation(np.arange(1, 30, dtype=np.uint64))[:20]
        new = rng.integers(1, 30, 20).astype(np.uint64)
        after = renamed(labels.astype(np.uint64), old, new).astype(np.int32)
        assert adjacency_of(labels, scores).renamed(old, new) == adjacency_of(after, scores)


@pytest.mark.parametrize("rule", [mean_rule, threshold_rule])
def test_groups_of_blocks_merge_the_objects_that_the_whole_volume_merges(rule):
    merged = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        labels, scores = random_volume(rng)
        names = np.unique(labels).astype(np.uint64)
        whole = rule(adjacency_of(labels, scores), np.empty(0, np.uint64), [])
        expected = renamed(names, whole.merges_from, whole.merges_to)
        clusters = names
        parts = parts_by_blocks(labels, scores, blocks_of(rng, labels.shape))
        for merges in by_groups(rng, parts, rule):
            clusters = renamed(clusters, *merges)
        assert np.array_equal(clusters, expected)
        merged += len(whole.merges_from)
    assert merged > 100
