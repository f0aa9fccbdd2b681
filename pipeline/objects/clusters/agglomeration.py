"""Merges objects that touch at low scores, group of blocks by group of blocks, in any order.

Both rules give the result on the whole volume: a group decides what no other group can change, and
hands the rest on, as an adjacency. The parent merges its children's adjacencies and those of the
faces between them, and decides again.

An object is *open* in a group if it touches another object outside of it, so that not all of its
faces are known there; otherwise it is *closed*.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ...base.compiled import compiled, inlined
from ...base.errors import PlanError
from .adjacency import Adjacency, Names, contains
from .cluster_graph import Graph, contract, mean_of, names_of_clusters, new_graph
from .pair_queue import is_before, names_key, new_queue, pushed, with_room, without_first

EXACT_BELOW: Final = 2**53
"""Integers below it are exact in float64."""
_PAIRS_AT_MOST: Final = 2**30 - 1
"""Both ends of each pair are numbered with int32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agglomerated:
    """What a group decided, and what is left for its parent.

    merges_from, merges_to: objects, ascending, and the lower name that each has in its cluster; the
    lowest member keeps its name and is not listed. A name may be listed again by the parent.
    adjacency: pairs that the parent needs.
    """

    merges_from: Names
    merges_to: Names
    adjacency: Adjacency


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined(Agglomerated):
    """As ``Agglomerated``, for ``threshold_merges``, whose pairs stay those of the basins.

    links_from, links_to: open basins, ascending, and the names of their clusters, where they
    differ. The parent takes those of all its children.
    """

    links_from: Names
    links_to: Names


def agglomerate(adjacency: Adjacency, *, threshold: float, open_names: Names) -> Agglomerated:
    """Merge the closed objects of a group, the pair with the lowest mean score first.

    Pairs with a mean below ``threshold``, in units of the stored scores, are merged in ascending
    order of (mean, then the higher lower name first, then the higher higher name first); a cluster
    takes its lowest name, and its pairs' totals and faces are summed. Objects in ``open_names`` are
    not merged. Over any tree of groups the merges are those of this rule on the whole volume.

    **Why groups may decide alone.** The rule is *reducible* (Bruynooghe 1978): when a and b merge,
    the key of (a+b, c) is not below the lower one of (a, c) and (b, c). The mean (s + t) / (m + n)
    is between s / m and t / n; totals and faces below 2**53 are exact in float64, and a division is
    rounded monotonically, so this holds for the rounded means too, and equal means stay equal. At
    equal means the key rises or stays, because a cluster's name only falls. So two objects that are
    each other's first choice (no pair of either has a lower key) stay so whatever else merges, and
    the rule merges them in the end: all orders give one result. All pairs of a closed object are
    known in its group, and other groups' merges only raise their keys.

    **What the parent needs.** If the first choice of an object is an open one, the object waits,
    and so does any object whose first choice waits. All other objects are finished: all their pairs
    are known and have means of at least ``threshold``, and merges elsewhere cannot lower these. The
    pairs of finished objects are dropped; those between open and waiting objects remain.

    Cost: pairs * log(pairs); 80 to 110 bytes per pair beyond the adjacency (32 bytes).
    Raises PlanError for 2**30 pairs or more, and for a total of 2**53 or more.
    """
    names, low, high = _ranked(adjacency)
    graph = new_graph(len(names), low, high, adjacency.total, adjacency.faces)
    waits = contains(np.sort(open_names), names)
    means = adjacency.means
    _check_exact(adjacency.total)
    # Pairs are sorted by names; ties are merged in the reverse order.
    below = np.flatnonzero(means < threshold)[::-1]
    order = below[np.argsort(means[below], kind="stable")]
    ascending = (means[order], low[order], high[order], order.astype(np.int32))
    _merge_closed(graph, waits, ascending, float(threshold))
    _check_exact(graph.sums[:, 0])
    clusters = names_of_clusters(graph)
    moved = np.flatnonzero(clusters != np.arange(len(names)))
    # The nodes that stand for clusters are not those with the lowest names.
    one, other = graph.ends[::2], graph.ends[1::2]
    left = np.flatnonzero((graph.sums[:, 1] > 0) & waits[one] & waits[other])
    return Agglomerated(
        merges_from=names[moved],
        merges_to=names[clusters[moved]],
        adjacency=Adjacency.of_pairs(
            names[graph.name[one[left]]], names[graph.name[other[left]]],
            total=graph.sums[left, 0], faces=graph.sums[left, 1],
        ),
    )  # fmt: skip


