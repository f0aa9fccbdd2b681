"""Whether workers write to the same output as this process, and whether it has space."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from deploy.preflight.findings import Answers, Check, Finding, failures, grouped, named
from pipeline.base.errors import OutputError
from pipeline.base.location import Location

if TYPE_CHECKING:
    from pipeline.segmentation.prepare import Prepared

STORE_S = 5.0
SMALLEST = 50
"""Compression factor of labels that is seldom exceeded."""
RUN_GROUP = "run"
EMPTY = 10
"""Chunks of background alone have no file; seldom is less than one chunk in this many full."""


@contextmanager
def output_check(output: Location, *, token: str) -> Iterator[Check]:
    """Yield a check that workers see this process's marker beside the output, and write their own.

    token: name of the marker. All markers are deleted on leaving.
    """
    from pipeline.base.store_errors import explained

    findings = partial(output_findings, str(output))
    if output.scheme == "memory":
        yield Check(name="output", ask=_nothing, judge=findings)
    elif output.is_local:
        marker = folder_of_markers(output.path) / token
        with explained(OutputError, output):
            marker.touch()
        try:
            yield Check(name="output", ask=partial(write_beside, str(marker)), judge=findings)
        finally:
            marker.unlink(missing_ok=True)
    else:
        above = output.parent or output
        try:
            _put(above, token)
            ask: Callable[[], str] = partial(put_beside, above, token)
        except OutputError:  # perhaps only the output itself is writable; creating it will show
            ask = _nothing
        try:
            yield Check(name="output", ask=ask, judge=findings)
        finally:
            _delete(above, token)


def check_writable_here(output: Location) -> None:
    """Raise OutputError where this process cannot write beside a local output.

    Workers take seconds to start; this is known before.
    """
    if output.is_local:
        with output_check(output, token=f".overtile-preflight-{uuid4().hex[:12]}"):
            pass


def _nothing() -> str:
    return ""


def folder_of_markers(output: Path) -> Path:
    """Return the folder of markers: the output's run folder if it exists, else its parent."""
    run = output / RUN_GROUP
    return run if run.is_dir() else nearest_folder(output.parent)


def nearest_folder(path: Path) -> Path:
    """Return the path if it is a folder, else its nearest parent that exists."""
    return next(one for one in (path, *path.parents) if one.is_dir())


def write_beside(marker: str) -> str:
    """Return the problem with writing beside a marker on a disk, or an empty text."""
    own = Path(f"{marker}-{uuid4().hex[:8]}")
    if not own.parent.is_dir():
        return f"does not see the folder {own.parent}"
    if not Path(marker).exists():
        return f"has another disk at {own.parent} than this machine"
    try:
        own.touch()
    except OSError as error:
        return f"cannot write in {own.parent} ({error.strerror})"
    own.unlink(missing_ok=True)
    return ""


def put_beside(folder: Location, token: str) -> str:
    """Return the problem with writing beside a marker in a remote store, or an empty text."""
    from pipeline.base.stores import open_store, wait_for

    if not wait_for(open_store(folder).exists(token), timeout_s=STORE_S):
        return f"does not see what this machine writes to {folder}"
    own = f"{token}-{uuid4().hex[:8]}"
    _put(folder, own)
    _delete(folder, own)
    return ""


def _put(output: Location, name: str) -> None:
    from zarr.core.buffer import default_buffer_prototype

    from pipeline.base.store_errors import explained
    from pipeline.base.stores import open_store, wait_for

    empty = default_buffer_prototype().buffer.from_bytes(b"")
    with explained(OutputError, output):
        wait_for(open_store(output, read_only=False).set(name, empty), timeout_s=STORE_S)


def _delete(output: Location, name: str) -> None:
    from pipeline.base.stores import open_store, wait_for

    with suppress(Exception):  # deleting may be forbidden; the marker is empty
        wait_for(open_store(output, read_only=False).delete(name), timeout_s=STORE_S)


def output_findings(uri: str, answers: Answers) -> Iterator[Finding]:
    """Yield which workers cannot write the output, or see another one."""
    problems = {worker: text for worker, text in answers.items() if isinstance(text, str) and text}
    problems |= {
        worker: f"cannot write the output ({why})" for worker, why in failures(answers).items()
    }
    for text, workers in grouped(problems):
        yield Finding(
            level="error", check="output",
            text=f"{named(workers)} {text}: choose an output that every worker can write",
        )  # fmt: skip
    if not problems:
        yield Finding(level="fine", check="output", text=f"every worker can write {uri}")


def room_check(prepared: Prepared) -> Check:
    """Return a check of free space and inodes against the plan."""
    bytes_planned, files_planned = planned(prepared)
    return Check(
        name="room", ask=partial(free_room, prepared.request.output),
        judge=partial(room_findings, bytes_planned, files_planned),
    )  # fmt: skip


def planned(prepared: Prepared) -> tuple[int, int]:
    """Return bytes before compression and number of files still to write, with the pyramid."""
    from numpy import dtype

    from pipeline.segmentation.left import share_left

    images = [(image, dtype(image.dtype).itemsize) for image in prepared.images]
    finest = sum(prod(image.shapes[0]) * size for image, size in images)
    whole = sum(prod(shape) * size for image, size in images for shape in image.shapes)
    left = share_left(prepared)
    pyramid = whole / finest
    return (
        round(prepared.budget.bytes_written * pyramid * left),
        round(prepared.budget.files * pyramid * left),
    )


def free_room(output: Location) -> dict[str, int | None] | None:
    """Return free bytes and inodes at the output; None for a store that does not report them."""
    if not output.is_local:
        return None
    free = os.statvfs(nearest_folder(output.path))
    free_files = free.f_favail if free.f_files else None  # btrfs and others have no inodes
    return {"bytes": free.f_bavail * free.f_frsize, "files": free_files}


def room_findings(bytes_planned: int, files_planned: int, answers: Answers) -> Iterator[Finding]:
    """Yield whether there is too little space; the worker that sees least counts."""
    from pipeline.base.text import size_text

    rooms: list[dict[str, Any]] = [room for room in answers.values() if isinstance(room, dict)]
    if not rooms:
        return
    free = min(room["bytes"] for room in rooms)
    files = min((room["files"] for room in rooms if room["files"] is not None), default=None)
    text = f"{size_text(free)} free" + ("" if files is None else f", {files:,} files")
    lacks_bytes = free < bytes_planned
    lacks_files = files is not None and files < files_planned
    if not lacks_bytes and not lacks_files:
        yield Finding(level="fine", check="room", text=f"{text} at the output")
    if lacks_bytes:
        yield Finding(
            level="error" if free * SMALLEST < bytes_planned else "warning", check="room",
            text=f"{size_text(free)} free at the output, {size_text(bytes_planned)} planned before "
            "compression: free some space, or choose another output",
        )  # fmt: skip
    if files is not None and lacks_files:
        yield Finding(
            level="error" if files * EMPTY < files_planned else "warning", check="room",
            text=f"{files:,} more files fit at the output, {files_planned:,} planned: use larger "
            "blocks (--block), --format 0.5 or another file system",
        )  # fmt: skip
