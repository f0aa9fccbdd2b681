"""Publishes the metrics of a run beside Dask's, on its dashboard's page ``/metrics``.

Dask serves what prometheus_client has registered in the scheduler's process, which is the run's
process unless the cluster was started elsewhere. While a run lasts, its address is in a file that
Prometheus can discover (``file_sd_configs``):

~/.local/state/overtile/metrics/HOST-PID.json
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from socket import gethostname
from urllib.parse import urlsplit

from deploy.clusters.profiles import state_directory

from .work import Sample, Work

SAMPLE_EVERY_S = 2.0

_log = logging.getLogger(__name__)


@contextmanager
def published(dashboard_link: str, *, output: str) -> Iterator[list[Work]]:
    """Yield a list: the metrics of what is put into it are published until the end.

    Does nothing without prometheus_client (the extra ``metrics``).
    """
    works: list[Work] = []
    if find_spec("prometheus_client") is None:
        yield works
        return
    from prometheus_client import REGISTRY

    from .collector import RunCollector

    with _sampled(works) as samples:
        collector = RunCollector(samples, output=output)
        REGISTRY.register(collector)
        try:
            with _discoverable(dashboard_link, output=output):
                yield works
        finally:
            REGISTRY.unregister(collector)


def targets_directory() -> Path:
    """Return the folder of the files that Prometheus discovers runs by."""
    return state_directory() / "metrics"


@contextmanager
def _sampled(works: list[Work]) -> Iterator[Callable[[], list[Sample]]]:
    """Yield a function that returns the last samples; another thread takes them.

    Dask serves the page in the thread of its event loop, which a run needs to count its workers.
    """
    samples: list[Sample] = []
    over = threading.Event()

    def loop() -> None:
        nonlocal samples
        while not over.wait(SAMPLE_EVERY_S):
            try:
                samples = [Sample.take(work) for work in works]
            except Exception as error:  # the last samples stay: metrics never end a run
                _log.debug("no new samples: %s", error)

    thread = threading.Thread(target=loop, name="metrics", daemon=True)
    thread.start()
    try:
        yield lambda: samples
    finally:
        over.set()
        thread.join()


@contextmanager
def _discoverable(dashboard_link: str, *, output: str) -> Iterator[None]:
    """Keep the address of a run in a file; remove the files of processes that have ended.

    A run whose state folder cannot be written has no such file: it is scraped by its address.
    """
    folder = targets_directory()
    host = gethostname()
    file = folder / f"{host}-{os.getpid()}.json"
    target = {"targets": [urlsplit(dashboard_link).netloc], "labels": {"output": output}}
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        for other in folder.glob(f"{host}-*.json"):
            if not _runs(other.stem.rpartition("-")[2]):
                other.unlink(missing_ok=True)
        part = file.with_suffix(".part")
        part.write_text(json.dumps([target]))
        part.rename(file)
    try:
        yield
    finally:
        with suppress(OSError):
            file.unlink(missing_ok=True)


def _runs(pid: str) -> bool:
    """Return whether a process of this machine, by its number, has not ended."""
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    except PermissionError:  # of another user
        return True
    return True
