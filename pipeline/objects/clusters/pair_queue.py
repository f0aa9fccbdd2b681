"""A priority queue of pairs of clusters, in compiled code: a binary heap in three arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...base.compiled import compiled, inlined


class Queue(NamedTuple):
    """The entries of a binary heap: mean, names (see ``names_key``) and pair, in heap order.

    20 bytes per entry. The number of entries is kept beside it, because a tuple cannot change.
    """

    mean: NDArray[np.float64]
    names: NDArray[np.int64]
    pair: NDArray[np.int32]


@compiled
def new_queue(capacity: int) -> Queue:
    """Return an empty queue."""
    return Queue(
        np.empty(capacity, np.float64), np.empty(capacity, np.int64), np.empty(capacity, np.int32)
    )


@compiled
def with_room(queue: Queue, count: int, more: int) -> Queue:
    """Return the queue of ``count`` entries with room for ``more``."""
    if count + more <= queue.mean.size:
        return queue
    larger = new_queue(2 * (count + more))
    larger.mean[:count] = queue.mean[:count]
    larger.names[:count] = queue.names[:count]
    larger.pair[:count] = queue.pair[:count]
    return larger


@inlined
def names_key(one: int, other: int) -> np.int64:
    """Return the place of two names in the order of ties: less for higher names, the lower first.

    one, other: ranks of names, less than 2**31.
    """
    low, high = (one, other) if one < other else (other, one)
    return -((np.int64(low) << 32) | np.int64(high))


@inlined
def is_before(mean: float, names: np.int64, other_mean: float, other_names: np.int64) -> bool:
    """Return whether a pair is merged before another one."""
    return bool(mean < other_mean or (mean == other_mean and names < other_names))


@compiled
def pushed(queue: Queue, count: int, mean: float, names: np.int64, pair: int) -> int:
    """Add an entry, for which there is room; return the new count."""
    place = count
    while place:
        above = (place - 1) >> 1
        if not is_before(mean, names, queue.mean[above], queue.names[above]):
            break
        _put(queue, place, queue.mean[above], queue.names[above], queue.pair[above])
        place = above
    _put(queue, place, mean, names, pair)
    return count + 1


@compiled
def without_first(queue: Queue, count: int) -> int:
    """Remove the first entry; return the new count."""
    count -= 1
    mean, names, pair = queue.mean[count], queue.names[count], queue.pair[count]
    place, below = 0, 1
    while below < count:
        right = below + 1
        if right < count and is_before(
            queue.mean[right], queue.names[right], queue.mean[below], queue.names[below]
        ):
            below = right
        if not is_before(queue.mean[below], queue.names[below], mean, names):
            break
        _put(queue, place, queue.mean[below], queue.names[below], queue.pair[below])
        place, below = below, 2 * below + 1
    _put(queue, place, mean, names, pair)
    return count


@inlined
def _put(queue: Queue, place: int, mean: float, names: np.int64, pair: int) -> None:
    queue.mean[place] = mean
    queue.names[place] = names
    queue.pair[place] = pair
