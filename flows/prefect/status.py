"""``overtile prefect status``: what runs, and what is registered."""

from __future__ import annotations

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import WorkPoolFilter, WorkPoolFilterName
from prefect.exceptions import ObjectNotFound

from pipeline.base.errors import RunError
from pipeline.base.text import counted

from .background import Part, find_kept, log_of
from .down import runs_at_work
from .server import find_server, open_client, server_url
from .up import AUTOMATION, POOL


def look_text() -> str:
    """Return what runs, for a person. Raises RunError where no server answers, ClusterError."""
    url = server_url()
    version = find_server(url)
    if version is None:
        raise RunError(f"no Prefect server answers at {url}: start one with overtile prefect up")
    lines = [f"server: {url}, Prefect {version}, {_by_whom('server')}"]
    lines.append(f"worker: {_by_whom('worker')}")
    with open_client(url) as client:
        lines += _registered(client)
    return "\n".join(lines)


def _by_whom(part: Part) -> str:
    kept = find_kept(part)
    if kept is None:
        return "none that overtile prefect up started here"
    return f"started in {kept.folder} on {kept.since}, log {log_of(part)}"


def _registered(client: SyncPrefectClient) -> list[str]:
    try:
        client.read_work_pool(POOL)
    except ObjectNotFound:
        return [f"work pool: no {POOL}; overtile prefect up makes it"]
    found = client.read_deployments(
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[POOL]))
    )
    flows = {flow.id: flow.name for flow in client.read_flows()}
    names = sorted(f"{flows.get(each.flow_id, '?')}/{each.name}" for each in found)
    marked = "marks" if client.read_automations_by_name(AUTOMATION) else "is missing: nobody marks"
    runs = runs_at_work(client)
    queues = sorted(client.read_work_queues(work_pool_name=POOL), key=lambda queue: queue.name)
    limits = [f"{q.name} {q.concurrency_limit}" for q in queues if q.concurrency_limit]
    return [
        f"deployments: {', '.join(names) or 'none'}",
        f"runs at a time: {', '.join(limits) or 'no limit'}",
        f"automation: {AUTOMATION} {marked} lost runs Crashed",
        *(f"at work: {run.name} ({run.id}), {run.state_name}" for run in runs),
        *([] if runs else [counted(0, "run") + " at work"]),
    ]
