"""``overtile prefect up``: server, pool, deployments, limits, automation and worker, in this order.

Each step is skipped if it was done before; otherwise it prints the equivalent Prefect command.
Settings that a user has changed are left unchanged.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable
from contextlib import suppress
from importlib.resources import as_file, files
from pathlib import Path

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.exceptions import ObjectNotFound

from pipeline.base.errors import ClusterError

from .available import LIMITS, why_not
from .background import (
    Part,
    directory,
    exclusive,
    find_part,
    prefect_command,
    process_of,
    start_part,
)
from .deployment_names import VERBS
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
AUTOMATION = "overtile-lost-runs"
SERVER_S, WORKER_S = 180.0, 180.0


def bring_up(say: Callable[[str], None], *, old_names: bool = False) -> None:
    """Start and register what is missing; report each step. Raises ClusterError.

    old_names: register the deployments under the names of earlier versions too.
    """
    url = server_url()
    with exclusive():
        run = _Runner(url=url, say=say)
        _server(run)
        with open_client(url) as client:
            _pool(client, run)
            clusters = _clusters(run)
            _deployments(client, run, clusters, old_names=old_names)
            _limits(client, run, clusters)
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
        """Run ``prefect ARGUMENTS``. Raises ClusterError with the reason if it fails."""
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


def reason(output: str) -> str:
    """Return the line of a command's output that states why it failed.

    >>> reason("Traceback …\\n  File …\\nhttpx.ReadTimeout: too slow\\nAn exception occurred.")
    'httpx.ReadTimeout: too slow'
    """
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    raised = [
        line for line in lines if re.match(r"[\w.]*(Error|Exception|Timeout|NotFound)\b", line)
    ]
    return next(reversed(raised or lines), "no output")


def command_text(*arguments: str) -> str:
    """Return a Prefect command as typed in a shell."""
    return shlex.join(["prefect", *arguments])


def shipped(name: str) -> Path:
    """Return a file of the package ``deploy``, which is never installed as an archive."""
    with as_file(files("deploy") / name) as path:
        return path


def _server(run: _Runner) -> None:
    url, say = run.url, run.say
    if version := find_server(url):
        say(f"server: Prefect {version} is already running at {url}")
        return
    if not is_here(url):
        raise ClusterError(
            f"no server answers at {url}, which is another machine: start it there with "
            f"prefect server start --host 0.0.0.0 --port {port_of(url)}"
        )
    _refuse_other_url("server", url)
    command = ("server", "start", "--host", "127.0.0.1", "--port", str(port_of(url)))
    say(f"server: started in the background, log {process_of('server').log}")
    run.show(*command)
    process = start_part("server", command, url=url, environment=run.environment)
    _wait_until(lambda: _answers(url), "server", process, within_s=SERVER_S)


def _answers(url: str) -> bool:
    with suppress(ClusterError):  # it listens, but is not ready yet
        return find_server(url) is not None
    return False


def _pool(client: SyncPrefectClient, run: _Runner) -> None:
    try:
        client.read_work_pool(POOL)
        run.say(f"work pool: {POOL} exists")
    except ObjectNotFound:
        run.say(f"work pool: {POOL}")
        run("work-pool", "create", POOL, "--type", "process")


def _clusters(run: _Runner) -> list[str]:
    """Return the clusters that this machine can use; report the others, with the remedy."""
    missing = {cluster: why_not(cluster) for cluster in LIMITS}
    for cluster, why in missing.items():
        if why:
            run.say(
                f"left out: segment-{cluster} and train-{cluster} ({why}; then run overtile "
                "prefect up again)"
            )
    return [cluster for cluster, why in missing.items() if not why]


def _deployments(
    client: SyncPrefectClient, run: _Runner, clusters: list[str], *, old_names: bool
) -> None:
    run.say(f"deployments: flow runs start in {Path.cwd()}")
    _deploy(run, "prefect.yaml", [f"*-{cluster}" for cluster in clusters])
    if old_names:
        run.say("deployments under the names of earlier versions, such as segment-volume/local")
        _deploy(run, "old-names.yaml", clusters)
    elif old := old_deployments(client, clusters):
        run.say("deployments of an earlier version, such as segment-volume/local: updated")
        _deploy(run, "old-names.yaml", old)


def old_deployments(client: SyncPrefectClient, clusters: list[str]) -> list[str]:
    """Return the deployments of earlier versions on a server, as prefect deploy selects them.

    Like ``flows.segment_volume.segment_volume/local``. Those of other flows may have these names.
    """
    found = []
    for flow in VERBS:
        of_flow = FlowFilter(name=FlowFilterName(any_=[flow]))
        names = {deployment.name for deployment in client.read_deployments(flow_filter=of_flow)}
        module = flow.replace("-", "_")
        found += [f"flows.{module}.{module}/{name}" for name in clusters if name in names]
    return found


def _deploy(run: _Runner, file: str, names: list[str]) -> None:
    given = [word for name in names for word in ("--name", name)]
    run("--no-prompt", "deploy", "--prefect-file", str(shipped(file)), *given)


def _limits(client: SyncPrefectClient, run: _Runner, clusters: list[str]) -> None:
    queues = {queue.name: queue for queue in client.read_work_queues(work_pool_name=POOL)}
    for name in clusters:
        limit = LIMITS[name]
        if (existing := queues[name].concurrency_limit) is not None:
            run.say(f"queue {name}: at most {existing} concurrent runs, unchanged")
            continue
        run.say(f"queue {name}: at most {limit} concurrent runs")
        run.show("work-queue", "set-concurrency-limit", name, str(limit), "--pool", POOL)
        client.update_work_queue(queues[name].id, concurrency_limit=limit)  # 2 s faster


def _automation(client: SyncPrefectClient, run: _Runner) -> None:
    if client.read_automations_by_name(AUTOMATION):
        run.say(f"automation: {AUTOMATION} exists")
        return
    run.say(f"automation: {AUTOMATION} marks lost runs Crashed")
    run("automation", "create", "--from-file", str(shipped("lost-runs.automation.yaml")))


def _worker(client: SyncPrefectClient, run: _Runner) -> None:
    url, say = run.url, run.say
    _refuse_other_url("worker", url)
    if worker := find_part("worker"):
        say(f"worker: already running, in {worker.folder}")
        return
    command = ("worker", "start", "--pool", POOL, "--type", "process")
    say(f"worker: started in the background, log {process_of('worker').log}")
    run.show(*command)
    known = _online(client)
    process = start_part("worker", command, url=url, environment=run.environment)
    _wait_until(lambda: _online(client) - known, "worker", process, within_s=WORKER_S)


def _online(client: SyncPrefectClient) -> set[str]:
    return {worker.name for worker in client.read_workers_for_work_pool(POOL)}


def _refuse_other_url(part: Part, url: str) -> None:
    """Raise ClusterError if ``up`` started this part for another server."""
    if (running := find_part(part)) and running.url != url:
        raise ClusterError(
            f"overtile prefect up has started a {part} for {running.url}, not for {url}: stop it "
            "first with overtile prefect down"
        )


def _wait_until(
    ready: Callable[[], object], part: Part, process: subprocess.Popen[bytes], *, within_s: float
) -> None:
    """Wait until a process is ready. Raises ClusterError with the last line of its log."""
    background = process_of(part)
    if not background.wait_until(ready, process, within_s=within_s):
        raise ClusterError(
            f"the {part} did not start: {background.last_line() or 'empty log'}; "
            f"log {background.log}"
        )