def threshold_merges(
    adjacency: Adjacency,
    *,
    threshold: float,
    open_names: Names,
    links: tuple[Names, Names] | None = None,
) -> Joined:
    """Join the basins of every pair with a mean score below ``threshold``; see ``Joined``.

    The mean of a pair is that of the two basins, whatever they are joined to. It is known in a
    group where either basin is closed: such pairs are decided and dropped. Pairs of two open basins
    are handed on. links: those of all children, concatenated; a basin may occur more than once.
    """
    none = np.empty(0, np.uint64)
    from_, to = links or (none, none)
    open_names = np.sort(open_names)
    is_left = contains(open_names, adjacency.low) & contains(open_names, adjacency.high)
    joins = ~is_left & (adjacency.means < threshold)
    one = np.concatenate((adjacency.low[joins], from_))
    other = np.concatenate((adjacency.high[joins], to))
    names = np.union1d(one, other)
    clusters = _lowest_of_components(names, one, other)
    moved = clusters != names
    linked = moved & contains(open_names, names)
    return Joined(
        merges_from=names[moved], merges_to=clusters[moved], adjacency=adjacency.taken(is_left),
        links_from=names[linked], links_to=clusters[linked],
    )  # fmt: skip


def _ranked(adjacency: Adjacency) -> tuple[Names, NDArray[np.int32], NDArray[np.int32]]:
    """Return the names, ascending, and for each pair the ranks of both names."""
    if len(adjacency) > _PAIRS_AT_MOST:
        raise PlanError(
            f"a group has {len(adjacency)} pairs of objects that touch: expected at most "
            f"{_PAIRS_AT_MOST}; make fewer objects, with a greater depth or a higher seed distance"
        )
    names = adjacency.names()
    low, high = (np.searchsorted(names, ends) for ends in (adjacency.low, adjacency.high))
    return names, low.astype(np.int32), high.astype(np.int32)


def _check_exact(totals: NDArray[np.int64]) -> None:
    if (largest := int(totals.max(initial=0))) >= EXACT_BELOW:
        raise PlanError(
            f"the scores between two objects sum to {largest}: expected less than 2**53, up to "
            "which means are exact; agglomerate scores of uint8"
        )


def _lowest_of_components(names: Names, one: Names, other: Names) -> Names:
    """Return, per name (ascending), the lowest name that pairs connect it with."""
    ends = np.searchsorted(names, one), np.searchsorted(names, other)
    graph = coo_array((np.ones(len(one), np.int8), ends), (len(names), len(names)))
    _, component = connected_components(graph, directed=False)
    _, first = np.unique(component, return_index=True)
    return names[first[component]]


@inlined
def _names_key_of(graph: Graph, pair: int) -> np.int64:
    one, other = graph.ends[2 * pair], graph.ends[2 * pair + 1]
    return names_key(graph.name[one], graph.name[other])


@compiled
def _merge_closed(
    graph: Graph,
    waits: NDArray[np.bool_],
    ascending: tuple[NDArray[np.float64], NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]],
    threshold: float,
) -> None:
    """Merge the pairs below the threshold in order; mark the nodes whose first choice waits.

    waits: the open nodes at first. ascending: mean, both names and number of the pairs below the
    threshold, in order.
    Each pair below the threshold has an entry, there or in the queue, that is not above its key:
    when an entry is taken whose pair has risen since, it is put back; a pair that falls gets a
    second entry at once.
    """
    means, low, high, pairs = ascending
    queue, count, at = new_queue(1024), 0, 0
    fallen = np.empty(1024, np.int32)
    while at < pairs.size or count:
        if at < pairs.size:
            mean, names, pair = means[at], names_key(low[at], high[at]), pairs[at]
        if at == pairs.size or (count and is_before(queue.mean[0], queue.names[0], mean, names)):
            mean, names, pair = queue.mean[0], queue.names[0], queue.pair[0]
            count = without_first(queue, count)
        else:
            at += 1
        if graph.sums[pair, 1] == 0:
            continue
        one, other = graph.ends[2 * pair], graph.ends[2 * pair + 1]
        now, now_names = mean_of(graph, pair), _names_key_of(graph, pair)
        if is_before(mean, names, now, now_names):
            if now < threshold:
                queue = with_room(queue, count, 1)
                count = pushed(queue, count, now, now_names, pair)
        elif waits[one] or waits[other]:
            waits[one] = waits[other] = True
        elif mean == now and names == now_names:
            most = min(graph.lists[one, 1], graph.lists[other, 1])
            if most > fallen.size:
                fallen = np.empty(2 * most, np.int32)
            queue = with_room(queue, count, most)
            for changed in fallen[: contract(graph, pair, fallen)]:
                now = mean_of(graph, changed)
                if now < threshold:
                    count = pushed(queue, count, now, _names_key_of(graph, changed), changed)
