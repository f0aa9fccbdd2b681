"""How far an output is, read from its ledger alone: by anybody, from anywhere, at any time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from zarr.storage import FsspecStore, LocalStore

from ..base.errors import OutputError, VolumeError
from ..base.geometry import Shape
from ..base.location import Location
from ..base.store_errors import ANSWER_WITHIN_S, explained
from ..base.stores import open_group, open_store, read_node, wait_for
from ..output.guard import RUN_GROUP
from .creation import CREATED
from .figures import Figures
from .ledger import BlockState, part_states
from .ownership import SHARDS
from .shares import MERGED, share_figures


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareStatus:
    """How far one share of an output is; an output of one run is share 1 of 1."""

    number: int
    """From 1."""
    blocks: int
    done: int
    set_aside: tuple[Shape, ...]
    """Blocks that failed after their retries, by index (z, y, x)."""
    figures: Figures
    """Of this and earlier runs of the share."""

    @property
    def blocks_per_s(self) -> float | None:
        """How fast its runs were until now; None before their first figures."""
        return _rate(self.figures)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """What the ledger of an output says."""

    output: Location
    shares: tuple[ShareStatus, ...]
    figures: Figures
    """Sums over all runs, those of all shares."""
    levels: int
    """How many coarser levels are built; those of all images are counted."""
    pyramid: bool
    """Whether all of them are: nothing is left to do."""
    created: bool
    """Whether all arrays are there; without, the output is being made, or its making was ended."""
    written: datetime | None
    """When the ledger was last written; None where the store does not tell."""
    job: Mapping[str, Any]
    """What was computed, see job.py."""
    provenance: Mapping[str, Any]
    """Who made it: see provenance.py."""

    @property
    def blocks(self) -> int:
        """How many blocks there are."""
        return sum(share.blocks for share in self.shares)

    @property
    def done(self) -> int:
        """How many blocks are done."""
        return sum(share.done for share in self.shares)

    @property
    def set_aside(self) -> tuple[Shape, ...]:
        """Blocks that failed after their retries, by index (z, y, x)."""
        return tuple(index for share in self.shares for index in share.set_aside)

    @property
    def missing(self) -> int:
        """How many blocks are neither done nor set aside."""
        return self.blocks - self.done - len(self.set_aside)

    @property
    def blocks_per_s(self) -> float | None:
        """How fast a run was until now, the mean of the shares'; None before the first figures."""
        return _rate(self.figures)

    @property
    def seconds_left(self) -> float | None:
        """How long the blocks that are left take at these speeds, all shares at once."""
        mean = self.blocks_per_s
        if mean is None:
            return None
        return max(
            (share.blocks - share.done) / (share.blocks_per_s or mean) for share in self.shares
        )


def _rate(figures: Figures) -> float | None:
    """Return blocks per second."""
    return figures.blocks / figures.seconds if figures.blocks and figures.seconds > 0 else None


def read_status(output: Location) -> RunStatus:
    """Return how far an output is. Raises OutputError where there is none of ours."""
    try:
        attributes = _run_attributes(output)
    except VolumeError as error:
        raise OutputError(str(error)) from error
    with explained(OutputError, output):
        run: Any = open_group(output)[RUN_GROUP]
        shares = _shares(run, attributes)
    merged = MERGED in attributes or SHARDS not in attributes
    return RunStatus(
        output=output,
        shares=shares,
        figures=Figures.from_json(attributes.get("figures"))
        if merged
        else sum((share.figures for share in shares), Figures()),
        levels=len(attributes.get("levels") or ()),
        pyramid=attributes.get("pyramid") == "complete",
        created=bool(attributes.get(CREATED)),
        written=_written(output),
        job=attributes["job"],
        provenance=attributes.get("provenance", {}),
    )


def _shares(run: Any, attributes: Mapping[str, Any]) -> tuple[ShareStatus, ...]:
    """Return how far each share is; one that has not begun has nothing done."""
    if SHARDS not in attributes:
        if "done" not in run:  # its making was cut short
            return ()
        states = np.asarray(run["done"][...])
        return (_share(1, states.size, states, Figures.from_json(attributes.get("figures"))),)
    return tuple(
        _share(number, int(size), part_states(run, number)[...], share_figures(run, number))
        for number, size in enumerate(attributes[SHARDS], start=1)
    )


def _share(number: int, blocks: int, states: Any, figures: Figures) -> ShareStatus:
    states = np.asarray(states)
    return ShareStatus(
        number=number,
        blocks=blocks,
        done=int(np.count_nonzero(states == BlockState.DONE)),
        set_aside=tuple(
            tuple(map(int, index)) for index in np.argwhere(states == BlockState.SET_ASIDE)
        ),
        figures=figures,
    )


def _run_attributes(output: Location) -> Mapping[str, Any]:
    """Return the attributes of the output's run group."""
    if output.is_local and not output.path.is_dir():
        said = "is a file" if output.path.exists() else "does not exist"
        raise OutputError(
            f"{output} {said}: name the output of a run, a folder like out.zarr; of one that was "
            "submitted, wait until its job has begun"
        )
    if read_node(output) is None:
        raise OutputError(f"{output} is no Zarr: name the output of a run")
    run = read_node(output, path=RUN_GROUP)
    if run is None or "job" not in run.attributes:
        raise OutputError(
            f"{output} was not made by overtile, it has no ledger: name the output of a run"
        )
    return run.attributes


def _written(output: Location) -> datetime | None:
    """Return when a file of the ledger was last written, as its store tells."""
    store = open_store(output)
    if isinstance(store, LocalStore):
        times = [_time_of_file(path) for path in (store.root / RUN_GROUP).rglob("*")]
    elif isinstance(store, FsspecStore):
        times = _times_of_objects(store)
    else:
        return None
    return max(filter(None, times), default=None)


def _time_of_file(path: Path) -> datetime | None:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except FileNotFoundError:  # replaced at this moment
        return None


def _times_of_objects(store: FsspecStore) -> list[datetime | None]:
    """Return when objects were written: fsspec leaves name and type of the answer to each store."""
    listing = store.fs._find(f"{store.path.rstrip('/')}/{RUN_GROUP}", detail=True)
    try:
        found = wait_for(listing, timeout_s=ANSWER_WITHIN_S)
    except (OSError, NotImplementedError):  # many HTTP servers cannot list
        return []
    answers = [info.get("LastModified", info.get("mtime")) for info in found.values()]
    return [answer for answer in answers if isinstance(answer, datetime)]
