"""Which blocks are done, and under which job: a small Zarr group ``run`` inside the output.

One voxel per block, written by the driver alone. A run that starts again reads it, does what is
missing, and refuses an output that another job made.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal

import numpy as np
import zarr
from numpy.typing import NDArray

from .errors import OutputError, RunError
from .explain import redacted
from .geometry import Shape
from .output import RUN_GROUP as GROUP
from .owner import OWNER, check_owner
from .stores import open_group

_CHUNK = 32


class BlockState(IntEnum):
    """What the ledger says of a block."""

    MISSING = 0
    DONE = 1
    SET_ASIDE = 2


@dataclass(frozen=True, slots=True)
class Job:
    """What a run computes: everything that changes a voxel of the output, as JSON values."""

    parts: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """SHA-256 of the parts."""
        text = json.dumps(self.parts, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def differences(self, other: Mapping[str, Any]) -> str:
        """Return what of ``other`` (what was stored) is not as here, for a person.

        What is still ``auto`` here is decided on a worker, and differs from nothing yet.
        """
        names = sorted(name for name in {*self.parts, *other} if self.parts.get(name) != "auto")
        differing = [n for n in names if _plain(self.parts.get(n)) != _plain(other.get(n))]
        return "; ".join(
            f"{name} was {_short(other.get(name))}, now {_short(self.parts.get(name))}"
            for name in differing
        )


def check_job(output_uri: str, job: Job, stored: Mapping[str, Any]) -> None:
    """Raise OutputError where the job that made an output is known to be another one."""
    if differences := job.differences(stored):
        raise _another_job(output_uri, differences)


def _another_job(output_uri: str, differences: str) -> OutputError:
    return OutputError(
        f"{redacted(output_uri)} belongs to another job ({differences}): "
        "choose another output, or replace it with --overwrite"
    )


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    if re.fullmatch("[0-9a-f]{64}", text):
        return f"{text[:12]}…"
    return text if len(text) <= 80 else text[:77] + "…"


class Ledger:
    """The ledger of one output, kept in memory and written as blocks are recorded."""

    def __init__(
        self, output_uri: str, owner: str, group: zarr.Group, states: NDArray[np.uint8]
    ) -> None:
        self._output_uri = output_uri
        self._owner = owner
        self._group = group
        self._array: Any = group["done"]
        self._states = states
        self._lock = threading.Lock()

    @classmethod
    def create(cls, output_uri: str, job: Job, *, grid: Shape, version: str, owner: str) -> Ledger:
        """Make an empty ledger in an output that has none; it is known as ours from the start."""
        attributes = {
            "job": dict(job.parts), "job_digest": job.digest, "overtile": version, OWNER: owner
        }  # fmt: skip
        group = open_group(output_uri, mode="r+").create_group(GROUP, attributes=attributes)
        chunks = tuple(min(g, _CHUNK) for g in grid)
        group.create_array("done", shape=grid, chunks=chunks, dtype="uint8", fill_value=0)
        return cls(output_uri, owner, group, np.zeros(grid, np.uint8))

    @classmethod
    def resume(cls, output_uri: str, job: Job, *, owner: str) -> Ledger:
        """Take over the ledger of an output that this very job made, or raise OutputError."""
        group = _run_group(output_uri, mode="r+")
        stored: Any = group.attrs["job"]
        if group.attrs.get("job_digest") != job.digest:
            raise _another_job(output_uri, job.differences(stored))
        group.attrs[OWNER] = owner
        done: Any = group["done"]
        states = np.asarray(done[...])
        states[states == BlockState.SET_ASIDE] = BlockState.MISSING
        return cls(output_uri, owner, group, states)

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
                    f"{redacted(self._output_uri)} lost blocks while the run wrote it: "
                    "start the same run again"
                )

    @contextmanager
    def _written(self) -> Iterator[None]:
        check_owner(self._output_uri, self._owner)
        try:
            yield
        except OSError as error:
            check_owner(self._output_uri, self._owner)  # it may have vanished since
            raise RunError(
                f"the ledger in {redacted(self._output_uri)} cannot be written "
                f"({error.strerror or error}): mend that, then start the same run again"
            ) from error

    def noted(self, name: str) -> Any:
        """Return an attribute of the run, or None."""
        return self._group.attrs.get(name)


def _run_group(output_uri: str, *, mode: Literal["r", "r+"] = "r") -> zarr.Group:
    group = open_group(output_uri, mode=mode)[GROUP]
    assert isinstance(group, zarr.Group)
    return group


def stored_job(output_uri: str) -> Mapping[str, Any]:
    """Return the parts of the job that made this output; it must hold a ledger."""
    job: Any = _run_group(output_uri).attrs["job"]
    return dict(job)


def blocks_done(output_uri: str) -> int:
    """Return how many blocks of an output that holds a ledger are done."""
    done: Any = _run_group(output_uri)["done"]
    return int(np.count_nonzero(np.asarray(done[...]) == BlockState.DONE))


def was_created(output_uri: str) -> bool:
    """Return whether an output that holds a ledger was made to its end: all arrays are there."""
    return bool(_run_group(output_uri).attrs.get("created"))


def blocks_left(ledger: Ledger, indices: Iterable[Shape]) -> list[Shape]:
    """Return those of the blocks that are not done."""
    return list(itertools.filterfalse(ledger.is_done, indices))
