"""Laws of agglomeration: any tree of groups gives the merges of one heap over the whole graph."""

import heapq
from collections import defaultdict
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest

from pipeline.base.errors import OvertileError
from pipeline.objects.clusters.adjacency import Adjacency, renamed
from pipeline.objects.clusters.agglomeration import Agglomerated, agglomerate, threshold_merges

NONE = np.empty(0, np.uint64)


@dataclass
class Faces:
    """Faces between named objects; each lies in one of several blocks."""

    one: np.ndarray
    other: np.ndarray
    score: np.ndarray
    block: np.ndarray
    names: np.ndarray

    def in_blocks(self, blocks):
        chosen = np.isin(self.block, list(blocks))
        return Adjacency.of_pairs(
            self.one[chosen], self.other[chosen],
            total=self.score[chosen], faces=np.ones(chosen.sum(), np.int64),
        )  # fmt: skip

    def open_outside(self, blocks):
        """Return the names of all objects with a face in another block."""
        outside = ~np.isin(self.block, list(blocks))
        return np.unique(np.concatenate((self.one[outside], self.other[outside])))


def random_faces(rng, *, blocks, scores):
    """Objects in a row of blocks, most of them near their neighbours; few scores make many ties."""
    count = int(rng.integers(2, 40))
    first = rng.choice(np.array([1, 2**40, 2**64 - 50], np.uint64))  # float64 has gaps there
    names = first + rng.permutation(count).astype(np.uint64)
    faces = int(rng.integers(1, 5 * count))
    one = rng.integers(0, count, faces)
    other = (one + 1 + rng.integers(0, min(count - 1, 6), faces)) % count
    home = one * blocks // count
    is_moved = rng.random(faces) < 0.1
    block = np.where(is_moved, rng.integers(0, blocks, faces), home)
    score = rng.integers(0, scores, faces)
    return Faces(names[one], names[other], score, block, names)


def random_tree(rng, blocks):
    """Groups of blocks, children before parents: (blocks of the group, numbers of children)."""
    groups = [((block,), ()) for block in range(blocks)]
    roots = list(range(blocks))
    while len(roots) > 1:
        size = int(rng.integers(2, min(4, len(roots)) + 1))
        taken = [roots.pop(int(rng.integers(len(roots)))) for _ in range(size)]
        groups.append((tuple(block for k in taken for block in groups[k][0]), tuple(taken)))
        roots.append(len(groups) - 1)
    return groups


def by_tree(faces, groups, decide):
    """Return the name of each object after its own group and all groups above it have decided.

    decide(adjacency, open_names, children's results) is called for each group. The faces in a block
    are known to the group of this block alone.
    """
    results = []
    clusters = [faces.names]
    for blocks, children in groups:
        own = [] if children else [faces.in_blocks(blocks)]
        adjacency = Adjacency.merged([*own, *(results[k].adjacency for k in children)])
        result = decide(adjacency, faces.open_outside(blocks), [results[k] for k in children])
        results.append(result)
        clusters.append(renamed(clusters[-1], result.merges_from, result.merges_to))
    assert len(results[-1].adjacency) == 0
    return clusters[-1]


def by_heap(faces, threshold):
    """Greedy agglomeration of the whole graph with exact means: the independent reference."""
    sums = defaultdict(lambda: defaultdict(lambda: (0, 0)))
    for one, other, score in zip(*(x.tolist() for x in (faces.one, faces.other, faces.score)),
                                 strict=True):  # fmt: skip
        for a, b in ((one, other), (other, one)):
            total, count = sums[a][b]
            sums[a][b] = (total + score, count + 1)
    heap = [key(sums, a, b) for a in sums for b in sums[a] if a < b]
    heapq.heapify(heap)
    cluster = {name: name for name in faces.names.tolist()}
    while heap and heap[0][0] < threshold:
        entry = heapq.heappop(heap)
        low, high = -entry[1], -entry[2]
        if high not in sums.get(low, ()) or key(sums, low, high) != entry:
            continue
        for name in cluster:
            cluster[name] = low if cluster[name] == high else cluster[name]
        gone = sums.pop(high)
        del gone[low], sums[low][high]
        for name, (total, count) in gone.items():
            del sums[name][high]
            known = sums[low][name]
            sums[low][name] = sums[name][low] = (known[0] + total, known[1] + count)
        for name in sums[low]:
            heapq.heappush(heap, key(sums, *sorted((low, name))))
    return np.array([cluster[name] for name in faces.names.tolist()], np.uint64)


def key(sums, low, high):
    total, count = sums[low][high]
    return Fraction(total, count), -low, -high


def by_components(faces, threshold):
    """Components of all pairs below the threshold, by repeated spreading of the lowest name."""
    whole = faces.in_blocks(np.unique(faces.block))
    cluster = {name: name for name in faces.names.tolist()}
    pairs = [
        (low, high)
        for low, high, total, count in zip(
            *(x.tolist() for x in (whole.low, whole.high, whole.total, whole.faces)), strict=True
        )
        if Fraction(total, count) < threshold
    ]
    for _ in cluster:
        for low, high in pairs:
            cluster[low] = cluster[high] = min(cluster[low], cluster[high])
    return np.array([cluster[name] for name in faces.names.tolist()], np.uint64)


