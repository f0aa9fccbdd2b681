"""An earlier output of the same grid: what a run with ``since`` need not compute again.

Blocks of both outputs are compared by the digests of their stored bytes. A shard of a coarser level
is copied if all that it is made from is the same in both::

    level 0    |same|same|new |same|same|same|
    level 1    |  same   |  new    |  same   |     copied, computed, copied
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..base.errors import OutputError
from ..base.location import Location
from ..base.stores import read_node
from ..base.versions import VERSION
from ..output.guard import is_inside
from ..output.pyramid import EarlierLevel, LevelJob
from .digests import StoredDigests, read_digests
from .ledger import BlockState, read_states, run_group, stored_job

_SKIPPED: Final = 1
"""Stands for the digest of a block without a file, because it lies outside of what is computed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierOutput:
    """An output that another run has written, with the digests of its cells by array."""

    output: Location
    job: Mapping[str, Any]
    digests: Mapping[str, StoredDigests]

    @classmethod
    def find(cls, output: Location) -> EarlierOutput:
        """Return an earlier output. Raises OutputError where there is no ledger."""
        return cls(output=output, job=stored_job(output), digests=known_digests(output))

    def same_blocks(self, now: Mapping[str, StoredDigests]) -> NDArray[np.bool_] | None:
        """Return which blocks of another output are the same, in all arrays that both have.

        now: the digests of that output. None where no array can be compared.
        """
        same: NDArray[np.bool_] | None = None
        for path, stored in now.items():
            before = self.digests.get(path)
            if not is_level_0(path) or before is None or not _is_comparable(stored, before):
                continue
            equal = ((stored.values == before.values) & (stored.values != 0)).reshape(
                (1, 1, 1, *stored.values.shape)[-3:]
            )
            same = equal if same is None else same & equal
        return same

    def with_copies(self, level: LevelJob, now: Mapping[str, StoredDigests]) -> LevelJob:
        """Return the job of a coarser level with the shards that it may copy from this output.

        now: the digests of the job's output, those of the next finer level included.
        """
        path, finer = self._path(level.path), self._path(level.finer_path)
        before, before_finer = self.digests.get(path), self.digests.get(finer)
        stored = now.get(level.finer_path)
        if before is None or before_finer is None or stored is None:
            return level
        is_same = (
            self.job.get("overtile") == VERSION  # another version may reduce otherwise
            and tuple(before.size) == level.shard
            and _is_comparable(stored, before_finer)
            and _layout(self.output, path) == _layout(level.output, level.path)
            and _layout(self.output, finer) == _layout(level.output, level.finer_path)
        )
        if not is_same:
            return level
        same = (stored.values == before_finer.values) & (stored.values != 0)
        digests = _with_same_sources(level, same, before, cell=stored.size)
        return replace(level, earlier=EarlierLevel(output=self.output, path=path, digests=digests))

    def _path(self, path: str) -> str:
        """Return the path of an array of this output: objects may lie inside an image, or not."""
        if path in self.digests or self.job.get("kind") != "objects":
            return path
        number = path.rpartition("/")[2]
        return next((one for one in self.digests if one.rpartition("/")[2] == number), path)


def known_digests(output: Location) -> dict[str, StoredDigests]:
    """Return the digests of an output's cells by array; blocks without a file have one too."""
    run = run_group(output)
    skipped = read_states(output, run) == BlockState.SKIPPED
    found = {}
    for stored in read_digests(run):
        if is_level_0(stored.path):
            missing = skipped.reshape(stored.values.shape) & (stored.values == 0)
            values = np.where(missing, np.uint64(_SKIPPED), stored.values)
            stored = replace(stored, values=values)
        found[stored.path] = stored
    return found


def check_earlier(earlier: Location, output: Location) -> None:
    """Raise OutputError unless an output with a ledger lies there, and not where a run writes."""
    if is_inside(earlier, output) and is_inside(output, earlier):
        raise OutputError(
            f"--since {earlier}: expected an earlier output, and this is the one to write; choose "
            "another output"
        )
    stored_job(earlier)


def is_level_0(path: str) -> bool:
    """Return whether blocks write an array."""
    return path.rpartition("/")[2] == "0"


def _is_comparable(one: StoredDigests, other: StoredDigests) -> bool:
    return tuple(one.size) == tuple(other.size) and one.values.shape == other.values.shape


def _layout(output: Location, path: str) -> Mapping[str, Any] | None:
    """Return how an array is stored: its document without attributes."""
    node = read_node(output, path=path)
    if node is None:
        return None
    return {key: one for key, one in node.document.items() if key != "attributes"}


def _with_same_sources(
    level: LevelJob, same: NDArray[np.bool_], before: StoredDigests, *, cell: tuple[int, ...]
) -> NDArray[np.uint64]:
    """Return the digests of the shards that depend on cells which are the same, 0 for others.

    same: per cell of the finer level, each of ``cell`` voxels.
    """
    found = np.zeros_like(before.values)
    for index in itertools.product(*map(range, before.values.shape)):
        sources = tuple(
            slice(i * s * f // c, -(-(i + 1) * s * f // c))
            for i, s, f, c in zip(index, level.shard, level.factor, cell, strict=True)
        )
        if same[sources].all():
            found[index] = before.values[index]
    return found
