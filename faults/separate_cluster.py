"""A Dask cluster whose scheduler, nannies and workers are separate processes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from .commands import POLL_S, SCHEDULER, WORKER, Commands, Running

START_S = 60.0
FORKED = {"DASK_DISTRIBUTED__WORKER__MULTIPROCESSING_METHOD": "forkserver"}


class SeparateCluster:
    """A scheduler, and nannies with one worker each; a run finds it by ``file``."""

    def __init__(
        self, commands: Commands, folder: Path, *, nannies: int = 2, threads: int = 1,
        environment: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
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
        while not self.file.exists():
            assert scheduler.poll() is None, scheduler.text
            assert time.monotonic() < until, "the scheduler does not start"
            time.sleep(POLL_S)
        return scheduler

    def start_nanny(self) -> Running:
        """Start another nanny and its worker."""
        return self._commands.start(
            [*self._where, "--nthreads", str(self._threads)], call=WORKER, folder=self._folder,
            environment=self._environment,
        )  # fmt: skip

    def workers(self) -> list[int]:
        """Return the worker processes of all nannies."""
        return [pid for nanny in self.nannies for pid in nanny.workers()]

    def kill_scheduler(self) -> None:
        """Kill the scheduler; nannies and workers end when they lose it."""
        self.scheduler.kill()
        self.close()

    def restart(self) -> None:
        """Start a new scheduler and as many nannies as before, under the same file."""
        count = len(self.nannies)
        self.close()
        self.scheduler = self._start_scheduler()
        self.nannies = [self.start_nanny() for _ in range(count)]

    def replace_nanny(self, number: int) -> None:
        """Kill a nanny, whose worker then ends, and start another one."""
        self.nannies[number].signal(signal.SIGKILL)
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
