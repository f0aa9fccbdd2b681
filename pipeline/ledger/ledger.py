"""Which blocks are done, and under which job: a small Zarr group ``run`` inside the output.

One voxel per block, written by the driver alone. A run that starts again reads it, does what is
missing, and refuses an output that another job made. Where an output is made in shares, each share
has a part of the ledger to itself, ``run/shards/2``: its blocks, its owner, its figures.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.errors import ContainsArrayError

from ..base.errors import OutputError, RunError
from ..base.geometry import Shape
from ..base.location import Location
from ..base.store_errors import explained
from ..base.stores import open_group
from ..output.guard import RUN_GROUP as GROUP
from .creation import CREATED, put_new
from .identity import Job, check_digest
from .ownership import OWNER, SHARDS, check_owner, owned_path, part_path

_CHUNK = 32


class BlockState(IntEnum):
    """What the ledger says of a block."""

    MISSING = 0
    DONE = 1
    SET_ASIDE = 2


class Ledger:
    """The ledger of one output, or one share's part of it: in memory, written as blocks end."""

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
        self._states = states
        self._lock = threading.Lock()

    @classmethod
    def create(cls, output: Location, job: Job, *, grid: Shape, version: str, owner: str) -> Ledger:
        """Make an empty ledger in an output that has none; it is known as ours from the start.

        Raises OutputError where another run made one in the same moment.
        """
        if not begin_run_group(output, job, **{"overtile": version, OWNER: owner}):
            raise OutputError(
                f"another run is making {output} at this moment: "
                "wait for it, or choose another output"
            )
        group = _run_group(output, mode="r+")
        make_states(group, grid)
        return cls(output, owner, np.zeros(grid, np.uint8), group=group, run=group)

    @classmethod
    def resume(cls, output: Location, job: Job, *, owner: str) -> Ledger:
        """Take over the ledger of an output that this very job made, or raise OutputError.

        owner: the run's token; with that of a share (owner.py), it takes over the share's part.
        """
        run = _run_group(output, mode="r+")
        check_digest(output, job, run.attrs)
        if owned_path(owner) == GROUP:
            group = run
            group.attrs[OWNER] = owner
        else:
            group = _part(output, run, owner)
        done: Any = group["done"]
        states = np.asarray(done[...])
        states[states == BlockState.SET_ASIDE] = BlockState.MISSING
        return cls(output, owner, states, group=group, run=run)

    def is_done(self, index: Shape) -> bool:
        """Return whether a block is done."""
        return bool(self._states[index] == BlockState.DONE)

    def count(self, state: BlockState) -> int:
        """Return how many blocks are in this state."""
        return int(np.count_nonzero(self._states == state))

    def indices(self, state: BlockState) -> list[Shape]:
        """Return the blocks that are in this state."""
        return [tuple(map(int, i)) for i in np.argwhere(self._states == state)]

    def record(self, indices: Iterable[Shape], state: BlockState) -> None:
        """Write what became of some blocks; returns when the store has it.

        Raises RunError where the store cannot take it, or another run has taken the output over.
        """
        with self._lock, self._written():
            touched = set()
            for index in indices:
                self._states[index] = state
                touched.add(tuple(i // _CHUNK for i in index))
            for chunk in touched:
                place = tuple(slice(c * _CHUNK, (c + 1) * _CHUNK) for c in chunk)
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
                    f"{self._output} lost blocks while the run wrote it: start the same run again"
                )

    @contextmanager
    def _written(self) -> Iterator[None]:
        check_owner(self._output, self._owner)
        try:
            yield
        except OSError as error:
            check_owner(self._output, self._owner)  # it may have vanished since
            raise RunError(
                f"the ledger in {self._output} cannot be written "
                f"({error.strerror or error}): mend that, then start the same run again"
            ) from error

    def noted(self, name: str) -> Any:
        """Return what was noted here, or None; of a share, what its own runs noted."""
        return self._group.attrs.get(name)

    def noted_of_output(self, name: str) -> Any:
        """Return what was noted of the whole output when this ledger was opened, or None."""
        return self._run.attrs.get(name)


def begin_run_group(output: Location, job: Job, **attributes: Any) -> bool:
    """Make the run group with the job, unless there is one; return whether it is this one.

    Of several who make different ones at the same moment, one gets True. Raises OutputError.
    """
    root = open_group(output)
    content = {"job": dict(job.parts), "job_digest": job.digest, **attributes}
    if root.metadata.zarr_format == 3:
        document = {"zarr_format": 3, "node_type": "group", "attributes": content}
        return put_new(output, f"{GROUP}/zarr.json", _json(document))
    ours = put_new(output, f"{GROUP}/.zattrs", _json(content))
    put_new(output, f"{GROUP}/.zgroup", _json({"zarr_format": 2}))
    return ours


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=2).encode()