def mean_rule(threshold, *, protects=True):
    def decide(adjacency, open_names, _children):
        names = open_names if protects else NONE
        return agglomerate(adjacency, threshold=threshold, open_names=names)

    return decide


def threshold_rule(threshold):
    def decide(adjacency, open_names, children):
        links = tuple(
            np.concatenate([NONE, *(getattr(child, column) for child in children)])
            for column in ("links_from", "links_to")
        )
        return threshold_merges(adjacency, threshold=threshold, open_names=open_names, links=links)

    return decide


def cases(*, scores, most):
    for seed in range(most):
        rng = np.random.default_rng(seed)
        blocks = int(rng.integers(1, 9))
        faces = random_faces(rng, blocks=blocks, scores=scores)
        yield rng, faces, random_tree(rng, blocks), float(rng.uniform(0, scores))


@pytest.mark.parametrize("scores", [2, 5, 255, 65536])
def test_any_tree_of_groups_gives_the_merges_of_a_heap_over_the_whole(scores):
    merged = 0
    for _, faces, groups, threshold in cases(scores=scores, most=150):
        expected = by_heap(faces, threshold)
        assert np.array_equal(by_tree(faces, groups, mean_rule(threshold)), expected)
        merged += (expected != faces.names).sum()
    assert merged > 500


@pytest.mark.parametrize("scores", [2, 5, 255])
def test_any_tree_of_groups_gives_the_components_of_all_pairs_below_the_threshold(scores):
    for _, faces, groups, threshold in cases(scores=scores, most=150):
        expected = by_components(faces, threshold)
        assert np.array_equal(by_tree(faces, groups, threshold_rule(threshold)), expected)


def test_without_protection_of_open_objects_the_merges_differ():
    unequal = 0
    for _, faces, groups, threshold in cases(scores=255, most=50):
        merged = by_tree(faces, groups, mean_rule(threshold, protects=False))
        unequal += not np.array_equal(merged, by_heap(faces, threshold))
    assert unequal > 10


def test_equal_scores_everywhere_do_not_make_the_order_of_groups_matter():
    for rng, faces, groups, _ in cases(scores=1, most=100):
        faces.score[:] = np.where(rng.random(len(faces.score)) < 0.3, 7, 6)
        assert np.array_equal(by_tree(faces, groups, mean_rule(6.5)), by_heap(faces, 6.5))


def test_a_group_keeps_no_pair_of_a_finished_object():
    for _, faces, _, threshold in cases(scores=255, most=100):
        blocks = range(int(faces.block.max() + 1) // 2)
        open_names = faces.open_outside(blocks)
        left = agglomerate(
            faces.in_blocks(blocks), threshold=threshold, open_names=open_names
        ).adjacency
        is_below = left.means < threshold
        alive = np.concatenate((open_names, left.low[is_below], left.high[is_below]))
        assert np.isin(left.low, alive).all()
        assert np.isin(left.high, alive).all()


def test_open_objects_are_never_merged_and_clusters_take_their_lowest_name():
    for _, faces, _, threshold in cases(scores=255, most=100):
        open_names = faces.open_outside(range(3))
        result = agglomerate(faces.in_blocks(range(3)), threshold=threshold, open_names=open_names)
        assert not np.isin(open_names, result.merges_from).any()
        assert not np.isin(open_names, result.merges_to).any()
        assert (result.merges_to < result.merges_from).all()
        assert not np.isin(result.merges_to, result.merges_from).any()
        assert (np.diff(result.merges_from.astype(object)) > 0).all()


def test_one_object_may_touch_very_many_others():
    # Its pairs are listed once: a list that is searched for each merge would take minutes.
    count = 200_000
    rng = np.random.default_rng(0)
    names = np.arange(1, count + 1, dtype=np.uint64)
    hub = np.full(count - 1, count, np.uint64)
    for score in (rng.integers(0, 255, count - 1), np.zeros(count - 1, np.int64)):
        star = Adjacency.of_pairs(names[:-1], hub, total=score, faces=np.ones_like(score))
        result = agglomerate(star, threshold=256, open_names=NONE)
        assert len(result.merges_from) == count - 1
        assert (result.merges_to == 1).all()


def test_an_empty_group_decides_nothing():
    for decide in (agglomerate, threshold_merges):
        result = decide(Adjacency.empty(), threshold=1.0, open_names=NONE)
        assert isinstance(result, Agglomerated)
        assert len(result.merges_from) == len(result.merges_to) == len(result.adjacency) == 0


def test_totals_whose_means_would_not_be_exact_are_refused():
    one, two, three = np.arange(1, 4, dtype=np.uint64)[:, None]
    large = np.array([2**52, 2**52], np.int64)
    pairs = np.concatenate((one, one)), np.concatenate((two, three))
    fits = Adjacency.of_pairs(*pairs, total=large, faces=large)
    assert len(agglomerate(fits, threshold=0.5, open_names=NONE).merges_from) == 0
    low = np.array([1], np.int64)
    near = Adjacency.merged([fits, Adjacency.of_pairs(two, three, total=low, faces=10 * low)])
    with pytest.raises(OvertileError, match=r"sum to 9007199254740992: expected less than 2\*\*53"):
        agglomerate(near, threshold=0.5, open_names=NONE)
