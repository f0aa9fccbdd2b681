"""The status of an output, read from its ledger alone; no run needs to be alive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from zarr.storage import FsspecStore, LocalStore

from ..base.errors import OutputError, VolumeError
from ..base.location import Location
from ..base.similar_path import similar_text
from ..base.store_errors import ANSWER_WITHIN_S
from ..base.stores import open_store, read_node, wait_for
from ..output.guard import RUN_GROUP, is_begun
from ..output.kinds import OBJECTS_PATH
from .creation import CREATED
from .figures import Figures
from .ownership import MERGED, SHARDS
from .progress import Progress, read_progress, total
from .run_record import checked_record

INTERMEDIATES: Final = f"/{RUN_GROUP}/objects/"
"""In the names of files of intermediate results."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """What the ledger of an output states."""

    output: Location
    shares: tuple[Progress, ...]
    figures: Figures
    """Sums over all runs of all shares."""
    levels: int
    """Number of coarser levels that are built, of all images."""
    pyramid: bool
    """Whether all coarser levels are built: nothing is left to do."""
    created: bool
    """Whether all arrays exist. If not, a run is creating the output, or was stopped then."""
    written: datetime | None
    """When the ledger was last written; None where the store does not report it."""
    intermediates: int
    """Files of intermediate results: how far objects are between labelling and writing."""
    objects: int | None
    """How many objects a run has found, once they are numbered."""
    job: Mapping[str, Any]
    """What is computed, see identity.py."""
    provenance: Mapping[str, Any]
    """How the output was made, see provenance.py."""

    @property
    def total(self) -> Progress:
        """The progress of all shares together; its speed is the mean of the shares'."""
        return total(self.shares, self.figures)

    @property
    def seconds_left(self) -> float | None:
        """Time for the blocks that are left, all shares at once; None before the first block."""
        mean = self.total.blocks_per_s
        if mean is None or not self.shares:
            return None
        return max(share.left / (share.blocks_per_s or mean) for share in self.shares)


def read_status(output: Location) -> RunStatus:
    """Return the status of an output. Raises OutputError if overtile did not make it."""
    try:
        attributes = ledger_attributes(output)
    except VolumeError as error:
        raise OutputError(str(error)) from error
    shares, files = read_progress(output), _files(output)
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
        written=max(filter(None, files.values()), default=None),
        intermediates=sum(INTERMEDIATES in f"/{name}" for name in files),
        objects=attributes.get("objects"),
        job=attributes["job"],
        provenance=attributes.get("provenance") or {},
    )


def read_objects_status(output: Location) -> RunStatus | None:
    """Return the status of the objects among the labels of a segmentation, if it has any.

    Raises OutputError for a ledger that cannot be read.
    """
    run = read_node(output, path=f"{OBJECTS_PATH}/{RUN_GROUP}")
    return read_status(output / OBJECTS_PATH) if run and "job" in run.attributes else None


def ledger_attributes(output: Location) -> Mapping[str, Any]:
    """Return the attributes of the run group. Raises OutputError if overtile did not make it."""
    if output.is_local and not output.path.is_dir():
        is_file = output.path.exists()
        problem = "is a file" if is_file else f"does not exist{similar_text(output.path)}"
        raise OutputError(
            f"{output} {problem}: expected the output of a run, a folder like out.zarr; the output "
            "of a submitted run exists once its job has started"
        )
    run = read_node(output, path=RUN_GROUP)
    if run is None and is_begun(output):
        raise OutputError(f"{output} is being created: its run measures the normalisation")
    if run is None and read_node(output) is None:
        raise OutputError(f"{output} is not a Zarr group: expected the output of a run")
    if run is None or "job" not in run.attributes:
        raise OutputError(
            f"{output} was not made by overtile (it has no ledger): expected the output of a run"
        )
    return checked_record(output, run.attributes)


def _files(output: Location) -> Mapping[str, datetime | None]:
    """Return the files of the ledger, and when each was last written; None where unknown."""
    store = open_store(output)
    if isinstance(store, LocalStore):
        paths = (store.root / RUN_GROUP).rglob("*")
        return {str(path.relative_to(store.root)): _time_of_file(path) for path in paths}
    return _times_of_objects(store) if isinstance(store, FsspecStore) else {}


def _time_of_file(path: Path) -> datetime | None:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except FileNotFoundError:  # replaced at this moment
        return None


def _times_of_objects(store: FsspecStore) -> Mapping[str, datetime | None]:
    """Return when objects were written; each fsspec store has its own name for it."""
    listing = store.fs._find(f"{store.path.rstrip('/')}/{RUN_GROUP}", detail=True)
    try:
        found = wait_for(listing, timeout_s=ANSWER_WITHIN_S)
    except (OSError, NotImplementedError):  # many HTTP servers cannot list
        return {}
    answers = {name: info.get("LastModified", info.get("mtime")) for name, info in found.items()}
    return {
        name: answer if isinstance(answer, datetime) else None for name, answer in answers.items()
    }