def make_states(group: zarr.Group, grid: Shape) -> None:
    """Make the array of the blocks' states in a group; one that is there stays as it is."""
    chunks = tuple(min(g, _CHUNK) for g in grid)
    with suppress(ContainsArrayError):
        group.create_array("done", shape=grid, chunks=chunks, dtype="uint8", fill_value=0)


def _part(output: Location, run: zarr.Group, owner: str) -> zarr.Group:
    """Return a share's part of the ledger, made where it is missing, owned by ``owner``."""
    path = owned_path(owner).removeprefix(f"{GROUP}/")
    with explained(OutputError, output):
        part = run.require_group(path)
        part.attrs[OWNER] = owner
        whole: Any = run["done"]
        make_states(part, whole.shape)
    return part


def _run_group(output: Location, *, mode: Literal["r", "r+"] = "r") -> zarr.Group:
    group = open_group(output, mode=mode)[GROUP]
    assert isinstance(group, zarr.Group)
    return group


def run_attributes(output: Location) -> Mapping[str, Any]:
    """Return what is noted in the run group of an output that holds a ledger."""
    return _run_group(output).attrs.asdict()


def stored_job(output: Location) -> Mapping[str, Any]:
    """Return the parts of the job that made this output; it must hold a ledger."""
    job: Any = run_attributes(output)["job"]
    return dict(job)


def was_created(output: Location) -> bool:
    """Return whether an output that holds a ledger was made to its end: all arrays are there."""
    return bool(run_attributes(output).get(CREATED))


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareState:
    """How far one share of an output is, as its part of the ledger says."""

    number: int
    """From 1; an output that is made by one run is share 1 of 1."""
    of: int
    blocks: int
    done: int
    set_aside: int

    @property
    def missing(self) -> int:
        """How many blocks are not done."""
        return self.blocks - self.done


def read_states(output: Location) -> tuple[ShareState, ...]:
    """Return how far every share of an output is; it must hold a ledger. Writes nothing.

    A share that has not begun has nothing done. Raises OutputError for what cannot be read.
    """
    run = _run_group(output)
    with explained(OutputError, output):
        blocks: Any = run.attrs.get(SHARDS)
        if blocks is None:
            done: Any = run["done"]
            return (_share_state(1, 1, done.size, done),)
        return tuple(
            _share_state(number, len(blocks), int(size), part_states(run, number))
            for number, size in enumerate(blocks, start=1)
        )


def part_states(run: zarr.Group, share: int) -> Any:
    """Return the states of a share's blocks, on the whole grid; none where it has not begun."""
    part: Any = run.get(f"{part_path(share).removeprefix(f'{GROUP}/')}/done")
    return np.zeros((), np.uint8) if part is None else part


def _share_state(number: int, of: int, blocks: int, states: Any) -> ShareState:
    counts = np.bincount(np.asarray(states[...]).ravel(), minlength=len(BlockState))
    return ShareState(
        number=number,
        of=of,
        blocks=blocks,
        done=int(counts[BlockState.DONE]),
        set_aside=int(counts[BlockState.SET_ASIDE]),
    )


def blocks_done(output: Location) -> int:
    """Return how many blocks of an output that holds a ledger are done, by all its shares."""
    return sum(state.done for state in read_states(output))


def blocks_left(ledger: Ledger, indices: Iterable[Shape]) -> list[Shape]:
    """Return those of the blocks that are not done."""
    return list(itertools.filterfalse(ledger.is_done, indices))
