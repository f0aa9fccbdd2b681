"""A graph of clusters that are merged one by one, in compiled code.

Each cluster lists its pairs. A merge moves the shorter list to the longer one, so a pair moves at
most log2(pairs) times; a hash table finds the pair of two clusters, and parallel pairs are summed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .compiled import compiled

Nodes = NDArray[np.int32]
Sums = NDArray[np.int64]

_SPREAD = -7046029254386353131
"""2**64 / golden ratio, odd, as int64: the multiplier of Fibonacci hashing (Knuth, vol. 3, 6.4)."""
NONE = -1


class Graph(NamedTuple):
    """Clusters and the pairs of clusters that touch; a pair without faces is removed.

    one, other, total, faces: per pair. after: per end of a pair (2k for ``one``, 2k + 1 for
    ``other``), the next end in the list of the same cluster. first, ends: per cluster, the first
    end and the length of its list, which may hold ends of removed pairs. name: per cluster, the
    lowest rank of its members. parent: per node, itself or a node of the cluster that took it.
    slots: the hash table, pairs or NONE. 32 to 40 bytes per pair with total and faces, 16 per node.
    """

    one: Nodes
    other: Nodes
    total: Sums
    faces: Sums
    after: Nodes
    first: Nodes
    ends: Nodes
    name: Nodes
    parent: Nodes
    slots: Nodes


def new_graph(nodes: int, low: Nodes, high: Nodes, total: Sums, faces: Sums) -> Graph:
    """Return the graph in which each node is a cluster; pairs occur once, low < high."""
    rank = np.arange(nodes, dtype=np.int32)
    slots = 1 << max(4, (3 * len(low) // 2).bit_length())  # one to two thirds full
    graph = Graph(
        one=low.copy(), other=high.copy(), total=total.copy(), faces=faces.copy(),
        after=np.empty(2 * len(low), np.int32), first=np.full(nodes, NONE, np.int32),
        ends=np.zeros(nodes, np.int32), name=rank, parent=rank.copy(),
        slots=np.full(slots, NONE, np.int32),
    )  # fmt: skip
    _link(graph)
    return graph


@compiled
def mean_of(graph: Graph, pair: int) -> float:
    """Return the mean score of a pair that has faces."""
    return graph.total[pair] / graph.faces[pair]


@compiled
def find(parent: Nodes, node: int) -> int:
    """Return the node that stands for a node's cluster."""
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node


@compiled
def names_of_clusters(graph: Graph) -> Nodes:
    """Return, per node, the rank of the name of its cluster."""
    names = np.empty(graph.parent.size, np.int32)
    for node in range(names.size):
        names[node] = graph.name[find(graph.parent, node)]
    return names


@compiled
def contract(graph: Graph, pair: int, fallen: Nodes) -> int:
    """Merge the clusters of a pair; return the number of pairs whose mean fell.

    These are written to ``fallen``, which holds at least as many as the shorter list. Others that
    changed are the merged cluster's pairs; their mean rose, or only the name changed.
    """
    short, long = graph.one[pair], graph.other[pair]
    if graph.ends[short] > graph.ends[long]:
        short, long = long, short
    _forget(graph, pair)
    graph.faces[pair] = 0
    count = 0
    end = graph.first[short]
    while end != NONE:
        after, moved = graph.after[end], end >> 1
        if graph.faces[moved]:
            _forget(graph, moved)
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
    if end & 1:
        graph.other[pair] = cluster
    else:
        graph.one[pair] = cluster
    slot = _slot(graph, graph.one[pair], graph.other[pair])
    known = graph.slots[slot]
    if known == NONE:
        graph.slots[slot] = pair
        graph.after[end] = graph.first[cluster]
        graph.first[cluster] = end
        graph.ends[cluster] += 1
        return NONE
    before = mean_of(graph, known)
    graph.total[known] += graph.total[pair]
    graph.faces[known] += graph.faces[pair]
    graph.faces[pair] = 0
    return known if mean_of(graph, known) < before else NONE


@compiled
def _link(graph: Graph) -> None:
    """Fill the lists and the hash table."""
    for pair in range(graph.one.size):
        for side in range(2):
            node = graph.other[pair] if side else graph.one[pair]
            graph.after[2 * pair + side] = graph.first[node]
            graph.first[node] = 2 * pair + side
            graph.ends[node] += 1
        graph.slots[_slot(graph, graph.one[pair], graph.other[pair])] = pair


@compiled
def _home(graph: Graph, one: int, other: int) -> int:
    """Return the slot at which the search for a pair starts."""
    low, high = (one, other) if one < other else (other, one)
    key = (np.int64(low) << 32) | np.int64(high)
    return (key * _SPREAD >> 32) & (graph.slots.size - 1)


@compiled
def _slot(graph: Graph, one: int, other: int) -> int:
    """Return the slot of the pair of two clusters, or the empty one where it belongs."""
    slot = _home(graph, one, other)
    while True:
        pair = graph.slots[slot]
        if pair == NONE:
            return slot
        a, b = graph.one[pair], graph.other[pair]
        if (a == one and b == other) or (a == other and b == one):
            return slot
        slot = (slot + 1) & (graph.slots.size - 1)


@compiled
def _forget(graph: Graph, pair: int) -> None:
    """Remove a pair from the hash table, and close the gap (Knuth, vol. 3, 6.4, algorithm R)."""
    mask = graph.slots.size - 1
    gap = _slot(graph, graph.one[pair], graph.other[pair])
    slot = (gap + 1) & mask
    while graph.slots[slot] != NONE:
        later = graph.slots[slot]
        home = _home(graph, graph.one[later], graph.other[later])
        if ((slot - home) & mask) >= ((slot - gap) & mask):
            graph.slots[gap] = later
            gap = slot
        slot = (slot + 1) & mask
    graph.slots[gap] = NONE
