"""Whether a run is writing an output: its driver leaves a sign of life in the ledger.

The sign names the process and has a number that grows every few seconds. On the machine of the
driver, the process itself is looked up. On another one, the number is watched for as long as a
network file system may show an old file. No clock is compared with that of another machine, nor
with one that can be set: a jump of a clock neither loses a run that is alive nor keeps a dead one.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final

from ..base.errors import OutputError, OvertileError, RunError
from ..base.json_text import json_value
from ..base.location import Location
from ..base.process_record import is_running, this_process
from ..base.store_errors import ANSWER_WITHIN_S, explained
from ..base.stores import open_store, read_node, wait_for
from ..output.documents import put_bytes, read_bytes
from ..output.guard import RUN_GROUP
from .creation import BEAT_S, CHECK_EVERY_S, SILENT_AFTER_S
from .ownership import ENDED, OWNER, SHARDS, check_owner, owned_path, part_path

ALIVE: Final = "alive"
"""File in the group that a run owns."""


@contextmanager
def alive(output: Location, *, token: str) -> Iterator[None]:
    """Keep the sign of life of the run with this token while inside."""
    over = threading.Event()
    thread = threading.Thread(target=_beat, args=(output, token, over), name="alive", daemon=True)
    _put(output, token, 0)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=CHECK_EVERY_S)
        _remove(output, token)


def live_run(output: Location, *, notify: Callable[[str], None]) -> str | None:
    """Return the process that is writing an output, as text, or None.

    notify: takes a line if this has to wait for a sign from another machine. Raises OutputError for
    an output that cannot be read.
    """
    watched = {path: sign for path in owned_groups(output) if (sign := _sign(output, path))}
    for sign in watched.values():
        if is_running(sign):
            return _text(sign)
    remote = {path: sign for path, sign in watched.items() if is_running(sign) is None}
    if not remote:
        return None
    named = " and ".join(sorted({_text(sign) for sign in remote.values()}))
    notify(f"{named} may be writing {output}: waiting up to {SILENT_AFTER_S:.0f} s for a sign")
    began = time.monotonic()
    while time.monotonic() - began < SILENT_AFTER_S:
        for path, sign in remote.items():
            now = _sign(output, path)
            if now is not None and now != sign:
                return _text(now)
        if not any(_sign(output, path) for path in remote):
            return None
        time.sleep(CHECK_EVERY_S)
    return None


def possible_run(output: Location) -> str | None:
    """Return the process that has left a sign and is not known to have ended. Waits for nothing.

    Raises as :func:`live_run` does.
    """
    signs = (_sign(output, path) for path in owned_groups(output))
    return next((_text(one) for one in signs if one and is_running(one) is not False), None)


def owned_groups(output: Location) -> list[str]:
    """Return the paths of the groups that runs own: that of the output, or those of its shares."""
    run = read_node(output, path=RUN_GROUP)
    sizes: Any = None if run is None else run.attributes.get(SHARDS)
    if run is None or sizes is None:
        return [RUN_GROUP]
    parts = [] if ENDED in run.attributes else [part_path(n) for n in range(1, len(sizes) + 1)]
    return [RUN_GROUP, *parts]


def _sign(output: Location, path: str) -> Mapping[str, Any] | None:
    """Return the sign of life of the run that owns a group, if it has left one."""
    node = read_node(output, path=path)
    with explained(OutputError, output):
        content = read_bytes(open_store(output), f"{path}/{ALIVE}")
    if node is None or content is None:
        return None
    try:
        sign = json_value(content)
    except ValueError:  # torn: the next one will be whole, if there is one
        sign = None
    if not isinstance(sign, dict) or sign.get("token") != node.attributes.get(OWNER):
        return None  # left by an earlier run, which another one has taken over
    return sign


def _text(sign: Mapping[str, Any]) -> str:
    return f"process {sign.get('pid')} on {sign.get('host')}"


def _beat(output: Location, token: str, over: threading.Event) -> None:
    number = 0
    while not over.wait(BEAT_S):
        try:
            check_owner(output, token)
        except RunError:  # another run has taken over, or the output was deleted
            return
        except OvertileError:  # the store fails for a moment: the sign is left all the same
            pass
        number += 1
        _put(output, token, number)


def _put(output: Location, token: str, number: int) -> None:
    sign = {"token": token, "beat": number, **this_process()}
    with suppress(Exception):  # a full disk, for example: the run itself reports it
        store = open_store(output, read_only=False)
        put_bytes(store, _key(token), json.dumps(sign).encode())


def _remove(output: Location, token: str) -> None:
    with suppress(Exception):  # what is left names a process that has ended
        check_owner(output, token)
        store = open_store(output, read_only=False)
        wait_for(store.delete(_key(token)), timeout_s=ANSWER_WITHIN_S)


def _key(token: str) -> str:
    return f"{owned_path(token)}/{ALIVE}"
