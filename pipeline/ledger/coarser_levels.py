"""The coarser levels of a run's images, built once all blocks are done."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from distributed import Client

from ..base.location import Location
from ..output.cells import CellDigest
from ..output.image_spec import ImageSpec
from ..output.pyramid import LevelJob, build_level
from .earlier_output import EarlierOutput, known_digests
from .ledger import Ledger

COPIED: Final = "copied_shards"
"""Attribute of the run group: of the shards of coarser levels, how many were copied, and of all."""


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
    earlier: EarlierOutput | None = None,
) -> bool:
    """Build the levels that the ledger does not list; return False if the run was drained first.

    earlier: an output from which shards are copied that are made from the same voxels.
    """
    if ledger.noted("pyramid") == "complete":
        return True
    for level in levels:
        if level.path in (ledger.noted("levels") or ()):
            continue
        if is_drained():
            return False
        if earlier is not None:
            level = earlier.with_copies(level, known_digests(level.output))
        keep_level(ledger, level, build_level(client, level, stop=stop))
    ledger.note(pyramid="complete")
    return True


def keep_level(ledger: Ledger, level: LevelJob, cells: Iterable[CellDigest]) -> None:
    """Record that a level is built, and the digests of its shards."""
    written = list(cells)
    ledger.keep_digests(written)
    notes: dict[str, Any] = {"levels": [*(ledger.noted("levels") or ()), level.path]}
    if level.earlier is not None:
        before = level.earlier.digests
        copied, of = ledger.noted(COPIED) or (0, 0)
        copied += sum(before[cell.index] == cell.value for cell in written)
        notes[COPIED] = [int(copied), of + len(written)]
    ledger.note(**notes)
