"""A graph of clusters that are merged one by one, in compiled code.

Each cluster lists its pairs. A merge moves the shorter list to the longer one, so a pair moves at
most log2(pairs) times; a hash table finds the pair of two clusters, and parallel pairs are summed.
"""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...base.compiled import compiled, inlined

Numbers: TypeAlias = NDArray[np.int32]
Sums: TypeAlias = NDArray[np.int64]

NONE: Final = -1
"""In place of the number of a pair or an end: there is not one."""
_SPREAD: Final = -7046029254386353131
"""2**64 / golden ratio, odd, as int64: the multiplier of Fibonacci hashing (Knuth, vol. 3, 6.4)."""


class Graph(NamedTuple):
    """Clusters and the pairs of clusters that touch; a pair without faces is removed.

    ends: the clusters of pair k are ``ends[2 * k]`` and ``ends[2 * k + 1]``. sums: (pairs, 2), the
    total score and the faces. after: per end, the next one in the list of the same cluster. lists:
    (nodes, 2), per cluster the first end and the length of its list, which may hold ends of removed
    pairs. name: per cluster, the lowest rank of its members. parent: per node, itself or a node of
    the cluster that took it. slots: the hash table, pairs or NONE.
    38 to 45 bytes per pair, 16 per node.
    """

    ends: Numbers
    sums: Sums
    after: Numbers
    lists: Numbers
    name: Numbers
    parent: Numbers
    slots: Numbers


def new_graph(nodes: int, low: Numbers, high: Numbers, total: Sums, faces: Sums) -> Graph:
    """Return the graph in which each node is a cluster; pairs occur once, low < high."""
    rank = np.arange(nodes, dtype=np.int32)
    lists = np.tile(np.array((NONE, 0), np.int32), (nodes, 1))
    slots = 1 << max(4, (3 * len(low) // 2).bit_length())  # one to two thirds full
    graph = Graph(
        ends=np.stack((low, high), axis=1).ravel(), sums=np.stack((total, faces), axis=1),
        after=np.empty(2 * len(low), np.int32), lists=lists, name=rank, parent=rank.copy(),
        slots=np.full(slots, NONE, np.int32),
    )  # fmt: skip
    _link(graph)
    return graph


@inlined
def mean_of(graph: Graph, pair: int) -> float:
    """Return the mean score of a pair that has faces."""
    return graph.sums[pair, 0] / graph.sums[pair, 1]


@compiled
def find(parent: Numbers, node: int) -> int:
    """Return the node that stands for a node's cluster."""
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node


@compiled
def names_of_clusters(graph: Graph) -> Numbers:
    """Return, per node, the rank of the name of its cluster."""
    names = np.empty(graph.parent.size, np.int32)
    for node in range(names.size):
        names[node] = graph.name[find(graph.parent, node)]
    return names


@compiled
def contract(graph: Graph, pair: int, fallen: Numbers) -> int:
    """Merge the clusters of a pair; return the number of pairs whose mean fell.

    These are written to ``fallen``, which holds at least as many as the shorter list. Others that
    changed are the merged cluster's pairs; their mean rose, or only the name changed.
    """
    short, long = graph.ends[2 * pair], graph.ends[2 * pair + 1]
    if graph.lists[short, 1] > graph.lists[long, 1]:
        short, long = long, short
    _forget(graph, pair)
    graph.sums[pair, 1] = 0
    count = 0
    end = graph.lists[short, 0]
    while end != NONE:
        after = graph.after[end]
        if graph.sums[end >> 1, 1]:
            known = _move(graph, end, long)
            if known != NONE:
                fallen[count] = known
                count += 1
        end = after
    graph.parent[short] = long
    graph.name[long] = min(graph.name[short], graph.name[long])
    return count


@compiled
def _move(graph: Graph, end: int, cluster: int) -> int:
    """Give an end to a cluster; if that sums two pairs and the mean falls, return the pair left."""
    pair = end >> 1
    _forget(graph, pair)
    graph.ends[end] = cluster
    slot = _slot(graph, cluster, graph.ends[end ^ 1])
    known = graph.slots[slot]
    if known == NONE:
        graph.slots[slot] = pair
        _list(graph, end, cluster)
        return NONE
    before = mean_of(graph, known)
    graph.sums[known, 0] += graph.sums[pair, 0]
    graph.sums[known, 1] += graph.sums[pair, 1]
    graph.sums[pair, 1] = 0
    return known if mean_of(graph, known) < before else NONE


@inlined
def _list(graph: Graph, end: int, cluster: int) -> None:
    """Put an end at the start of a cluster's list."""
    graph.after[end] = graph.lists[cluster, 0]
    graph.lists[cluster, 0] = end
    graph.lists[cluster, 1] += 1


@compiled
def _link(graph: Graph) -> None:
    """Fill the lists and the hash table."""
    for end in range(graph.ends.size):
        _list(graph, end, graph.ends[end])
    for pair in range(graph.sums.shape[0]):
        graph.slots[_slot(graph, graph.ends[2 * pair], graph.ends[2 * pair + 1])] = pair


@inlined
def _home(graph: Graph, one: int, other: int) -> np.int64:
    """Return the slot at which the search for a pair starts."""
    low, high = (one, other) if one < other else (other, one)
    key = (np.int64(low) << 32) | np.int64(high)
    return (key * _SPREAD >> 32) & (graph.slots.size - 1)


@inlined
def _slot(graph: Graph, one: int, other: int) -> np.int64:
    """Return the slot of the pair of two clusters, or the empty one where it belongs."""
    slot = _home(graph, one, other)
    while True:
        pair = graph.slots[slot]
        if pair == NONE:
            return slot
        a, b = graph.ends[2 * pair], graph.ends[2 * pair + 1]
        if (a == one and b == other) or (a == other and b == one):
            return slot
        slot = (slot + 1) & (graph.slots.size - 1)


@compiled
def _forget(graph: Graph, pair: int) -> None:
    """Remove a pair from the hash table, and close the gap (Knuth, vol. 3, 6.4, algorithm R)."""
    mask = graph.slots.size - 1
    gap = _slot(graph, graph.ends[2 * pair], graph.ends[2 * pair + 1])
    slot = (gap + 1) & mask
    while graph.slots[slot] != NONE:
        later = graph.slots[slot]
        home = _home(graph, graph.ends[2 * later], graph.ends[2 * later + 1])
        if ((slot - home) & mask) >= ((slot - gap) & mask):
            graph.slots[gap] = later
            gap = slot
        slot = (slot + 1) & mask
    graph.slots[gap] = NONE
