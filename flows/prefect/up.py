"""``overtile prefect up``: server, pool, deployments, limits, automation and worker, in this order.

Each step looks first whether it is done, and otherwise does it and prints the plain Prefect command
that does the same. Nothing that a person has changed is set back.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.exceptions import ObjectNotFound

from pipeline.base.errors import ClusterError

from .background import (
    directory,
    find_kept,
    last_words,
    log_of,
    one_at_a_time,
    prefect_command,
    start_kept,
)
from .server import (
    environment_of,
    find_server,
    is_here,
    open_client,
    port_of,
    server_url,
    settings_note,
)

POOL = "overtile"
LIMITS = {"local": 1, "cuda": 1, "slurm": 8}
"""Runs at a time of each cluster's queue: a run takes the whole machine, or submits jobs."""
AUTOMATION = "overtile-lost-runs"
SERVER_S, WORKER_S = 180.0, 180.0
LOOK_S = 0.3


def bring_up(say: Callable[[str], None]) -> None:
    """Start and register what is missing; tell each step. Raises ClusterError."""
    url = server_url()
    with one_at_a_time():
        run = _Runner(url=url, say=say)
        _server(run)
        with open_client(url) as client:
            _pool(client, run)
            _deployments(run)
            _limits(client, run)
            _automation(client, run)
            _worker(client, run)
    if note := settings_note(url):
        say(f"note: {note}")


class _Runner:
    """Runs plain Prefect commands, and prints them."""

    def __init__(self, *, url: str, say: Callable[[str], None]) -> None:
        self.url, self.say = url, say
        self.environment = {**environment_of(url), "PWD": str(Path.cwd())}

    def __call__(self, *arguments: str) -> None:
        """Run ``prefect ARGUMENTS``. Raises ClusterError with its last line where it fails."""
        self.show(*arguments)
        done = subprocess.run(  # noqa: S603  Prefect's own command
            prefect_command(arguments), env=self.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            log = directory() / "up.log"
            log.write_text(done.stdout)
            raise ClusterError(
                f"{command_text(*arguments)} failed: {reason(done.stdout)}; log {log}"
            )

    def show(self, *arguments: str) -> None:
        """Print ``prefect ARGUMENTS``."""
        self.say(f"  $ {command_text(*arguments)}")


def reason(said: str) -> str:
    """Return the line of a command's output that says why it failed.

    >>> reason("Traceback …\\n  File …\\nhttpx.ReadTimeout: too slow\\nAn exception occurred.")
    'httpx.ReadTimeout: too slow'
    """
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    raised = [
        line for line in lines if re.match(r"[\w.]*(Error|Exception|Timeout|NotFound)\b", line)
    ]
    return next(reversed(raised or lines), "it said nothing")


def command_text(*arguments: str) -> str:
    """Return a Prefect command as a person types it."""
    return shlex.join(["prefect", *arguments])


def shipped(name: str) -> Path:
    """Return a file of the package ``deploy``; it is installed as files, never in an archive."""
    with as_file(files("deploy") / name) as path:
        return path


def _server(run: _Runner) -> None:
    url, say = run.url, run.say
    if version := find_server(url):
        say(f"server: Prefect {version} answers already at {url}")
        return
    if not is_here(url):
        raise ClusterError(
            f"no server answers at {url}, and it is on another machine: start it there with "
            f"prefect server start --host 0.0.0.0 --port {port_of(url)}"
        )
    if (kept := find_kept("server")) and kept.url != url:
        raise ClusterError(
            f"overtile prefect up has started a server at {kept.url}, and now {url} is asked for: "
            "end that one first with overtile prefect down"
        )
    command = ("server", "start", "--host", "127.0.0.1", "--port", str(port_of(url)))
    say(f"server: started in the background, log {log_of('server')}")
    run.show(*command)
    process = start_kept("server", command, url=url, environment=run.environment)
    _wait_until(lambda: _answers(url), "server", process, within_s=SERVER_S)


def _answers(url: str) -> bool:
    with suppress(ClusterError):  # it listens, and is not ready yet
        return find_server(url) is not None
    return False


def _pool(client: SyncPrefectClient, run: _Runner) -> None:
    try:
        client.read_work_pool(POOL)
        run.say(f"work pool: {POOL} is there")
    except ObjectNotFound:
        run.say(f"work pool: {POOL}")
        run("work-pool", "create", POOL, "--type", "process")


def _deployments(run: _Runner) -> None:
    run.say(f"deployments: flow runs start in {Path.cwd()}")
    run("--no-prompt", "deploy", "--all", "--prefect-file", str(shipped("prefect.yaml")))


def _limits(client: SyncPrefectClient, run: _Runner) -> None:
    queues = {queue.name: queue for queue in client.read_work_queues(work_pool_name=POOL)}
    for name, limit in LIMITS.items():
        if (there := queues[name].concurrency_limit) is not None:
            run.say(f"queue {name}: at most {there} runs at a time, as it was")
            continue
        run.say(f"queue {name}: at most {limit} runs at a time")
        run.show("work-queue", "set-concurrency-limit", name, str(limit), "--pool", POOL)
        client.update_work_queue(queues[name].id, concurrency_limit=limit)  # 2 s sooner


def _automation(client: SyncPrefectClient, run: _Runner) -> None:
    if client.read_automations_by_name(AUTOMATION):
        run.say(f"automation: {AUTOMATION} is there")
        return
    run.say(f"automation: {AUTOMATION} marks runs Crashed that were lost")
    run("automation", "create", "--from-file", str(shipped("lost-runs.automation.yaml")))


def _worker(client: SyncPrefectClient, run: _Runner) -> None:
    url, say = run.url, run.say
    if (kept := find_kept("worker")) and kept.url == url:
        say(f"worker: runs already, in {kept.folder}")
        return
    if kept:
        raise ClusterError(
            f"overtile prefect up has started a worker of {kept.url}, and now {url} is asked for: "
            "end that one first with overtile prefect down"
        )
    command = ("worker", "start", "--pool", POOL, "--type", "process")
    say(f"worker: started in the background, log {log_of('worker')}")
    run.show(*command)
    known = _online(client)
    process = start_kept("worker", command, url=url, environment=run.environment)
    _wait_until(lambda: _online(client) - known, "worker", process, within_s=WORKER_S)


def _online(client: SyncPrefectClient) -> set[str]:
    return {worker.name for worker in client.read_workers_for_work_pool(POOL)}


def _wait_until(
    condition: Callable[[], Any], part: Any, process: subprocess.Popen[bytes], *, within_s: float
) -> None:
    """Wait for a process to be of use. Raises ClusterError with its last words where it is not."""
    until = time.monotonic() + within_s
    while not condition():
        if process.poll() is not None or time.monotonic() > until:
            process.terminate()
            raise ClusterError(
                f"the {part} did not start: {last_words(part) or 'silently'}; log {log_of(part)}"
            )
        time.sleep(LOOK_S)
