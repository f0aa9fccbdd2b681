"""``overtile prefect up``: server, pool, deployments, limits, automation and worker, in this order.

Each step is skipped if it was done before; otherwise it prints the equivalent Prefect command.
Settings that a user has changed are left unchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import as_file, files
from pathlib import Path

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.exceptions import ObjectNotFound

from deploy.processes.limits import explained_limits

from .available import LIMITS, why_not
from .background import check_here, exclusive, find_part, process_of, start_part
from .commands import Commands
from .deployment_names import VERBS
from .profile import enable_plugin
from .server import is_here, open_client
from .start import choose_url, known_access, refuse_other_url, start_server, wait_until_ready

POOL = "overtile"
AUTOMATION = "overtile-lost-runs"
WORKER_S = 180.0


def bring_up(say: Callable[[str], None], *, old_names: bool = False) -> None:
    """Start and register what is missing; report each step. Raises ClusterError.

    old_names: register the deployments under the names of earlier versions too.
    """
    with exclusive(), explained_limits("start Prefect"):
        check_here()
        run = start_server(choose_url(say), say)
        with open_client(run.url) as client:
            _pool(client, run)
            clusters = _clusters(run)
            _deployments(client, run, clusters, old_names=old_names)
            _limits(client, run, clusters)
            _automation(client, run)
            _worker(client, run)
        access = known_access(run.url)
    if is_here(run.url) and access.auth:
        enable_plugin(say)
        say(
            f"browser: {run.url.removesuffix('/api')}, with the password that overtile prefect env "
            "prints"
        )


def shipped(name: str) -> Path:
    """Return a file of the package ``deploy``, which is never installed as an archive."""
    with as_file(files("deploy") / name) as path:
        return path


def _pool(client: SyncPrefectClient, run: Commands) -> None:
    try:
        client.read_work_pool(POOL)
        run.say(f"work pool: {POOL} exists")
    except ObjectNotFound:
        run.say(f"work pool: {POOL}")
        run("work-pool", "create", POOL, "--type", "process")


def _clusters(run: Commands) -> list[str]:
    """Return the clusters that this machine can use; report the others, with the remedy."""
    missing = {cluster: why_not(cluster) for cluster in LIMITS}
    for cluster, why in missing.items():
        if why:
            run.say(
                f"left out: segment-{cluster} and train-{cluster} ({why}; once that has "
                "changed, run overtile prefect up again)"
            )
    return [cluster for cluster, why in missing.items() if not why]


def _deployments(
    client: SyncPrefectClient, run: Commands, clusters: list[str], *, old_names: bool
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


def _deploy(run: Commands, file: str, names: list[str]) -> None:
    given = [word for name in names for word in ("--name", name)]
    run("--no-prompt", "deploy", "--prefect-file", str(shipped(file)), *given)


def _limits(client: SyncPrefectClient, run: Commands, clusters: list[str]) -> None:
    queues = {queue.name: queue for queue in client.read_work_queues(work_pool_name=POOL)}
    for name in clusters:
        limit = LIMITS[name]
        if (existing := queues[name].concurrency_limit) is not None:
            run.say(f"queue {name}: at most {existing} concurrent runs, unchanged")
            continue
        run.say(f"queue {name}: at most {limit} concurrent runs")
        run.show("work-queue", "set-concurrency-limit", name, str(limit), "--pool", POOL)
        client.update_work_queue(queues[name].id, concurrency_limit=limit)  # 2 s faster


def _automation(client: SyncPrefectClient, run: Commands) -> None:
    if client.read_automations_by_name(AUTOMATION):
        run.say(f"automation: {AUTOMATION} exists")
        return
    run.say(f"automation: {AUTOMATION} marks lost runs Crashed")
    run("automation", "create", "--from-file", str(shipped("lost-runs.automation.yaml")))


def _worker(client: SyncPrefectClient, run: Commands) -> None:
    url, say = run.url, run.say
    refuse_other_url("worker", url)
    if worker := find_part("worker"):
        say(f"worker: already running, in {worker.folder}")
        return
    command = ("worker", "start", "--pool", POOL, "--type", "process")
    say(f"worker: started in the background, log {process_of('worker').log}")
    run.show(*command)
    known = _online(client)
    process = start_part("worker", command, url=url, environment=run.environment)
    wait_until_ready(lambda: _online(client) - known, "worker", process, within_s=WORKER_S)


def _online(client: SyncPrefectClient) -> set[str]:
    return {worker.name for worker in client.read_workers_for_work_pool(POOL)}
