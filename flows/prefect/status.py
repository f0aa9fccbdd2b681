"""``overtile prefect status`` and ``env``: what runs, and how to reach it."""

from __future__ import annotations

import shlex

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import WorkPoolFilter, WorkPoolFilterName
from prefect.exceptions import ObjectNotFound

from pipeline.base.errors import RunError
from pipeline.base.text import counted

from .background import Part, check_here, find_part, process_of
from .down import active_runs
from .server import find_server, open_client, server_url
from .start import known_access
from .up import AUTOMATION, POOL


def status_text() -> str:
    """Return the status as text. Raises RunError if no server answers; ClusterError."""
    check_here()
    url = server_url()
    version = find_server(url)
    if version is None:
        raise RunError(f"no Prefect server answers at {url}: start one with overtile prefect up")
    lines = [f"server: {url}, Prefect {version}, {_origin('server')}"]
    lines.append(f"worker: {_origin('worker')}")
    with open_client(url) as client:
        lines += _registered(client)
    return "\n".join(lines)


def env_text() -> str:
    """Return the commands of a shell that point ``prefect`` at this user's server.

    They contain the password. Raises RunError if no server answers; ClusterError.
    """
    check_here()
    url = server_url()
    if find_server(url) is None:
        raise RunError(f"no Prefect server answers at {url}: start one with overtile prefect up")
    values = {"PREFECT_API_URL": url, "PREFECT_PLUGINS_ENABLED": "true"}
    if auth := known_access(url).auth:
        values["PREFECT_API_AUTH_STRING"] = auth
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in values.items())


def _origin(part: Part) -> str:
    record = find_part(part)
    if record is None:
        return "not started by overtile prefect up here"
    return f"started in {record.folder} at {record.since}, log {process_of(part).log}"


def _registered(client: SyncPrefectClient) -> list[str]:
    try:
        client.read_work_pool(POOL)
    except ObjectNotFound:
        return [f"work pool: {POOL} not found; create it with overtile prefect up"]
    found = client.read_deployments(
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[POOL]))
    )
    flows = {flow.id: flow.name for flow in client.read_flows()}
    names = sorted(f"{flows.get(each.flow_id, '?')}/{each.name}" for each in found)
    has_automation = bool(client.read_automations_by_name(AUTOMATION))
    runs = active_runs(client)
    queues = sorted(client.read_work_queues(work_pool_name=POOL), key=lambda queue: queue.name)
    limits = [f"{q.name} {q.concurrency_limit}" for q in queues if q.concurrency_limit]
    return [
        f"deployments: {', '.join(names) or 'none'}",
        f"concurrency limits: {', '.join(limits) or 'none'}",
        f"automation: {AUTOMATION} "
        + ("marks lost runs Crashed" if has_automation else "is missing: lost runs stay Running"),
        *(f"active: {run.name} ({run.id}), {run.state_name}" for run in runs),
        *([] if runs else [counted(0, "active run")]),
    ]
