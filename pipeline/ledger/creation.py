"""Who makes an output that several runs want at the same moment: one does, the others wait.

The runs share nothing but the store. A claim is a small file that only one of them can create: by a
hard link where the store is a file system (safe over NFS), by a conditional PUT on S3. Whoever has
it creates, and rewrites it every few seconds. A claim that nobody rewrites for long is that of a
dead run: the next claim, which has a number one higher, takes its place.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from zarr.abc.store import Store
from zarr.core.buffer import default_buffer_prototype
from zarr.errors import ContainsGroupError
from zarr.storage import FsspecStore

from ..base.errors import OutputError, RunError
from ..base.location import Location
from ..base.store_errors import ANSWER_WITHIN_S, explained
from ..base.stores import (
    DOCUMENTS,
    list_names,
    open_store,
    read_node,
    wait_for,
)
from ..output.guard import RUN_GROUP
from ..output.image_spec import Version
from ..output.ome_write import create_root

CREATED: Final = "created"
"""Attribute of the run group of an output that was made to its end: all arrays are there."""
BEAT_S = 10.0
DEAD_AFTER_S = 120.0
"""More than a network file system may show an old file for."""
LOOK_EVERY_S = 1.0
GIVE_UP_AFTER_S = 6 * 3600.0
SETTLE_S = 0.5
"""An S3 that knows no conditional PUT keeps the last of two writers: looked at after this pause."""

_CLAIMS: Final = f"{RUN_GROUP}/claims"
_one_at_a_time = threading.Lock()  # memory:// creates nothing exclusively


def make_root(output: Location, *, version: Version) -> None:
    """Make the group that holds everything; others may make the same one at this moment."""
    try:
        create_root(output, version=version)
    except OutputError as error:  # zarr looks whether there is one twice, and it came in between
        if not isinstance(error.__cause__, ContainsGroupError):
            raise


def put_new(output: Location, key: str, content: bytes) -> bool:
    """Write a small file unless there is one; return whether what is there is this content.

    Of several who call this at the same moment, with different contents, one gets True.
    Raises OutputError where the store cannot be written.
    """
    with explained(OutputError, output), _one_at_a_time:
        store = open_store(output, read_only=False)
        if (there := _read(store, key)) is None:
            try:
                _put_exclusively(store, key, content)
            except (OSError, NotImplementedError):  # there by now; or the store knows no such thing
                if _read(store, key) is None:
                    _put(store, key, content)
            if not output.is_local and output.scheme != "memory":
                time.sleep(SETTLE_S)
            there = _read(store, key)
    return there == content


def create_once(
    output: Location,
    create: Callable[[Callable[[], None]], Any],
    *,
    token: str,
    tell: Callable[[str], None],
    dead_after_s: float = DEAD_AFTER_S,
    give_up_after_s: float = GIVE_UP_AFTER_S,
) -> None:
    """Return when the output is created: by this run, or by another one that was first.

    create: makes what is there safe to find half done, calls what it is given before each step that
    others could see, and ends by setting the attribute ``created``. A creation that fails is tried
    by the next who waits. token: this run's own. Raises what create raises; RunError where the
    others' creation does not end, or another run has created in this one's place.
    """
    seen: tuple[int, bytes] = (0, b"")
    began = seen_at = time.monotonic()
    pause_s = 0.0
    while not _is_created(output):
        newest = _newest_claim(output)
        if newest != seen:
            seen, seen_at = newest, time.monotonic()
        number, content = newest
        lost = time.monotonic() - seen_at > dead_after_s
        if number == 0 or lost or json.loads(content)["withdrawn"]:
            claim = _Claim(output, number + 1, token)
            if claim.take():
                with claim.kept():
                    if not _is_created(output):  # else the last moment's, whose claims are gone
                        create(claim.check)
                return
            continue
        if time.monotonic() - began > give_up_after_s:
            raise RunError(
                f"another share has been creating {output} for "
                f"{give_up_after_s / 3600:.1f} h: look at what it does, then start this one again"
            )
        if not pause_s:
            tell("another share creates the output: waiting for it")
        pause_s = min(2 * pause_s or 0.05, LOOK_EVERY_S)
        time.sleep(pause_s)


def is_begun(output: Location) -> bool:
    """Return whether nothing is there but the first moment of a creation: an empty root group."""
    names = set(list_names(output) or ())
    root, run = read_node(output), read_node(output, path=RUN_GROUP)
    kept = {name for name in names if not name.endswith(".partial")}
    is_bare = root is None or (root.kind == "group" and not root.attributes)
    return bool(names) and is_bare and run is None and kept <= {*DOCUMENTS, RUN_GROUP}


def _is_created(output: Location) -> bool:
    node = read_node(output, path=RUN_GROUP)
    if node is None:
        raise RunError(f"{output} vanished while it was created: start the run again")
    return bool(node.attributes.get(CREATED))


def _newest_claim(output: Location) -> tuple[int, bytes]:
    """Return number and content of the claim that counts, (0, nothing) where there is none."""
    store = open_store(output, read_only=False)
    number, content = 0, b""
    with explained(OutputError, output):
        while (there := _read(store, f"{_CLAIMS}/{number + 1}")) is not None:
            number, content = number + 1, there
    return number, content


class _Claim:
    """One run's claim to create an output."""

    def __init__(self, output: Location, number: int, token: str) -> None:
        self._output = output
        self._number = number
        self._token = token
        self._store = open_store(output, read_only=False)

    @property
    def _key(self) -> str:
        return f"{_CLAIMS}/{self._number}"

    def _content(self, *, beat: int = 0, withdrawn: bool = False) -> bytes:
        return json.dumps({"token": self._token, "beat": beat, "withdrawn": withdrawn}).encode()

    def take(self) -> bool:
        """Return whether the claim is this run's; False where another one was first."""
        return put_new(self._output, self._key, self._content())

    def check(self) -> None:
        """Raise RunError where another run has taken this one for dead, and creates."""
        number, content = _newest_claim(self._output)
        if number != self._number or json.loads(content)["token"] != self._token:
            raise RunError(
                f"another share has taken over creating {self._output}, since this one was "
                "silent for too long: start it again"
            )

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep the claim alive while inside; then remove all claims, or withdraw on an error."""
        over = threading.Event()

        def beat() -> None:
            number = 0
            while not over.wait(BEAT_S):
                number += 1
                with suppress(Exception):  # the next one may get through
                    self.check()
                    _put(self._store, self._key, self._content(beat=number))

        thread = threading.Thread(target=beat, name="claim", daemon=True)
        thread.start()
        try:
            yield
        except BaseException:
            _end(over, thread)
            with suppress(Exception):
                self.check()
                _put(self._store, self._key, self._content(withdrawn=True))
            raise
        _end(over, thread)
        with suppress(OSError):  # another one removes them in the same moment
            wait_for(self._store.delete_dir(_CLAIMS), timeout_s=ANSWER_WITHIN_S)


def _end(over: threading.Event, thread: threading.Thread) -> None:
    over.set()
    thread.join()


def _read(store: Store, key: str) -> bytes | None:
    found = wait_for(store.get(key, default_buffer_prototype()), timeout_s=ANSWER_WITHIN_S)
    return None if found is None else found.to_bytes()


def _put(store: Store, key: str, content: bytes) -> None:
    buffer = default_buffer_prototype().buffer.from_bytes(content)
    wait_for(store.set(key, buffer), timeout_s=ANSWER_WITHIN_S)


def _put_exclusively(store: Store, key: str, content: bytes) -> None:
    """Write a file that is not there; the default of Zarr's remote stores only looks first."""
    if isinstance(store, FsspecStore):
        path = f"{store.path.rstrip('/')}/{key}"
        wait_for(store.fs._pipe_file(path, content, mode="create"), timeout_s=ANSWER_WITHIN_S)
        return
    buffer = default_buffer_prototype().buffer.from_bytes(content)
    wait_for(store.set_if_not_exists(key, buffer), timeout_s=ANSWER_WITHIN_S)
