"""Creates an output: any number of runs may create the same one at the same moment.

The document of the run group differs between runs: it has the provenance and the measured
normalisation. Each run tries to write it, the first one counts, and the others read it. All other
documents follow from the job, so every run writes those that are missing. No run waits for another,
except that of shares which start together one measures the normalisation.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from zarr.abc.store import Store

from ..base.errors import OutputError
from ..base.geometry import Shape
from ..base.location import Location
from ..base.store_errors import ANSWER_WITHIN_S, explained
from ..base.stores import open_store, read_node, wait_for
from ..output.documents import built_in_memory, put_bytes, put_missing, put_new, read_bytes
from ..output.guard import MEASURING, RUN_GROUP
from ..output.image_spec import Version
from ..output.ome_write import require_group
from .identity import Job
from .ownership import SHARDS

PLACE: Final = "place"
"""Attribute of a run group: where a local output was when it was created."""
CREATED: Final = "created"
"""Attribute of a run group that has all that a run needs to resume; older versions set it last."""
CHUNK: Final = 32
"""Length of the chunks of the array of block states."""
BEAT_S = 10.0
SILENT_AFTER_S = 120.0
"""Longer than a network file system may show an old file."""
LONGEST_WAIT_S = 6 * 3600.0
CHECK_EVERY_S = 1.0

_MARK: Final = f"{RUN_GROUP}/{MEASURING}"


def begin_run_group(output: Location, job: Job, *, version: Version, **attributes: Any) -> bool:
    """Create the run group with the job unless it exists; return whether it is this one.

    If several runs create different ones at the same moment, one gets True. Raises
    OutputError.
    """
    content = {
        "job": dict(job.parts), "job_digest": job.digest, PLACE: output.identity, **attributes,
        CREATED: True,
    }  # fmt: skip
    if version == "0.4":
        return put_new(output, f"{RUN_GROUP}/.zattrs", _json(content))
    document = {"zarr_format": 3, "node_type": "group", "attributes": content}
    return put_new(output, f"{RUN_GROUP}/zarr.json", _json(document))


def complete_run_group(output: Location, *, grid: Shape, version: Version, in_shares: bool) -> None:
    """Create the array of block states, and the group of the shares where there are some."""

    def build(store: Store) -> None:
        run = require_group(store, RUN_GROUP, version=version)
        run.create_array("done", **states_layout(grid))
        if in_shares:
            run.require_group(SHARDS)

    written_elsewhere = (
        "zarr.json",
        ".zgroup",
        ".zattrs",
        f"{RUN_GROUP}/zarr.json",
        f"{RUN_GROUP}/.zattrs",
    )
    documents = built_in_memory(build)
    put_missing(output, {key: documents[key] for key in documents if key not in written_elsewhere})


def states_layout(grid: Shape) -> dict[str, Any]:
    """Return the layout of an array of block states."""
    chunks = tuple(min(size, CHUNK) for size in grid)
    return {"shape": grid, "chunks": chunks, "dtype": "uint8", "fill_value": 0}


@contextmanager
def turn_to_measure(
    output: Location, *, token: str, notify: Callable[[str], None]
) -> Iterator[bool]:
    """Yield True if this run is to measure, False once another run has created the run group.

    Measuring may read the whole volume, so one of several shares does it while the others wait.
    This only saves time: if the measuring share falls silent or takes too long, another one
    measures too, and the run group that is created first counts. token: this run's. notify: takes a
    line once, if this run waits.
    """
    if not _wait_for_turn(output, token, notify):
        yield False
        return
    over = threading.Event()
    thread = threading.Thread(
        target=_beat, args=(output, token, over), name="measuring", daemon=True
    )
    thread.start()
    try:
        yield read_node(output, path=RUN_GROUP) is None
    finally:
        over.set()
        thread.join()
        with suppress(OSError, OutputError):  # another run may have removed it
            store = open_store(output, read_only=False)
            wait_for(store.delete(_MARK), timeout_s=ANSWER_WITHIN_S)


def _wait_for_turn(output: Location, token: str, notify: Callable[[str], None]) -> bool:
    """Return True once this run is to measure, False once the run group exists."""
    store = open_store(output, read_only=False)
    began = changed_at = time.monotonic()
    last: bytes | None = None
    while read_node(output, path=RUN_GROUP) is None:
        if put_new(output, _MARK, _mark(token, 0)):
            return True
        with explained(OutputError, output):
            mark = read_bytes(store, _MARK)
            now = time.monotonic()
            if mark != last:
                if last is None:
                    notify("another share measures the normalisation: waiting for it")
                last, changed_at = mark, now
            elif now - changed_at > SILENT_AFTER_S or now - began > LONGEST_WAIT_S:
                put_bytes(store, _MARK, _mark(token, 0))
                return True
        time.sleep(min(CHECK_EVERY_S, 0.05 + (now - began) / 4))
    return False


def _beat(output: Location, token: str, over: threading.Event) -> None:
    """Rewrite the mark every few seconds: the other shares see that this one is alive."""
    store, number = open_store(output, read_only=False), 0
    while not over.wait(BEAT_S):
        number += 1
        with suppress(Exception):  # the next one may succeed
            put_bytes(store, _MARK, _mark(token, number))


def _mark(token: str, beat: int) -> bytes:
    return json.dumps({"token": token, "beat": beat}).encode()


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=2).encode()
