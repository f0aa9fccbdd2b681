"""Independent references of objects, and objects of a volume in blocks, in this process."""

from __future__ import annotations

import heapq
import itertools

import numpy as np
import pytest
from scipy import ndimage

from pipeline.base.geometry import Box
from pipeline.objects.fragments.labelled_block import outer_box
from pipeline.objects.fragments.labelling import label_block
from pipeline.objects.fragments.measures import Records
from pipeline.objects.merging.groups import Tree
from pipeline.objects.merging.link import linked
from pipeline.objects.merging.merge import merge


class Reference:
    """The objects of a whole volume by textbook algorithms, without the code of the pipeline."""

    def __init__(self, scores, method):
        self.scores, self.method = scores, method
        self.offsets = [tuple(offset) for offset in method.offsets.tolist()]
        self.structure = np.zeros((3, 3, 3), bool)
        for offset in (*self.offsets, (0, 0, 0)):
            self.structure[tuple(n + 1 for n in offset)] = True
        everywhere = np.ones(scores.shape, bool)
        threshold = method.threshold
        self.mask = everywhere if threshold is None else self.inside(threshold)
        top = np.iinfo(scores.dtype).max
        values = scores.astype(int)
        self.heights = values if method.role == "boundary" else top - values

    def inside(self, threshold):
        below = self.scores < threshold
        return below if self.method.role == "boundary" else ~below

    def labels(self):
        if self.method.depth:
            return by_first_voxel(self.basins())
        if self.method.seed_threshold is None:
            return by_first_voxel(ndimage.label(self.mask, self.structure)[0])
        return by_first_voxel(self.flooded(*self.seeds_and_heights()))

    def seeds_and_heights(self):
        method, heights = self.method, self.heights
        deep = self.inside(method.seed_threshold) & self.mask
        if method.seed_distance:
            limit = method.seed_distance / 1000
            distance = self.distances(deep)
            if method.flood == "distance":
                heights = 65535 - np.rint(65535 * np.minimum(distance, limit) / limit).astype(int)
            deep = distance > limit + 1e-9
        return ndimage.label(deep, self.structure)[0], heights

    def distances(self, deep):
        """Return Euclidean distances to the outside; beyond the volume nothing is outside."""
        spacing = [size / 1000 for size in self.method.spacing]
        parts = [deep[z : z + 1] for z in range(len(deep))] if self.method.per_slice else [deep]
        return np.concatenate([
            np.full(part.shape, 1e9) if part.all()
            else ndimage.distance_transform_edt(part, sampling=spacing)
            for part in parts
        ])  # fmt: skip

    def neighbours(self, voxel):
        for offset in self.offsets:
            other = tuple(a + b for a, b in zip(voxel, offset, strict=True))
            is_in_volume = all(0 <= a < n for a, n in zip(other, self.mask.shape, strict=True))
            if is_in_volume and self.mask[other]:
                yield other

    def flooded(self, seeds, heights):
        """Return a minimum spanning forest from seeds, by Prim's algorithm with a heap."""
        index = np.arange(heights.size).reshape(heights.shape)
        labels, heap = seeds.copy(), []

        def push(voxel):
            for other in self.neighbours(voxel):
                if labels[other] == 0:
                    one, two = ((int(heights[v]), int(index[v])) for v in (voxel, other))
                    edge = max(one, two), min(one, two)
                    heapq.heappush(heap, (edge, other, int(labels[voxel])))

        for voxel in map(tuple, np.argwhere(labels > 0).tolist()):
            push(voxel)
        while heap:
            _, voxel, label = heapq.heappop(heap)
            if labels[voxel] == 0:
                labels[voxel] = label
                push(voxel)
        return labels

    def basins(self):
        """Return basins of at least a depth, by Kruskal's algorithm over all edges in order."""
        shape, depth = self.heights.shape, self.method.depth
        height = self.heights.ravel().tolist()
        index = np.arange(self.heights.size).reshape(shape)
        edges = []
        for voxel in map(tuple, np.argwhere(self.mask).tolist()):
            one = int(index[voxel])
            for other in (int(index[v]) for v in self.neighbours(voxel)):
                ends = sorted(((height[one], one), (height[other], other)), reverse=True)
                edges += [(ends, one, other)] if one < other else []
        root, lowest = list(range(len(height))), list(height)

        def find(node):
            while root[node] != node:
                node = root[node]
            return node

        for ends, one, other in sorted(edges):
            a, b, top = find(one), find(other), ends[0][0]
            if a != b and (top - lowest[a] < depth or top - lowest[b] < depth):
                root[a] = b
                lowest[b] = min(lowest[a], lowest[b])
        return np.array([find(n) + 1 for n in range(len(height))]).reshape(shape) * self.mask


