"""Results of many tasks, one by one as they finish, so that sums need not hold all of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from ..base.errors import OvertileError, RunError
from ..base.scheduling import InFlightLimit, drive, one_by_one, reason

if TYPE_CHECKING:
    from distributed import Client, Future

Item = TypeVar("Item")


def results_of(
    client: Client,
    items: Iterable[Item],
    call: Callable[[Item], tuple[Any, ...]],
    *,
    key: str,
    token: str,
    retries: int = 2,
) -> Iterator[tuple[Item, Any]]:
    """Yield (item, result) of every item, in the order in which they finish.

    call: returns the function and its arguments. A user error of a task is raised unchanged, any
    other error as RunError after its retries. Closing the iterator cancels the tasks in flight.
    """
    numbered = enumerate(items)

    def submit(numbered_item: tuple[int, Item]) -> Future:
        number, item = numbered_item
        function, *arguments = call(item)
        return client.submit(
            function, *arguments, key=(f"{key}-{token}", number), retries=retries, pure=False
        )

    limit = InFlightLimit(client)
    for batch in drive(client, numbered, one_by_one(submit), limit=limit, stop=threading.Event()):
        for outcome in batch:
            if isinstance(outcome.error, OvertileError):
                raise outcome.error
            if outcome.error is not None:
                raise RunError(f"{key}: {reason(outcome)}; start it again")
            yield outcome.item[1], outcome.result
