"""Which blocks are done, and under which job: a small Zarr group ``run`` inside the output.

One voxel per block, written by the driver alone. A restarted run reads it, does the blocks that
are missing, and rejects the output of another job. In an output that is made in shares, each share
has its own part of the ledger, ``run/shards/2``, with its blocks, owner and figures.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from enum import IntEnum
from typing import Any, Final, Literal

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.errors import ContainsArrayError

from ..base.errors import OutputError, RunError, VolumeError
from ..base.geometry import Shape
from ..base.location import Location
from ..base.redaction import command_text
from ..base.store_errors import explained, is_full, is_unreachable, one_line
from ..base.stores import open_group, read_node
from ..output.cells import CellDigest
from ..output.guard import RUN_GROUP as GROUP
from .block_result import BlockResult
from .creation import CHUNK, CREATED, states_layout
from .digests import Digests
from .identity import Job, check_digest
from .ownership import OWNER, check_owner, owned_path
from .run_record import checked_record

REPAIRED: Final = "repaired"
"""Attribute of the run group: overtile verify has marked blocks that must be computed again."""


class BlockState(IntEnum):
    """The state of a block."""

    MISSING = 0
    DONE = 1
    SET_ASIDE = 2
    SKIPPED = 3
    """It lies outside the part that is segmented, or its input is constant: it has no file."""
    LABELLED = 4
    """Of objects: its fragments are found, and its labels are not written yet."""


class Ledger:
    """The ledger of an output, or a share's part of it: held in memory, written as blocks end."""

    def __init__(
        self,
        output: Location,
        owner: str,
        states: NDArray[np.uint8],
        *,
        group: zarr.Group,
        run: zarr.Group,
    ) -> None:
        self._output = output
        self._owner = owner
        self._group = group
        self._run = run
        self._array: Any = group["done"]
        self._digests = Digests(output, group)
        self._states = states
        self._lock = threading.Lock()

    @classmethod
    def open(cls, output: Location, job: Job, *, owner: str) -> Ledger:
        """Take over the ledger of an output of the same job. Raises OutputError for another job.

        owner: the run's token; the token of a share (see ownership.py) takes over its part.
        """
        run = run_group(output, mode="r+")
        check_digest(output, job, run.attrs)
        if owned_path(owner) == GROUP:
            group = run
            group.attrs[OWNER] = owner
        else:
            group = _part(output, run, owner)
        states = read_states(output, group)
        states[states == BlockState.SET_ASIDE] = BlockState.MISSING
        return cls(output, owner, states, group=group, run=run)

    def is_done(self, index: Shape) -> bool:
        """Return whether a block is done."""
        return bool(self._states[index] == BlockState.DONE)

    def is_left(self, index: Shape) -> bool:
        """Return whether a block is neither done nor skipped."""
        return self._states[index] not in (BlockState.DONE, BlockState.SKIPPED)

    def skip(self, blocks: NDArray[np.bool_]) -> None:
        """Record the blocks that are true on the grid as skipped. Raises RunError."""
        new = blocks & (self._states != BlockState.SKIPPED)
        if not new.any():
            return
        with self._lock, self._written():
            self._states[new] = BlockState.SKIPPED
            self._array[...] = self._states

    def record_labelled(self, indices: Iterable[Shape]) -> None:
        """Record blocks as labelled unless they are done. Raises RunError."""
        missing = (index for index in indices if self._states[index] == BlockState.MISSING)
        self.record(missing, BlockState.LABELLED)

    @property
    def needs_arrays(self) -> bool:
        """Whether arrays of the output may be missing: before the first block, after a repair."""
        return not self.count(BlockState.DONE) or bool(self._run.attrs.get(REPAIRED))

    def count(self, state: BlockState) -> int:
        """Return the number of blocks in this state."""
        return int(np.count_nonzero(self._states == state))

    @property
    def states(self) -> NDArray[np.uint8]:
        """A copy of the states of all blocks."""
        return self._states.copy()

    def record(self, indices: Iterable[Shape], state: BlockState) -> None:
        """Write the state of some blocks; return once the store has it.

        Raises RunError if the store cannot be written or another run has taken the output over.
        """
        with self._lock, self._written():
            self._set(indices, state)

    def record_done(self, results: Iterable[BlockResult]) -> None:
        """Write that some blocks are done, and the digests of what they have written before that.

        Raises as :meth:`record` does.
        """
        some = list(results)
        with self._lock, self._written():
            self._digests.put(digest for result in some for digest in result.digests)
            self._set([result.index for result in some], BlockState.DONE)

    def keep_digests(self, digests: Iterable[CellDigest]) -> None:
        """Write the digests of a coarser level. Raises as :meth:`record` does."""
        with self._lock, self._written():
            self._digests.put(digests)

    def _set(self, indices: Iterable[Shape], state: BlockState) -> None:
        touched = set()
        for index in indices:
            self._states[index] = state
            touched.add(tuple(i // CHUNK for i in index))
        for chunk in touched:
            place = tuple(slice(c * CHUNK, (c + 1) * CHUNK) for c in chunk)
            self._array[place] = self._states[place]

    def note(self, **attributes: Any) -> None:
        """Write attributes of the run: provenance, measured intensities, figures."""
        with self._lock, self._written():
            self._group.attrs.update(attributes)

    def check(self) -> None:
        """Raise RunError unless the store still holds what was recorded."""
        with self._lock, self._written():
            if not np.array_equal(np.asarray(self._array[...]), self._states):
                raise RunError(
                    f"{self._output} lost blocks during the run: start the same run again"
                )

    @contextmanager
    def _written(self) -> Iterator[None]:
        self._check_owner()
        try:
            yield
        except KeyError:  # an array of the ledger is gone
            self._check_owner()
            raise
        except Exception as error:
            if not (isinstance(error, OSError) or is_unreachable(error)):
                raise
            self._check_owner()  # the output may have been deleted
            remedy = "free some space" if is_full(error) else "fix that"
            why = getattr(error, "strerror", None) or self._output.hidden_in(str(error))
            raise RunError(
                f"the ledger in {self._output} cannot be written "
                f"({one_line(why)}): {remedy}, then start the same run again"
            ) from error

    def _check_owner(self) -> None:
        """Raise RunError unless the store answers, and the output belongs to this run."""
        try:
            check_owner(self._output, self._owner)
        except VolumeError as error:
            raise RunError(f"{error}; then start the same run again") from error

    def noted(self, name: str) -> Any:
        """Return an attribute of this ledger or of the share's part, or None."""
        return self._group.attrs.get(name)

    def noted_of_output(self, name: str) -> Any:
        """Return an attribute of the whole output as it was when the ledger was opened, or None."""
        return self._run.attrs.get(name)


def _part(output: Location, run: zarr.Group, owner: str) -> zarr.Group:
    """Return a share's part of the ledger, created if missing, owned by ``owner``."""
    path = owned_path(owner).removeprefix(f"{GROUP}/")
    with explained(OutputError, output):
        part = run.require_group(path)
        part.attrs[OWNER] = owner
        whole: Any = run["done"]
        with suppress(ContainsArrayError):
            part.create_array("done", **states_layout(whole.shape))
    return part


def read_states(output: Location, group: zarr.Group) -> NDArray[Any]:
    """Return the states of all blocks of a ledger or of a share's part. Raises OutputError."""
    done: Any = group["done"]
    try:
        return np.asarray(done[...])
    except OSError:
        raise
    except Exception as error:  # codecs raise errors of their own kinds
        command = command_text(["overtile", "verify", output.uri, "--repair"])
        raise OutputError(
            f"the ledger {output / GROUP / group.path} is damaged ({one_line(str(error))}): check "
            f"the output with {command}, then start the same run again"
        ) from error


def run_group(output: Location, *, mode: Literal["r", "r+"] = "r") -> zarr.Group:
    """Open the run group of an output that has a ledger."""
    return open_group(output / GROUP, mode=mode)


def run_attributes(output: Location) -> Mapping[str, Any]:
    """Return the attributes of the run group, which may be all that exists of an output yet.

    Raises OutputError if the output has no ledger.
    """
    run = read_node(output, path=GROUP)
    if run is None:
        raise OutputError(f"{output} has no ledger: expected the output of a run")
    return checked_record(output, run.attributes)


def stored_job(output: Location) -> Mapping[str, Any]:
    """Return the parts of the job that made an output that has a ledger."""
    job: Any = run_attributes(output)["job"]
    return dict(job)


def was_created(output: Location) -> bool:
    """Return whether the creation of an output that has a ledger was completed."""
    return bool(run_attributes(output).get(CREATED))


def blocks_left(ledger: Ledger, indices: Iterable[Shape]) -> list[Shape]:
    """Return the blocks that are neither done nor skipped."""
    return list(filter(ledger.is_left, indices))