class EdgeReference:
    """The objects of a whole volume of affinities, by union-find over its sorted edges."""

    def __init__(self, affinities, method):
        self.method, self.shape = method, affinities.shape[1:]
        self.top = np.iinfo(affinities.dtype).max
        index = np.arange(np.prod(self.shape)).reshape(self.shape)
        self.edges = []  # (affinity, number of the voxel, axis, number of the voxel before it)
        for values, axis in zip(affinities, method.edge_axes, strict=True):
            after = [slice(1, None) if a == axis else slice(None) for a in range(3)]
            before = [slice(None, -1) if a == axis else slice(None) for a in range(3)]
            ends = (values[tuple(after)], index[tuple(after)], index[tuple(before)])
            self.edges += [
                (affinity, voxel, axis, other)
                for affinity, voxel, other in zip(*(e.ravel().tolist() for e in ends), strict=True)
            ]

    def labels(self):
        count = int(np.prod(self.shape))
        kept = [edge for edge in self.edges if edge[0] >= self.method.threshold]
        lowest = [self.top + 1] * count
        for affinity, voxel, _, other in kept:
            for end in (voxel, other):
                lowest[end] = min(lowest[end], self.top - affinity)
        seeded, certain = self.seeds(kept)
        root = list(range(count))

        def find(node):
            while root[node] != node:
                node = root[node]
            return node

        later = sorted(kept, key=lambda e: (-e[0], e[1], e[2])) if self.method.is_watershed else []
        for number, (affinity, voxel, _, other) in enumerate([*certain, *later]):
            a, b = find(voxel), find(other)
            apart = number >= len(certain) and self.stay_apart(
                self.top - affinity, lowest, seeded, (a, b)
            )
            if a != b and not apart:
                root[b], lowest[a] = a, min(lowest[a], lowest[b])
                seeded[a] |= seeded[b]
        nodes = {end for edge in kept for end in (edge[1], edge[3])}
        found, names = np.zeros(count, int), {}
        for voxel in sorted(nodes):
            if seeded[find(voxel)] or not self.method.has_seeds:
                found[voxel] = names.setdefault(find(voxel), len(names) + 1)
        return found.reshape(self.shape)

    def stay_apart(self, height, lowest, seeded, roots):
        """Return whether the edge between two trees is a border of objects."""
        if self.method.depth:
            return all(height - lowest[root] >= self.method.depth for root in roots)
        return all(seeded[root] for root in roots)

    def seeds(self, kept):
        """Return which voxels are in seeds, and the edges inside of seeds (or of components)."""
        method, seeded = self.method, [False] * int(np.prod(self.shape))
        if not method.has_seeds:
            return seeded, [] if method.is_watershed else kept
        if method.seed_distance:
            seeded = self.deep().ravel().tolist()
            return seeded, [edge for edge in kept if seeded[edge[1]] and seeded[edge[3]]]
        certain = [edge for edge in kept if edge[0] >= method.seed_threshold]
        for edge in certain:
            seeded[edge[1]] = seeded[edge[3]] = True
        return seeded, certain

    def deep(self):
        """Return the voxels farther than a distance from any that has an affinity too low."""
        method, inside = self.method, np.ones(self.shape, bool)
        for affinity, voxel, _, other in self.edges:
            if affinity < method.seed_threshold:
                inside.flat[[voxel, other]] = False
        spacing = [size / 1000 for size in method.spacing]
        parts = [inside[z : z + 1] for z in range(len(inside))] if method.per_slice else [inside]
        return np.concatenate([
            part if part.all()
            else ndimage.distance_transform_edt(part, sampling=spacing)
            > method.seed_distance / 1000 + 1e-9
            for part in parts
        ])  # fmt: skip


