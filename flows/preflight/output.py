"""Whether workers write where we look, and whether there is room for what is planned."""

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
"""Labels shrink by compression, seldom by more than this."""
RUN_GROUP = "run"
EMPTY = 10
"""Chunks that are all background make no file; seldom are fewer than this part of them full."""


@contextmanager
def output_check(output: Location, *, token: str) -> Iterator[Check]:
    """Yield a check that workers see a mark of ours beside the output, and write one of theirs.

    token: the mark's name. All marks are gone on leaving.
    """
    from pipeline.base.store_errors import explained

    findings = partial(output_findings, str(output))
    if output.scheme == "memory":
        yield Check(name="output", ask=_nothing, judge=findings)
    elif output.is_local:
        mark = folder_of_marks(output.path) / token
        with explained(OutputError, output):
            mark.touch()
        try:
            yield Check(name="output", ask=partial(write_beside, str(mark)), judge=findings)
        finally:
            mark.unlink(missing_ok=True)
    else:
        above = output.parent or output
        try:
            _put(above, token)
            ask: Callable[[], str] = partial(put_beside, above, token)
        except OutputError:  # the right to write may begin at the output; creating it will tell
            ask = _nothing
        try:
            yield Check(name="output", ask=ask, judge=findings)
        finally:
            _delete(above, token)


def _nothing() -> str:
    return ""


def folder_of_marks(output: Path) -> Path:
    """Return where marks go: beside the output, into its run's folder where there is one."""
    run = output / RUN_GROUP
    return run if run.is_dir() else nearest_folder(output.parent)


def nearest_folder(path: Path) -> Path:
    """Return a path that is a folder, or the one nearest above it that is there."""
    return next(one for one in (path, *path.parents) if one.is_dir())


def write_beside(mark: str) -> str:
    """Return what is wrong with writing beside a mark on a disk; nothing where nothing is."""
    own = Path(f"{mark}-{uuid4().hex[:8]}")
    if not own.parent.is_dir():
        return f"does not see the folder {own.parent}"
    if not Path(mark).exists():
        return f"has another disk at {own.parent} than this machine"
    try:
        own.touch()
    except OSError as error:
        return f"cannot write in {own.parent} ({error.strerror})"
    own.unlink(missing_ok=True)
    return ""


def put_beside(folder: Location, token: str) -> str:
    """Return what is wrong with writing beside a mark in a remote store; nothing where fine."""
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

    with suppress(Exception):  # who may write may not always delete; the mark is empty
        wait_for(open_store(output, read_only=False).delete(name), timeout_s=STORE_S)


def output_findings(uri: str, answers: Answers) -> Iterator[Finding]:
    """Yield which workers cannot write the output, or write another one."""
    said = {who: text for who, text in answers.items() if isinstance(text, str) and text}
    said |= {who: f"cannot write the output ({why})" for who, why in failures(answers).items()}
    for text, workers in grouped(said):
        yield Finding(
            level="error", check="output",
            text=f"{named(workers)} {text}: choose an output that every worker can write",
        )  # fmt: skip
    if not said:
        yield Finding(level="fine", check="output", text=f"every worker can write {uri}")


def room_check(prepared: Prepared) -> Check:
    """Return a check of free space and free file numbers (inodes) against the plan."""
    bytes_planned, files_planned = planned(prepared)
    return Check(
        name="room", ask=partial(free_room, prepared.request.output),
        judge=partial(room_findings, bytes_planned, files_planned),
    )  # fmt: skip


def planned(prepared: Prepared) -> tuple[int, int]:
    """Return bytes before compression and files of what is not done yet, with the pyramid."""
    from numpy import dtype

    from pipeline.ledger.progress import blocks_done

    images = [(image, dtype(image.dtype).itemsize) for image in prepared.images]
    finest = sum(prod(image.shapes[0]) * size for image, size in images)
    whole = sum(prod(shape) * size for image, size in images for shape in image.shapes)
    done = blocks_done(prepared.request.output) if prepared.output_action == "resumed" else 0
    left = 1 - done / len(prepared.plan)
    return round(whole * left), round(prepared.budget.files * whole / finest * left)


def free_room(output: Location) -> dict[str, int | None] | None:
    """Return free bytes and inodes where the output goes; None for a store that tells none."""
    if not output.is_local:
        return None
    told = os.statvfs(nearest_folder(output.path))
    free_files = told.f_favail if told.f_files else None  # btrfs and others count none
    return {"bytes": told.f_bavail * told.f_frsize, "files": free_files}


def room_findings(bytes_planned: int, files_planned: int, answers: Answers) -> Iterator[Finding]:
    """Yield where there is too little room; the least that any worker sees counts."""
    from pipeline.base.text import size_text

    rooms: list[dict[str, Any]] = [room for room in answers.values() if isinstance(room, dict)]
    if not rooms:
        return
    free = min(room["bytes"] for room in rooms)
    files = min((room["files"] for room in rooms if room["files"] is not None), default=None)
    told = f"{size_text(free)} free" + ("" if files is None else f", {files:,} files")
    lacks_bytes = free < bytes_planned
    lacks_files = files is not None and files < files_planned
    if not lacks_bytes and not lacks_files:
        yield Finding(level="fine", check="room", text=f"{told} where the output goes")
    if lacks_bytes:
        yield Finding(
            level="error" if free * SMALLEST < bytes_planned else "warning", check="room",
            text=f"{size_text(free)} are free where the output goes, {size_text(bytes_planned)} "
            "are planned before compression: make room, or choose another output",
        )  # fmt: skip
    if files is not None and lacks_files:
        yield Finding(
            level="error" if files * EMPTY < files_planned else "warning", check="room",
            text=f"{files:,} more files fit where the output goes, {files_planned:,} are planned: "
            "take larger blocks (--block) or --format 0.5, or another file system",
        )  # fmt: skip
