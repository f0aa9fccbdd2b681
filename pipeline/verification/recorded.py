"""What a ledger states to be written, read with care: the ledger itself may be damaged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from ..base.errors import OutputError
from ..base.geometry import Shape
from ..base.json_text import json_value
from ..base.location import Location
from ..base.store_errors import explained
from ..base.stores import DOCUMENTS, open_store
from ..ledger.chunkwise import raise_if_unreachable, read_chunkwise
from ..ledger.digests import StoredDigests, digested_paths, node_path, read_digests
from ..ledger.ledger import BlockState, run_group
from ..ledger.ownership import ENDED, MERGED, SHARDS, part_path
from ..output.documents import read_bytes
from ..output.guard import RUN_GROUP
from .finding import Finding, Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One ledger, or a share's part of one."""

    path: str
    """Of its group in the output."""
    states: NDArray[np.uint8]
    lost: NDArray[np.bool_]
    """Blocks whose state cannot be read."""
    digests: tuple[StoredDigests, ...]
    digested: tuple[str, ...]
    """Paths of the arrays that have digests, whether or not these can be read."""
    levels: tuple[str, ...]
    """Arrays of the coarser levels that are built."""

    @property
    def done(self) -> NDArray[np.bool_]:
        """Which blocks are done."""
        return np.asarray(self.states == BlockState.DONE)

    @property
    def without_digest(self) -> NDArray[np.bool_]:
        """Which blocks are done and lack a digest in an array, or there is none."""
        has = [
            (stored.values != 0).reshape(self.states.shape)
            for stored in self.digests
            if is_level_0(stored.path)
        ]
        return self.done & ~np.all(has, axis=0) if has else self.done

    @property
    def levels_without_digest(self) -> int:
        """How many of the levels that are built have no digest."""
        known = {stored.path for stored in self.digests if stored.values.any()}
        return len(set(self.levels) - known)

    def cells(self) -> Iterator[tuple[StoredDigests, Shape]]:
        """Yield the cells that can be compared: those that are written and have a digest."""
        for stored in self.digests:
            for number in np.flatnonzero(self._comparable(stored)):
                yield stored, tuple(map(int, np.unravel_index(number, stored.values.shape)))

    def count(self) -> int:
        """Return the number of cells that can be compared."""
        return sum(int(np.count_nonzero(self._comparable(stored))) for stored in self.digests)

    def _comparable(self, stored: StoredDigests) -> NDArray[np.bool_]:
        known: NDArray[np.bool_] = stored.values != 0
        if is_level_0(stored.path):
            return known & self.done.reshape(known.shape)
        # A level that is not complete is built again by the next run.
        return known if stored.path in self.levels else np.zeros(known.shape, np.bool_)


def is_level_0(path: str) -> bool:
    """Return whether blocks write an array; of the others, shards are written at the end."""
    return path.rpartition("/")[2] == "0"


def read_recorded(output: Location) -> list[Recorded]:
    """Return the ledger of an output, or the parts of all shares that have started.

    Raises OutputError for a ledger whose group cannot be read.
    """
    run = run_group(output)
    sizes: Any = run.attrs.get(SHARDS)
    levels: Any = run.attrs.get("levels") or ()
    if sizes is None or ENDED in run.attrs or run.attrs.get(MERGED):
        return [_recorded(run, RUN_GROUP, levels)]
    parts = (part_path(number) for number in range(1, len(sizes) + 1))
    found: list[tuple[str, Any]] = [
        (path, run.get(path.removeprefix(f"{RUN_GROUP}/"))) for path in parts
    ]
    return [_recorded(group, path, ()) for path, group in found if group is not None]


def _recorded(group: zarr.Group, path: str, levels: tuple[str, ...]) -> Recorded:
    try:
        states, lost = read_chunkwise(group["done"])
    except Exception as error:  # torn or missing: the documents are checked apart
        raise_if_unreachable(error)
        states, lost = np.zeros((0, 0, 0), np.uint8), np.zeros((0, 0, 0), np.bool_)
    return Recorded(
        path=path,
        states=states,
        lost=lost,
        digests=tuple(read_digests(group)) if states.size else (),
        digested=tuple(digested_paths(group)),
        levels=tuple(levels),
    )


def damaged_documents(output: Location, recorded: list[Recorded]) -> Iterator[Finding]:
    """Yield the documents of groups and arrays that are missing or torn. Raises OutputError."""
    for part in recorded:
        groups = {folder for path in part.digested for folder in _folders(path)}
        ledger = [f"{part.path}/{name}" for name in ("done", *map(node_path, part.digested))]
        arrays = {*part.digested, *ledger}
        for path in sorted({*arrays, *groups}):
            wrong = _wrong_documents(output, path, is_array=path in arrays)
            if wrong is not None:
                problem, files = wrong
                yield Finding(problem=problem, path=path, files=files, ledger=part.path)
        torn_arrays = ["done"] if part.lost.any() else []
        torn_arrays += [node_path(stored.path) for stored in part.digests if stored.is_damaged]
        for name in torn_arrays:
            path = f"{part.path}/{name}"
            yield Finding(problem="torn", path=path, files=(f"{path}/",), ledger=part.path)


def _wrong_documents(
    output: Location, path: str, *, is_array: bool
) -> tuple[Problem, tuple[str, ...]] | None:
    """Return what is wrong with the documents of a group or array, and which they are."""
    found, torn = _documents(output, path)
    if torn:
        return "torn", tuple(torn)
    of_node = [key for key in found if not key.endswith(".zattrs")]  # of version 2: it may be alone
    if not of_node:
        name = "zarr.json" if not found else ".zarray" if is_array else ".zgroup"
        return "missing", (f"{path}/{name}".lstrip("/"),)
    return None if _opens(output, path, is_array=is_array) else ("torn", tuple(of_node))


def _opens(output: Location, path: str, *, is_array: bool) -> bool:
    """Return whether Zarr takes the documents of a group or array. Raises OutputError."""
    opening: Callable[..., Any] = zarr.open_array if is_array else zarr.open_group
    try:
        opening(open_store(output), path=path, mode="r")
    except Exception as error:
        with explained(OutputError, output):
            raise_if_unreachable(error)
        return False
    return True


def _documents(output: Location, path: str) -> tuple[list[str], list[str]]:
    """Return the keys of the documents of a group or array, and those of the torn ones."""
    store, found, torn = open_store(output), [], []
    for name in DOCUMENTS:
        key = f"{path}/{name}".lstrip("/")
        with explained(OutputError, output):
            content = read_bytes(store, key)
        if content is None:
            continue
        found.append(key)
        try:
            is_whole = isinstance(json_value(content), dict)
        except ValueError:
            is_whole = False
        if not is_whole:
            torn.append(key)
    return found, torn


def _folders(path: str) -> Iterator[str]:
    """Yield the paths of the groups above an array, with that of the root, which is empty."""
    while path:
        path = path.rpartition("/")[0]
        yield path
