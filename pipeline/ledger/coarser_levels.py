"""The coarser levels of a run's images, built once all blocks are done."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

from distributed import Client

from ..base.location import Location
from ..output.image_spec import ImageSpec
from ..output.pyramid import LevelJob, build_level
from .ledger import Ledger


def level_jobs(images: Sequence[ImageSpec], output: Location, run_token: str) -> Iterator[LevelJob]:
    """Yield the coarser levels of every image, each made from the next finer one."""
    for image in images:
        for number in range(1, len(image.shapes)):
            finer, shape = image.shapes[number - 1 : number + 1]
            yield LevelJob(
                output=output,
                run_token=run_token,
                finer_path=image.level_path(number - 1),
                path=image.level_path(number),
                shape=shape,
                factor=tuple(1 if n == m else 2 for n, m in zip(finer, shape, strict=True)),
                shard=image.shards[number],
                chunk=image.chunks[number],
                reduction="majority" if image.is_label else "mean",
            )


def build_levels(
    levels: Iterator[LevelJob],
    ledger: Ledger,
    client: Client,
    *,
    is_drained: Callable[[], bool],
    stop: threading.Event,
) -> bool:
    """Build the levels that the ledger does not list; return False if the run was drained first."""
    if ledger.noted("pyramid") == "complete":
        return True
    built = list(ledger.noted("levels") or ())
    for level in levels:
        if level.path in built:
            continue
        if is_drained():
            return False
        ledger.keep_digests(build_level(client, level, stop=stop))
        built.append(level.path)
        ledger.note(levels=built)
    ledger.note(pyramid="complete")
    return True
