"""``overtile prefect down``: the end of what ``up`` started, and of nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Cancelling

from pipeline.base.errors import ClusterError

from .background import find_kept, one_at_a_time, stop_kept
from .server import find_server, open_client
from .up import POOL

AT_WORK = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
CANCEL_S = 90.0
LOOK_S = 0.5


def take_down(say: Callable[[str], None], *, cancel: bool) -> None:
    """End the worker, then the server, that ``up`` started here.

    cancel: cancel flow runs that are at work first. Raises ClusterError where there are some and
    ``cancel`` is not asked for.
    """
    with one_at_a_time():
        worker, server = find_kept("worker"), find_kept("server")
        if worker and find_server(worker.url):
            with open_client(worker.url) as client:
                _end_runs(client, say, cancel=cancel)
        for kept in (worker, server):
            if kept and stop_kept(kept.part):
                say(f"{kept.part}: stopped, it ran since {kept.since}")
    if worker is None and server is None:
        say("nothing to stop: overtile prefect up has started neither server nor worker here")


def runs_at_work(client: SyncPrefectClient) -> list[FlowRun]:
    """Return the flow runs of our pool that a worker has in hand."""
    return client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=AT_WORK))
        ),
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[POOL])),
    )


def _end_runs(client: SyncPrefectClient, say: Callable[[str], None], *, cancel: bool) -> None:
    runs = runs_at_work(client)
    if runs and not cancel:
        raise ClusterError(
            f"at work: {', '.join(f'{run.name} ({run.id})' for run in runs)}; wait for the end, "
            "or cancel with overtile prefect down --cancel: the same parameters resume later"
        )
    for run in runs:
        client.set_flow_run_state(run.id, Cancelling())
        say(f"cancelled: {run.name} ({run.id})")
        say(f"  $ prefect flow-run cancel {run.id}")
    until = time.monotonic() + CANCEL_S
    while runs_at_work(client) and time.monotonic() < until:
        time.sleep(LOOK_S)
