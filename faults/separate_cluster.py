"""A Dask cluster whose scheduler, nannies and workers are separate processes."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from .commands import POLL_S, SCHEDULER, WORKER, Commands, Fault, Running

START_S = 60.0
FORKED = {"DASK_DISTRIBUTED__WORKER__MULTIPROCESSING_METHOD": "forkserver"}


class SeparateCluster:
    """A scheduler, and nannies with one worker each; a run finds it by ``file``."""

    def __init__(
        self, commands: Commands, folder: Path, *, nannies: int = 2, threads: int = 1,
        environment: Mapping[str, str] | None = None, faults: Sequence[Fault] = (),
    ) -> None:  # fmt: skip
        """faults: what happens inside every worker, as of :meth:`Commands.start`."""
        self._faults = faults
        self.file = folder / "scheduler.json"
        self._commands, self._folder, self._threads = commands, folder, threads
        self._environment = {**FORKED, **(environment or {})}
        self._where = [
            "--scheduler-file", str(self.file), "--no-dashboard", "--host", "127.0.0.1",
        ]  # fmt: skip
        self.scheduler = self._start_scheduler()
        self.nannies = [self.start_nanny() for _ in range(nannies)]

    def _start_scheduler(self) -> Running:
        self.file.unlink(missing_ok=True)
        scheduler = self._commands.start(
            [*self._where, "--port", "0"], call=SCHEDULER, folder=self._folder,
            environment=self._environment,
        )  # fmt: skip
        until = time.monotonic() + START_S
        while not self._is_written():
            assert scheduler.poll() is None, scheduler.text
            assert time.monotonic() < until, "the scheduler does not start"
            time.sleep(POLL_S)
        return scheduler

    def _is_written(self) -> bool:
        """Return whether the scheduler file is whole; Dask writes it in place."""
        try:
            return "address" in json.loads(self.file.read_text())
        except (OSError, ValueError):
            return False

    def start_nanny(self) -> Running:
        """Start another nanny and its worker."""
        return self._commands.start(
            [*self._where, "--nthreads", str(self._threads)], call=WORKER, folder=self._folder,
            environment=self._environment, faults=self._faults,
        )  # fmt: skip

    def workers(self) -> list[int]:
        """Return the worker processes of all nannies."""
        return [pid for nanny in self.nannies for pid in nanny.workers()]

    def address(self, worker: int) -> str | None:
        """Return the address of a worker process; None if it has not registered, or has ended."""
        try:
            connections = psutil.Process(worker).net_connections("inet")
        except psutil.Error:
            return None
        ports = {one.laddr.port for one in connections if one.status == psutil.CONN_LISTEN}
        known = re.findall(r"Register worker addr: +(\S+:(\d+))", self.scheduler.text)
        return next((address for address, port in known if int(port) in ports), None)

    def nanny_of(self, worker: int) -> Running:
        """Return the nanny of a worker process."""
        return next(nanny for nanny in self.nannies if worker in nanny.workers())

    def lost(self) -> list[str]:
        """Return the workers that the scheduler has counted as lost, for their silence."""
        return re.findall(r"Worker failed to heartbeat for .*?'(\S+?)'", self.scheduler.text)

    def end_scheduler(self, number: int = signal.SIGKILL) -> None:
        """End the scheduler by a signal; nannies and workers end when they lose it."""
        self.scheduler.signal(number)
        self.scheduler.ended(within_s=START_S)

    def restart(self) -> None:
        """Start a new scheduler and as many nannies as before, under the same file."""
        count = len(self.nannies)
        self.close()
        self.scheduler = self._start_scheduler()
        self.nannies = [self.start_nanny() for _ in range(count)]

    def replace_nanny(self, number: int, by: int = signal.SIGKILL) -> None:
        """End a nanny by a signal, and so its worker, and start another one."""
        self.nannies[number].signal(by)
        self.nannies[number].ended()
        left = self.nannies[number].left()
        assert not left, "workers outlive their nanny"
        self.nannies[number] = self.start_nanny()

    def kill_worker(self, pid: int) -> None:
        """Kill one worker; its nanny starts another."""
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        """End all of it."""
        for process in (*self.nannies, self.scheduler):
            process.kill()
