"""The engine ``store``: one Dask task per block, which reads its own halo from the store."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from distributed import Client, Future

from ...base.geometry import Shape
from ...base.scheduling import drive, reason
from ...base.workers import device_share
from ...ledger.block_result import BlockResult
from ...planning.blocks import Region
from .block import BlockJob, segment_block


@dataclass(frozen=True, slots=True)
class Batch:
    """Blocks that ended since the last batch: results, and (index, reason) of failed blocks."""

    results: list[BlockResult]
    failures: list[tuple[Shape, str]]


def store_outcomes(
    job: BlockJob,
    region: Region,
    left: Sequence[Shape],
    *,
    client: Client,
    limit: Callable[[], int],
    stop: threading.Event,
    retries: int,
) -> Iterator[Batch]:
    """Yield batches of ended blocks; one task per block."""
    group = f"segment-block-{job.run_token}-{region.number}"
    resources = device_share(client)

    def submit(indices: list[Shape]) -> list[Future]:
        keys = [(group, *index) for index in indices]
        futures: list[Future] = client.map(
            partial(segment_block, job), indices, key=keys, retries=retries, pure=False,
            resources=resources,
        )  # fmt: skip
        return futures

    for outcomes in drive(client, iter(left), submit, limit=limit, stop=stop):
        yield Batch(
            [outcome.result for outcome in outcomes if outcome.error is None],
            [(o.item, reason(o)) for o in outcomes if o.error is not None],
        )
