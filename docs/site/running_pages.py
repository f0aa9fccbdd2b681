"""Pages of programs at work: Prefect's form and a run of it, and the Dask dashboard of a run."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

OVERTILE = (sys.executable, "-P", "-m", "flows.cli")
PREFECT = (sys.executable, "-P", "-m", "prefect")
DEPLOYMENT = "segment-volume/segment-local"


@dataclass(frozen=True)
class PrefectPages:
    """A Prefect that `overtile prefect up` has started, in a home that is removed at the end."""

    address: str
    environment: dict[str, str]

    @property
    def form(self) -> str:
        """Address of the form of `segment-local`."""
        with SyncPrefectClient(f"{self.address}/api") as client:
            deployment = client.read_deployment_by_name(DEPLOYMENT)
        return f"{self.address}/deployments/deployment/{deployment.id}/run"

    @property
    def deployments(self) -> str:
        """Address of the list of deployments."""
        return f"{self.address}/deployments"

    def start(self, **parameters: object) -> str:
        """Segment through Prefect; return the id of the run once it computes."""
        given = [
            word
            for name, value in parameters.items()
            for word in ("-p", f"{name}={json.dumps(value)}")
        ]
        done = subprocess.run(
            [*PREFECT, "deployment", "run", DEPLOYMENT, *given], check=True,
            env=self.environment, capture_output=True, text=True,
        )  # fmt: skip
        (flow_run,) = re.findall(r"UUID: (\S+)", done.stdout)
        with SyncPrefectClient(f"{self.address}/api") as client:
            while not client.read_task_runs(flow_run_filter=_only(flow_run)):
                self._check_alive(client, flow_run)
        return str(flow_run)

    def wait(self, flow_run: str) -> None:
        """Return when a run has completed; end with an error if it fails."""
        with SyncPrefectClient(f"{self.address}/api") as client:
            while not client.read_flow_run(UUID(flow_run)).state.is_completed():
                self._check_alive(client, flow_run)

    def page(self, flow_run: str) -> str:
        """Address of the page of a run."""
        return f"{self.address}/runs/flow-run/{flow_run}"

    def _check_alive(self, client: SyncPrefectClient, flow_run: str) -> None:
        state = client.read_flow_run(UUID(flow_run)).state
        if state.is_failed() or state.is_crashed() or state.is_cancelled():
            sys.exit(f"the run of Prefect ended: {state.message}")
        time.sleep(0.5)


def _only(flow_run: str) -> FlowRunFilter:
    return FlowRunFilter(id=FlowRunFilterId(any_=[UUID(flow_run)]))


@contextmanager
def prefect_pages(folder: Path) -> Iterator[PrefectPages]:
    """Start a server and a worker, whose runs start in a folder, and end them.

    The server is started by hand: that of `overtile prefect up` asks the browser for a password.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "XDG_"))}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        environment = {
            **inherited, "HOME": home, "PREFECT_HOME": f"{home}/.prefect",
            "PREFECT_API_URL": f"{address}/api", "PREFECT_PLUGINS_ENABLED": "true",
            "DO_NOT_TRACK": "1", "COLUMNS": "200",
        }  # fmt: skip

        def overtile(*words: str) -> None:
            subprocess.run([*OVERTILE, "prefect", *words], cwd=folder, env=environment, check=True)

        serve = [*PREFECT, "server", "start", "--host", "127.0.0.1", "--port", str(port)]
        quiet = subprocess.DEVNULL
        with subprocess.Popen(serve, env=environment, stdout=quiet, stderr=quiet) as server:
            try:
                _wait_until_healthy(address)
                overtile("up")
                yield PrefectPages(address, environment)
            finally:
                overtile("down", "--cancel")
                server.terminate()


def _wait_until_healthy(address: str, *, within_s: float = 180.0) -> None:
    until = time.monotonic() + within_s
    while True:
        try:
            with urllib.request.urlopen(f"{address}/api/health", timeout=10):  # noqa: S310  http
                return
        except OSError:
            if time.monotonic() > until:
                raise
        time.sleep(0.5)


@contextmanager
def dashboard_of(*words: str) -> Iterator[str]:
    """Run an overtile command; yield the address of its Dask dashboard once blocks are computed."""
    with subprocess.Popen([*OVERTILE, *words], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        link = ""
        for line in process.stderr:
            link = link or "".join(re.findall(r"dashboard: (\S+)", line))
            if link and "segmenting" in line:
                break
        try:
            yield link
        finally:
            process.terminate()
            process.communicate()
