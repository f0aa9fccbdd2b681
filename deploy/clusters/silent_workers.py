"""Finds workers that stand still, names them, and passes their tasks to other workers.

Dask gives a silent worker five minutes, whatever it does. Here a worker whose process makes no
progress (stopped, suspended, or waiting for a file system that is gone) is restarted by its nanny
within a minute; where the nanny is silent too, the scheduler removes the worker. A worker that
computes is left alone, however long it is silent (see silence.py).
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from .silence import UNOBSERVED_S, Observation, ProcessState, Silence, ask_after_s, standstill

if TYPE_CHECKING:
    from distributed import Client, Nanny, Scheduler

CHECK_EVERY_S = 4.0
ANSWER_S = 4.0
"""Timeout for an answer of a nanny, which has nothing else to do."""
RESTART_S = 10.0
"""How long a nanny may take to end its worker's process."""
END_S = 1.0
"""How long the end of a cluster waits for a check that is in progress."""


@contextmanager
def watched(client: Client, notify: Callable[[str], None]) -> Iterator[None]:
    """Watch the workers of a cluster while inside. notify: takes a line for each silent worker."""
    watch = _Watch(client, notify)
    watch.start()
    try:
        yield
    finally:
        watch.over.set()
        watch.join(END_S)


class _Watch(threading.Thread):
    def __init__(self, client: Client, notify: Callable[[str], None]) -> None:
        super().__init__(name="silent-workers", daemon=True)
        self.over = threading.Event()
        self._client, self._notify = client, notify
        self._silences: dict[str, Silence] = {}
        self._reported: set[str] = set()
        self._checked_at = time.monotonic()

    def run(self) -> None:
        """Check every few seconds until the end."""
        while not self.over.wait(CHECK_EVERY_S) and self._client.status == "running":
            with suppress(Exception):  # the scheduler is busy or gone: the run reports that
                self._client.sync(self._check)

    async def _check(self) -> None:
        records = (await self._client.scheduler.identity(n_workers=-1))["workers"]
        now = time.monotonic()
        elapsed_s = min(now - self._checked_at, 2 * CHECK_EVERY_S)  # this process may have slept
        self._checked_at = now
        before, self._silences = self._silences, {}
        for address, record in records.items():
            seen = record["last_seen"]
            silence = before.get(address, Silence(last_seen=seen))
            self._silences[address] = silence.after(elapsed_s, last_seen=seen)
        limit_s = ask_after_s(len(records))
        silent = [one for one in records if self._silences[one].silent_s >= limit_s]
        await asyncio.gather(*(self._judge(one, records[one]) for one in silent))

    async def _judge(self, address: str, record: Mapping[str, Any]) -> None:
        """Observe a silent worker, and act if it stands still."""
        observation: Observation = "unknown"
        if record["nanny"]:
            observation = await self._observe(address)
        silence = self._silences[address].with_observation(observation)
        self._silences[address] = silence
        why = standstill(silence.observations)
        if why is not None:
            self._say(address, record, f"{why}; its work goes to other workers")
            await self._give_up(address, restart=observation != "no answer")
        elif observation == "unknown" and silence.silent_s >= UNOBSERVED_S:
            self._say(
                address, record,
                "and nothing shows whether it computes: Dask waits for it some minutes longer",
            )  # fmt: skip

    async def _observe(self, address: str) -> Observation:
        """Ask a worker's nanny about the worker's process."""
        call = self._client.run(process_state, workers=[address], nanny=True, on_error="return")
        try:
            state = (await asyncio.wait_for(call, ANSWER_S)).get(address)
        except OSError:  # a TimeoutError is one
            return "no answer"
        if isinstance(state, OSError):
            return "no answer"
        return state if isinstance(state, ProcessState) else "unknown"

    async def _give_up(self, address: str, *, restart: bool) -> None:
        """Have the nanny end and restart the process, or the scheduler remove the worker."""
        stimulus = f"silent-worker-{time.time()}"
        if restart:
            await self._client.scheduler.restart_workers(
                workers=[address], timeout=RESTART_S, wait_for_workers=False, on_error="return",
                stimulus_id=stimulus,
            )  # fmt: skip
        else:
            await self._client.run_on_scheduler(forget, address, stimulus)

    def _say(self, address: str, record: Mapping[str, Any], why: str) -> None:
        """Report a worker, once."""
        if address not in self._reported:
            self._reported.add(address)
            silent_s = self._silences[address].silent_s
            name = f"worker {record['name']} on {record['host']}"
            self._notify(f"{name} has been silent for {silent_s:.0f} s, {why}")


async def forget(address: str, stimulus: str, dask_scheduler: Scheduler) -> None:
    """Remove a worker without closing it. Runs in the scheduler.

    Once it wakes it learns that it was removed, and joins again (see rejoin.py); a worker that is
    asked to close does not. A remote call of ``unregister`` cannot say so: ``close`` of a message
    closes its connection.
    """
    await dask_scheduler.remove_worker(address, stimulus_id=stimulus, close=False)


def process_state(dask_worker: Nanny) -> ProcessState | None:
    """Return the state of a nanny's worker process; None if it has none. Runs in the nanny."""
    import psutil  # only here: a plan and each command's help would wait for it

    pid = dask_worker.pid
    if pid is None:
        return None
    try:
        process = psutil.Process(pid)
        status, cpu = process.status(), process.cpu_times()
    except psutil.Error:
        return None
    transferred = 0
    with suppress(psutil.Error, AttributeError):  # macOS has no such counters
        transferred = sum(process.io_counters())
    return ProcessState(
        is_stopped=status in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP),
        cpu_s=cpu.user + cpu.system, transferred=transferred,
    )  # fmt: skip
