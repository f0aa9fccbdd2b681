"""Independent references of objects, and objects of a volume in blocks, in this process."""

from __future__ import annotations

import heapq
import itertools

import numpy as np
import pytest
from scipy import ndimage

from pipeline.base.geometry import Box
from pipeline.objects.fragments.labelling import label_block, outer_box
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


def by_first_voxel(labels):
    """Return labels 1, 2 … in the order of their first voxels."""
    ids, first = np.unique(labels, return_index=True)
    order = [ids[i] for i in np.argsort(first) if ids[i] > 0]
    lookup = np.zeros(int(labels.max(initial=0)) + 1, int)
    lookup[order] = np.arange(1, len(order) + 1)
    return lookup[labels]


def in_blocks(scores, core, method, *, read=None):
    """Return the labels of a volume in blocks, by first voxel, and the records of the objects.

    core: size of the blocks. read: returns the scores of a block from its outer and inner box.
    """
    shape = scores.shape
    grid = tuple(-(-n // c) for n, c in zip(shape, core, strict=True))
    tree = Tree(grid=grid)
    boxes = {
        index: Box(
            tuple(i * c for i, c in zip(index, core, strict=True)),
            tuple(min((i + 1) * c, n) for i, c, n in zip(index, core, shape, strict=True)),
        )
        for index in itertools.product(*map(range, grid))
    }
    read = read or (lambda outer, inner: scores[outer.slices])
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
