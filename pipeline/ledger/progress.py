"""How far an output, a share or a run is: counted here, from the states of its blocks.

The terminal, Prefect's progress artifact, ``overtile status`` and the report all show these counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import zarr
from numpy.typing import NDArray

from ..base.errors import OutputError
from ..base.geometry import Shape
from ..base.location import Location
from ..base.store_errors import explained
from ..base.stores import read_node
from ..output.guard import RUN_GROUP
from .figures import Figures
from .ledger import BlockState, run_group
from .ownership import ENDED, MERGED, OWNER, SHARDS, SKIPPED, part_path

RunStage: TypeAlias = Literal["segment", "label", "merge", "write", "table", "pyramid", "done"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run, a share or an output is. An output that one run makes is share 1 of 1."""

    blocks: int
    done: int
    skipped: int = 0
    """Blocks outside the part that is segmented, or with constant input."""
    labelled: int = 0
    """Of objects: blocks that are not done, and whose fragments are found."""
    set_aside: tuple[Shape, ...] = ()
    """Blocks that failed after their retries, by index (z, y, x)."""
    figures: Figures = field(default_factory=Figures)
    """Of the runs whose speed counts: a live run's own, or those of all runs so far."""
    number: int = 1
    """Of the share, from 1."""
    of: int = 1
    """Number of shares."""
    stage: RunStage = "segment"
    """Of a live run."""
    workers: int | None = None
    """Of a live run's cluster, a few seconds ago."""
    within: float = 0.0
    """Of a live run: the parts of blocks in progress that are done, summed, in blocks."""

    @property
    def left(self) -> int:
        """Blocks to compute that are not done; blocks that were set aside are among them."""
        return self.computed - self.done

    @property
    def computed(self) -> int:
        """Blocks to compute, done or not: those that are not skipped."""
        return self.blocks - self.skipped

    @property
    def missing(self) -> int:
        """Blocks that are neither done nor set aside."""
        return self.left - len(self.set_aside)

    @property
    def percent(self) -> float:
        """Share of the blocks to compute that is done, parts of blocks in progress included."""
        return 100 * self.worked / self.computed if self.computed else 100.0

    @property
    def worked(self) -> float:
        """Blocks that are done, and the parts that are done of blocks in progress."""
        return min(self.done + self.within, self.computed)

    @property
    def blocks_per_s(self) -> float | None:
        """Blocks per second of wall time; None before the first block."""
        figures = self.figures
        return figures.blocks / figures.seconds if figures.blocks and figures.seconds > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """Time for the blocks that are left, at this speed; None before the first block."""
        speed = self.blocks_per_s
        return None if speed is None else self.left / speed


def progress_of(
    states: NDArray[Any],
    *,
    figures: Figures,
    blocks: int | None = None,
    number: int = 1,
    of: int = 1,
) -> Progress:
    """Count the states of blocks.

    states: the ledger's array, or a share's part of it. blocks: how many blocks the share has;
    all of the array by default.
    """
    return Progress(
        blocks=states.size if blocks is None else blocks,
        done=int(np.count_nonzero(states == BlockState.DONE)),
        skipped=int(np.count_nonzero(states == BlockState.SKIPPED)),
        labelled=int(np.count_nonzero(states == BlockState.LABELLED)),
        set_aside=tuple(
            tuple(map(int, index)) for index in np.argwhere(states == BlockState.SET_ASIDE)
        ),
        figures=figures,
        number=number,
        of=of,
    )


def total(shares: Sequence[Progress], figures: Figures) -> Progress:
    """Return the progress of all shares together. figures: of all their runs."""
    return Progress(
        blocks=sum(share.blocks for share in shares),
        done=sum(share.done for share in shares),
        skipped=sum(share.skipped for share in shares),
        labelled=sum(share.labelled for share in shares),
        set_aside=tuple(index for share in shares for index in share.set_aside),
        figures=figures,
    )


def read_progress(output: Location) -> tuple[Progress, ...]:
    """Return the progress of every share of an output that has a ledger. Writes nothing.

    A share that has not started has no block done; an output without a block array has no share.
    Raises OutputError for a ledger that cannot be read.
    """
    run = run_group(output)
    with explained(OutputError, output):
        return group_progress(run)


def group_progress(run: zarr.Group) -> tuple[Progress, ...]:
    """Return the progress of every share, from the run group of an output."""
    sizes: Any = run.attrs.get(SHARDS)
    if sizes is not None and ENDED not in run.attrs:
        skipped: Any = run.attrs.get(SKIPPED) or [0] * len(sizes)
        shares = tuple(
            progress_of(
                part_states(run, number), figures=part_figures(run, number),
                blocks=int(size), number=number, of=len(sizes),
            )
            for number, size in enumerate(sizes, start=1)
        )  # fmt: skip
        return tuple(  # a share that has not started has recorded no block yet
            replace(share, skipped=max(share.skipped, int(outside)))
            for share, outside in zip(shares, skipped, strict=True)
        )
    if "done" not in run:  # the run that created the output was killed
        return ()
    done: Any = run["done"]
    figures: Any = run.attrs.get("figures")
    return (progress_of(np.asarray(done[...]), figures=Figures.from_json(figures)),)


def unfinished_notes(image: Location) -> Iterator[str]:
    """Yield that an image is an output of which blocks are left, if it is one."""
    node = read_node(image, path=RUN_GROUP)
    if node is None or "job" not in node.attributes:
        return
    found = total(read_progress(image), Figures())
    if found.left:
        yield (
            f"{image} is not complete: {found.left} of its {found.blocks} blocks are not done, and "
            "their voxels are read as they are stored, mostly 0; start its run again to complete it"
        )


def part_states(run: zarr.Group, share: int) -> NDArray[Any]:
    """Return the states of a share's blocks on the whole grid; one 0 for an unstarted share.

    Once the shares are merged, they are those of the whole: overtile verify marks blocks there.
    """
    part: Any = run.get(f"{_part_name(share)}/done")
    if part is None:
        return np.zeros((), np.uint8)
    states = np.asarray(part[...])
    if not run.attrs.get(MERGED):
        return states
    whole: Any = run["done"]
    return np.where(states == BlockState.MISSING, states, np.asarray(whole[...]))


def part_figures(run: zarr.Group, share: int) -> Figures:
    """Return the figures of the runs of one share."""
    part: Any = run.get(_part_name(share))
    return Figures.from_json(None if part is None else part.attrs.get("figures"))


def part_groups(run: zarr.Group) -> list[zarr.Group]:
    """Return the parts of the ledger of all shares that have started."""
    sizes: Any = run.attrs.get(SHARDS) or ()
    found: list[Any] = [run.get(_part_name(number)) for number in range(1, len(sizes) + 1)]
    return [part for part in found if part is not None]


def take_part(run: zarr.Group, share: int, *, owner: str) -> None:
    """Write another owner into a share's part of the ledger, if it has started."""
    part: Any = run.get(_part_name(share))
    if part is not None:
        part.attrs[OWNER] = owner


def _part_name(share: int) -> str:
    return part_path(share).removeprefix(f"{RUN_GROUP}/")


def blocks_done(output: Location) -> int:
    """Return how many blocks of an output that has a ledger are done, by all its shares."""
    return sum(share.done for share in read_progress(output))
