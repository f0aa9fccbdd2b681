"""``overtile prefect down``: stops what ``up`` started here, and nothing else."""

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

from .background import PrefectProcess, exclusive, find_part, process_of
from .server import TakenError, find_server, is_here, open_client
from .up import POOL

ACTIVE = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
CANCEL_S = 90.0
POLL_S = 0.5


def take_down(say: Callable[[str], None], *, cancel: bool) -> None:
    """Stop the worker, then the server, that ``up`` started here.

    cancel: cancel active flow runs first. Raises ClusterError if there are some and ``cancel`` is
    false, or if they run on another machine.
    """
    with exclusive():
        worker, server = find_part("worker"), find_part("server")
        asked = worker or server  # runs outlive a killed worker; others are not ours
        if asked and _is_served(asked, server, cancel=cancel):
            with open_client(asked.url) as client:
                _end_runs(client, say, cancel=cancel)
        for part in (worker, server):
            if part and process_of(part.part).stop():
                say(f"{part.part}: stopped (started {part.since})")
    if worker is None and server is None:
        say("nothing to stop: no server or worker of overtile prefect up runs here")


def _is_served(asked: PrefectProcess, server: PrefectProcess | None, *, cancel: bool) -> bool:
    """Return whether the server of a worker, or a server, can be asked for active runs."""
    try:
        return find_server(asked.url) is not None
    except TakenError as error:
        if server is None and is_here(asked.url):
            return False  # its server has ended, and another program has the port now
        if server is not None and cancel:
            return False
        raise ClusterError(
            f"cannot ask for active flow runs: {error}; overtile prefect down --cancel stops "
            "without asking"
        ) from error


def active_runs(client: SyncPrefectClient) -> list[FlowRun]:
    """Return the flow runs of our pool that are pending, running or being cancelled."""
    return client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=ACTIVE))
        ),
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[POOL])),
    )


def _end_runs(client: SyncPrefectClient, say: Callable[[str], None], *, cancel: bool) -> None:
    runs = active_runs(client)
    if runs and not cancel:
        raise ClusterError(
            f"active flow runs: {_named(runs)}; wait until they finish, or cancel them with "
            "overtile prefect down --cancel: a new run with the same parameters resumes"
        )
    for run in runs:
        client.set_flow_run_state(run.id, Cancelling())
        say(f"cancelled: {run.name} ({run.id})")
        say(f"  $ prefect flow-run cancel {run.id}")
    until = time.monotonic() + CANCEL_S
    while (left := active_runs(client)) and time.monotonic() < until:
        time.sleep(POLL_S)
    if left:
        say(f"not ended after {CANCEL_S:.0f} s: {_named(left)}")


def _named(runs: list[FlowRun]) -> str:
    return ", ".join(f"{run.name} ({run.id})" for run in runs)
