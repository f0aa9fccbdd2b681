"""Publishes the metrics of a run beside Dask's, on its dashboard's page ``/metrics``.

Dask serves what prometheus_client has registered in the scheduler's process, which is the run's
process unless the cluster was started elsewhere. While a run lasts, its address is in a file that
Prometheus can discover (``file_sd_configs``):

~/.local/state/overtile/metrics/HOST-PID-DIGEST.json
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from socket import gethostname
from urllib.parse import urlsplit

from deploy.clusters.profiles import state_directory
from deploy.processes.identity import ProcessIdentity, booted_at, identify, read_record

from .work import Sample, Work

SAMPLE_EVERY_S = 2.0
META = "__meta_overtile_"
"""Prefix of labels that Prometheus reads and does not store: which process wrote a file."""

_log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True, kw_only=True)
class _Published:
    """What this process publishes of a run."""

    number: int
    """The lowest one that no other run of this process has; from 1."""
    output: str
    address: str
    """Of the dashboard; empty if this process does not serve it."""
    works: list[Work] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)


_published: list[_Published] = []
"""The oldest first."""
_change = threading.Lock()


@contextmanager
def published(
    dashboard_link: str, *, output: str, is_existing: bool = False
) -> Iterator[list[Work]]:
    """Yield a list: the metrics of what is put into it are published until the end.

    Several runs of one process may be published at once. is_existing: whether the cluster was
    started elsewhere; then Prometheus does not discover the run by a file. Does nothing without
    prometheus_client (the extra ``metrics``).
    """
    if find_spec("prometheus_client") is None:
        yield []
        return
    with _change:
        _register()
        numbers = {run.number for run in _published}
        number = min(set(range(1, len(numbers) + 2)) - numbers)
        address = "" if is_existing else urlsplit(dashboard_link).netloc
        run = _Published(number=number, output=output, address=address)
        _published.append(run)
        _write_target()
    try:
        with _sampled(run):
            yield run.works
    finally:
        with _change:
            _published.remove(run)
            _write_target()


def targets_directory() -> Path:
    """Return the folder of the files that Prometheus discovers runs by."""
    return state_directory() / "metrics"


@cache
def _register() -> None:
    """Register one collector for all runs of this process: a second one is refused."""
    from prometheus_client import REGISTRY

    from .collector import RunCollector

    REGISTRY.register(RunCollector(_samples))


def _samples() -> list[Sample]:
    return [sample for run in list(_published) for sample in run.samples]


@contextmanager
def _sampled(run: _Published) -> Iterator[None]:
    """Take samples of a run in another thread.

    Dask serves the page in the thread of its event loop, which a run needs to count its workers.
    """
    over = threading.Event()

    def loop() -> None:
        while not over.wait(SAMPLE_EVERY_S):
            try:
                run.samples = [
                    Sample.take(work, number=run.number, output=run.output) for work in run.works
                ]
            except Exception as error:  # the last samples stay: metrics never end a run
                _log.debug("no new samples: %s", error)

    thread = threading.Thread(target=loop, name="metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _write_target() -> None:
    """Keep the address of the oldest run in a file; remove the files of processes that have ended.

    Every page of this process has the metrics of all its runs. A run whose state folder cannot be
    written has no such file: it is scraped by its address.
    """
    folder, run = targets_directory(), next((run for run in _published if run.address), None)
    identity = identify(os.getpid())
    if identity is None:
        return
    file = folder / f"{identity.host}-{identity.pid}-{_digest(identity)}.json"
    with suppress(OSError):
        if run is None:
            file.unlink(missing_ok=True)
            return
        folder.mkdir(parents=True, exist_ok=True)
        for other in folder.glob("*.json"):
            if _is_left_over(other):
                other.unlink(missing_ok=True)
        part = file.with_suffix(".part")
        labels = {f"{META}{name}": str(value) for name, value in asdict(identity).items()}
        target = {"targets": [run.address], "labels": {"output": run.output, **labels}}
        part.write_text(json.dumps([target]))
        part.rename(file)


def _digest(identity: ProcessIdentity) -> str:
    """Return what differs between containers that have the same host name and process number."""
    return hashlib.sha256(repr(identity.key).encode()).hexdigest()[:8]


def _is_left_over(file: Path) -> bool:
    """Return whether the process that wrote a file has certainly ended.

    A file that does not identify its process, for example of another version, is kept until the
    machine has been restarted: Prometheus reports a target that does not answer, and nothing else.
    """
    identity = _written_by(file)
    if identity is not None:
        return identity.has_ended()
    is_of_this_host = re.fullmatch(rf"{re.escape(gethostname())}-\d+(-\w+)?", file.stem)
    return bool(is_of_this_host) and file.stat().st_mtime < booted_at()


def _written_by(file: Path) -> ProcessIdentity | None:
    """Return the process that a file states; None if it states none, or is damaged."""
    try:
        labels = json.loads(file.read_text())[0]["labels"]
        values = {
            name.removeprefix(META): value
            for name, value in labels.items()
            if name.startswith(META)
        }
        numbers = {name: int(values[name]) for name in ("pid", "user")}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return read_record(ProcessIdentity, {**values, **numbers})
