"""Compares every file of an output with the digest that was recorded when it was written."""

from __future__ import annotations

import errno
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np
import zarr
from zarr.core.buffer import default_buffer_prototype

from ..base.errors import OutputError
from ..base.geometry import Box, Shape
from ..base.location import Location
from ..base.shard_store import content_digest, digest_of_files
from ..base.store_errors import explained
from ..base.stores import open_store, read_node, wait_for
from ..ledger.digests import StoredDigests
from ..ledger.ledger import BlockState
from ..ledger.liveness import live_run
from ..ledger.status import ledger_attributes
from ..output.cells import files_in, key_of
from ..output.guard import RUN_GROUP
from ..output.kinds import OBJECTS_PATH
from .finding import Finding, Problem, Verification
from .recorded import Recorded, damaged_documents, is_level_0, read_recorded

THREADS: Final = 8
_AT_ONCE: Final = 256
"""Cells that are handed to the threads at a time."""

OnCell = Callable[[int, int], None]
"""Called after each cell with the number of cells that are done, and of all."""


def check_no_run(output: Location, *, notify: Callable[[str], None]) -> None:
    """Raise OutputError while a run is writing an output, and for what is not an output.

    notify: takes a line if this has to wait for a sign from another machine.
    """
    ledger_attributes(output)
    if process := live_run(output, notify=notify):
        raise OutputError(
            f"a run is writing {output} ({process}): wait until it ends, or stop it, then verify"
        )


def ledgers_in(output: Location) -> list[Location]:
    """Return the outputs to check: the one that is named, and the objects inside it."""
    inside = output / OBJECTS_PATH
    node = read_node(inside, path=RUN_GROUP)
    return [output, *([inside] if node is not None and "job" in node.attributes else [])]


def verify_output(output: Location, *, threads: int = THREADS, on_cell: OnCell) -> Verification:
    """Compare all that the ledger of an output lists as written; change nothing.

    Memory: the largest file times the threads. Raises OutputError where there is no ledger, or the
    store cannot be reached.
    """
    attributes = ledger_attributes(output)
    recorded = read_recorded(output)
    findings = list(damaged_documents(output, recorded))
    if not findings and any(not part.states.size for part in recorded):
        raise OutputError(f"{output}: its ledger cannot be read; try again")
    total, done = sum(part.count() for part in recorded), 0
    with ThreadPoolExecutor(threads, thread_name_prefix="verify") as pool:
        for part in recorded:
            check = _Check(output, part, damaged={finding.path for finding in findings})
            cells = part.cells()
            while some := list(itertools.islice(cells, _AT_ONCE)):
                for found in pool.map(check, some):
                    done += 1
                    on_cell(done, total)
                    if found is not None:
                        findings.append(found)
    states = [part.states for part in recorded]
    return Verification(
        output=output,
        job=attributes["job"],
        checked=total,
        done=sum(int(part.done.sum()) for part in recorded),
        left=sum(
            int(np.isin(one, (BlockState.MISSING, BlockState.SET_ASIDE, BlockState.LABELLED)).sum())
            for one in states
        ),
        unrecorded_blocks=sum(int(part.without_digest.sum()) for part in recorded),
        unrecorded_levels=sum(part.levels_without_digest for part in recorded),
        findings=tuple(findings),
    )


class _Check:
    """Compares cells of one ledger. Any thread may call it."""

    def __init__(self, output: Location, part: Recorded, *, damaged: set[str]) -> None:
        """damaged: paths of what has a damaged document, a finding already. Raises OutputError."""
        self._output = output
        self._part = part
        self._arrays = {
            stored.path: None if stored.path in damaged else _opened(output, stored.path)
            for stored in part.digests
        }

    def __call__(self, cell: tuple[StoredDigests, Shape]) -> Finding | None:
        """Return what is wrong with a cell, or None."""
        stored, index = cell
        array = self._arrays[stored.path]
        if array is None:
            return None
        start = tuple(i * s for i, s in zip(index, stored.size, strict=True))
        stop = tuple(a + s for a, s in zip(start, stored.size, strict=True))
        box = Box(start, stop).clipped_to(Box.of_shape(array.shape))
        found = self._problem(array, box, int(stored.values[index]))
        if found is None:
            return None
        problem, names = found
        return Finding(
            problem=problem,
            path=stored.path,
            files=tuple(key_of(array, name) for name in names),
            ledger=self._part.path,
            block=(0, 0, 0, *index)[-3:] if is_level_0(stored.path) else None,
            box=box,
        )

    def _problem(self, array: Any, box: Box, value: int) -> tuple[Problem, list[str]] | None:
        names = [name for name, _ in files_in(array, box)]
        try:
            digests = {name: self._digest(key_of(array, name)) for name in names}
        except OSError:  # the device cannot read it
            return "unreadable", names
        return None if digest_of_files(digests.items()) == value else _problem(array, box, digests)

    def _digest(self, key: str) -> bytes | None:
        """Return the digest of a file, None if it is absent. Raises OSError, OutputError."""
        store = open_store(self._output)
        try:
            found = wait_for(store.get(key, default_buffer_prototype()), timeout_s=None)
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.EIO and self._output.is_local:
                raise
            with explained(OutputError, self._output):
                raise
        return None if found is None else content_digest(found)


def _opened(output: Location, path: str) -> zarr.Array[Any]:
    with explained(OutputError, output / path):
        return zarr.open_array(open_store(output), path=path, mode="r")


def _problem(array: Any, box: Box, digests: dict[str, bytes | None]) -> tuple[Problem, list[str]]:
    """Return what is wrong with the files of a cell that is not as it was, and which they are."""
    absent = [name for name, digest in digests.items() if digest is None]
    torn = [
        name for name, part in files_in(array, box)
        if digests[name] is not None and not _decodes(array, part)
    ]  # fmt: skip
    if torn:
        return "torn", torn
    return ("missing" if len(absent) == len(digests) else "changed"), list(digests)


def _decodes(array: Any, box: Box) -> bool:
    try:
        array[box.slices]
    except Exception:  # codecs raise errors of their own kinds
        return False
    return True