def by_first_voxel(labels):
    """Return labels 1, 2 … in the order of their first voxels."""
    ids, first = np.unique(labels, return_index=True)
    order = [ids[i] for i in np.argsort(first) if ids[i] > 0]
    lookup = np.zeros(int(labels.max(initial=0)) + 1, int)
    lookup[order] = np.arange(1, len(order) + 1)
    return lookup[labels]


def in_blocks(scores, core, method, *, read=None):
    """Return the labels of a volume in blocks, by first voxel, and the records of the objects.

    scores: (z, y, x), or affinities (axes, z, y, x). core: size of the blocks. read: returns the
    scores of a block from its outer and inner box.
    """
    shape = scores.shape[-3:]
    grid = tuple(-(-n // c) for n, c in zip(shape, core, strict=True))
    tree = Tree(grid=grid)
    boxes = {
        index: Box(
            tuple(i * c for i, c in zip(index, core, strict=True)),
            tuple(min((i + 1) * c, n) for i, c, n in zip(index, core, shape, strict=True)),
        )
        for index in itertools.product(*map(range, grid))
    }
    read = read or (lambda outer, inner: scores[(..., *outer.slices)])
    blocks = {
        index: label_block(
            read(outer_box(box, method, shape), box), core=box, method=method, shape=shape
        )
        for index, box in boxes.items()
    }
    states = {}
    for index, block in blocks.items():
        around = dict(tree.neighbours(index))
        states[index] = linked(
            block, {d: blocks[i] for d, i in around.items()}, box=boxes[index],
            boxes={d: boxes[i] for d, i in around.items()}, offsets=method.offsets, shape=shape,
        )  # fmt: skip
    records = _records(tree, states, method)
    names = np.zeros(shape, np.uint64)
    for index, box in boxes.items():
        lookup = np.concatenate((np.zeros(1, np.uint64), records[index].names))
        names[box.slices] = lookup[blocks[index].labels]
    ids = np.unique(names[names > 0])
    merged = [records[index].taken(records[index].names > 0) for index in boxes]
    return np.where(names > 0, np.searchsorted(ids, names) + 1, 0), merged


def _records(tree, states, method):
    """Return the final records of the fragments of each block, down from the top of the tree."""
    settled = []
    for level in range(1, tree.depth + 1):
        groups, below = {}, {}
        for group in tree.groups(level):
            children = tree.children(level, group)
            groups[group], ends = merge([states[c] for c in children], method.rule)
            below.update(zip(children, ends, strict=True))
        settled.append(below)
        states = groups
    (top,) = states.values()
    assert len(top.records) == 0, "the last group leaves nothing open"
    records = {(0, 0, 0): top.records}
    for below in reversed(settled):
        records = {
            group: _inherited(end, records[tree.parent(group)]) for group, end in below.items()
        }
    return records


def _inherited(end, above):
    is_open = end.node >= 0
    columns = {}
    for name in ("names", "voxels", "at_edge"):
        column = getattr(end.records, name).copy()
        column[is_open] = getattr(above, name)[end.node[is_open]]
        columns[name] = column
    return Records(**columns)


@pytest.fixture(scope="session")
def reference():
    """Return a function from scores and method to the labels of the whole volume."""
    return lambda scores, method: Reference(scores, method).labels()


@pytest.fixture(scope="session")
def solved():
    """Return the function ``in_blocks``."""
    return in_blocks


@pytest.fixture(scope="session")
def by_edges():
    """Return a function from affinities and method to the reference of the whole volume."""
    return EdgeReference
