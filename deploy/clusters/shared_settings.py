"""Settings of this process that a cluster changes while it is open.

A process may open several clusters, which end in any order: runs from Python, or a pool of flows.
The user's value comes back with the end of the last cluster that needs another one.

    cluster A     |--- a ---------|
    cluster B          |--- b ---------|
    value      u  | a  | b        | b  | u
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Final

_MISSING: Final = object()
_lock: Final = threading.RLock()


class _Layers:
    """The values that are held of some setting by name, above those of the user."""

    def __init__(self, read: Callable[[str], object], write: Callable[[str, object], None]) -> None:
        self._read, self._write = read, write
        self._users: dict[str, object] = {}
        self._held: list[Mapping[str, object]] = []

    @contextmanager
    def held(self, values: Mapping[str, object]) -> Iterator[None]:
        layer = dict(values)
        with _lock:
            for name in layer.keys() - self._users.keys():
                self._users[name] = self._read(name)
            self._held.append(layer)
            self._write_top(layer)
        try:
            yield
        finally:
            with _lock:
                self._held = [other for other in self._held if other is not layer]
                self._write_top(layer)

    def _write_top(self, names: Iterable[str]) -> None:
        for name in names:
            values = [layer[name] for layer in self._held if name in layer]
            self._write(name, values[-1] if values else self._users.pop(name))


def _read_dask(name: str) -> object:
    import dask

    return dask.config.get(name, default=_MISSING)


def _write_dask(name: str, value: object) -> None:
    import dask

    if value is _MISSING:
        dask.config.pop(name, None)
    else:
        dask.config.set({name: value})


_dask: Final = _Layers(_read_dask, _write_dask)


def dask_settings(values: Mapping[str, object]) -> AbstractContextManager[None]:
    """Hold settings of Dask while inside; where two clusters differ, the newer one decides.

    ``dask.config.set`` restores what it found, which may be the setting of a cluster that has ended
    since.
    """
    return _dask.held(values)


_users_variables: Final[dict[str, str | None]] = {}
_kept: Final[Counter[str]] = Counter()


@contextmanager
def kept_variables(names: Iterable[str]) -> Iterator[None]:
    """Let these variables of the environment have the user's values here, and on exit.

    A nanny runs in this process, and writes its worker's variables into our environment. The next
    cluster would mistake them for the user's, and other processes would inherit them.
    """
    names = set(names)
    with _lock:
        for name in names:
            if not _kept[name]:
                _users_variables[name] = os.environ.get(name)
        _kept.update(names)
        _write_variables(names)
    try:
        yield
    finally:
        with _lock:
            _write_variables(names)
            _kept.subtract(names)


def users_variable(name: str) -> str | None:
    """Return the user's value of a variable, whatever a nanny has written."""
    with _lock:
        return _users_variables[name] if _kept[name] else os.environ.get(name)


def _write_variables(names: Iterable[str]) -> None:
    for name in names:
        value = _users_variables[name]
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


class WhileAny:
    """A context that begins with the first of several users, and ends with the last one."""

    def __init__(self, make: Callable[[], AbstractContextManager[Any]]) -> None:
        self._make, self._users, self._stack = make, 0, ExitStack()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Be one of the users while inside."""
        with _lock:
            if not self._users:
                self._stack.enter_context(self._make())
            self._users += 1
        try:
            yield
        finally:
            with _lock:
                self._users -= 1
                if not self._users:
                    self._stack.close()
