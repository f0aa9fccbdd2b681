"""Fixtures of the flows: the shell, a terminal, and Prefect as `overtile prefect up` starts it."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import prefect.context
import psutil
import pytest
import zarr
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.context import get_settings_context
from prefect.logging.handlers import APILogWorker
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_URL,
    PREFECT_HOME,
    PREFECT_LOGGING_TO_API_BATCH_INTERVAL,
    temporary_settings,
)

from deploy.preflight.findings import Finding
from flows.cli.main import main

ROOT = Path(__file__).parents[2]
PATIENCE_S = 600
STATE = ".local/state/overtile/prefect"
NO_SUCH_PROXY = {
    "http_proxy": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9",
    "ALL_PROXY": "socks5h://127.0.0.1:9", "no_proxy": "localhost,.site.org",
}  # fmt: skip
"""The environment of a login node whose proxy knows nothing of this machine's loopback."""


class Front:
    """A home, a project folder in it, and the commands that a person would type there."""

    def __init__(self, home, **environment):
        self.home = home
        self.project = home / "project"
        self.project.mkdir()
        (self.project / "prefect.toml").write_text((ROOT / "prefect.toml").read_text())
        self.api = f"http://127.0.0.1:{a_free_port()}/api"
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PREFECT_", "XDG_"))
        }
        self.environment = {
            **inherited, "HOME": str(home), "PREFECT_HOME": str(home / ".prefect"),
            "PREFECT_API_URL": self.api, "PREFECT_API_REQUEST_TIMEOUT": "300",
            "PREFECT_WORKER_QUERY_SECONDS": "1",  # default: a run waits for up to 10 s
            "DO_NOT_TRACK": "1", "COLUMNS": "400", **environment,
        }  # fmt: skip

    def said(self, module, *arguments, cwd=None, **environment):
        """Run one command to its end; return (exit code, what it printed). None unsets."""
        variables = {**self.environment, **environment}
        done = subprocess.run(
            [sys.executable, "-P", "-m", module, *map(str, arguments)], cwd=cwd or self.project,
            env={name: value for name, value in variables.items() if value is not None},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENCE_S,
            check=False,
        )  # fmt: skip
        return done.returncode, done.stdout

    def overtile(self, *arguments, **more):
        return self.said("flows.cli", *arguments, **more)

    def prefect(self, command, *arguments, **more):
        return self.said("prefect", *command.split()[1:], *arguments, **more)

    def done(self, command, *arguments, **more):
        """Run a Prefect command that must succeed; return what it printed."""
        code, printed = self.prefect(command, *arguments, **more)
        assert code == 0, printed
        return printed

    def run(self, deployment, *arguments, **parameters):
        """Ask for a flow run; return its id."""
        pairs = [
            word
            for name, value in parameters.items()
            for word in ("-p", f"{name}={value if isinstance(value, str) else json.dumps(value)}")
        ]
        printed = self.done("prefect deployment run", deployment, *arguments, *pairs)
        return re.search(r"UUID: (\S+)", printed)[1]

    def client(self):
        return SyncPrefectClient(self.api, auth_string=self.auth)

    @property
    def auth(self):
        """USER:PASSWORD of the server that `up` has started."""
        return json.loads((self.home / STATE / "access.json").read_text())["auth"]

    def flow_run(self, flow_run_id):
        with self.client() as client:
            return client.read_flow_run(flow_run_id)

    def flow_runs(self, flow, *states):
        """Return the runs of a flow, in the order in which they began; in these states only."""
        kept = FlowRunFilterState(type=FlowRunFilterStateType(any_=list(states)))
        with self.client() as client:
            found = client.read_flow_runs(
                flow_filter=FlowFilter(name=FlowFilterName(any_=[flow])),
                flow_run_filter=FlowRunFilter(state=kept) if states else None,
            )
        return sorted(found, key=lambda run: (run.start_time is None, run.start_time))

    def ended(self, flow_run_id):
        """Return the state in which a run ends."""
        wait_until(lambda: self.flow_run(flow_run_id).state.is_final(), what=f"run {flow_run_id}")
        return self.flow_run(flow_run_id).state

    def kept(self, part):
        """Return what is written of a process in the background."""
        return json.loads((self.home / STATE / f"{part}.json").read_text())

    def processes(self, part):
        """Return a process in the background and all that it started."""
        process = psutil.Process(self.kept(part)["pid"])
        return [process, *process.children(recursive=True)]


def a_free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def wait_until(condition, *, what, timeout_s=PATIENCE_S):
    end_at = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_at, f"waited in vain for {what}"
        time.sleep(0.3)


@pytest.fixture
def shell(monkeypatch, capsys):
    """Return a function that runs a command: exit code, standard output and standard error."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # pytest keeps its own handlers

    def run(*argv):
        try:
            code = main(argv)
        except SystemExit as exit_:  # argparse leaves so
            code = exit_.code
        return (code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def on_a_terminal(commands):
    """Return a function that runs a command with standard error on a terminal: what it showed."""

    def run(words, *, columns):
        master, terminal = pty.openpty()
        environment = {"TERM": "xterm", "COLUMNS": str(columns), "LINES": "24"}
        run = commands.start(words, environment=environment, terminal=os.ttyname(terminal))
        shown, is_over = b"", False
        while not is_over:
            is_over = run.poll() is not None  # what it wrote before is still to be read
            while select.select([master], [], [], 0.05)[0]:
                shown += os.read(master, 65536)
        for end in (master, terminal):
            os.close(end)
        assert run.poll() == 0, shown.decode()
        return shown.decode()

    return run


@pytest.fixture(scope="session")
def labelled_folder(tmp_path_factory, textured):
    """Return a function that makes a folder with a small volume, its labels and a config."""

    def make(config, *, depth):
        folder = tmp_path_factory.mktemp("labelled")
        raw = textured((depth, 32, 36))
        labels = (raw > 128).astype("u1")
        zarr.create_array(
            folder / "raw.zarr", data=raw, chunks=(1, 16, 18), dimension_names=list("zyx")
        )
        zarr.create_array(
            folder / "labels.zarr", data=labels, chunks=(1, 32, 36), dimension_names=list("zyx")
        )
        (folder / "config.toml").write_text(config)
        return folder

    return make


@pytest.fixture(scope="session")
def waiting():
    """Return the function that waits for a condition."""
    return wait_until


@pytest.fixture(scope="session")
def free_port():
    """Return the function that finds a port which nobody listens at."""
    return a_free_port


@pytest.fixture(scope="session")
def new_front():
    """Return the class, to make a home with nothing running."""
    return Front


def brought_up(home):
    """Bring Prefect up in an empty home, yield its front, and end all of it."""
    front = Front(home, **NO_SUCH_PROXY)
    try:
        code, front.told = front.overtile("prefect", "up")
        assert code == 0, front.told
        yield front
    finally:
        code, printed = front.overtile("prefect", "down", "--cancel")
    assert code == 0, printed


@pytest.fixture(scope="session")
def shared_front(tmp_path_factory):
    """Return a front for all tests that change nothing but their own flow runs."""
    yield from brought_up(tmp_path_factory.mktemp("shared-home"))


@pytest.fixture(scope="session")
def server(shared_front):
    """Have the flows that are called in this process use the server of the shared front."""
    home = shared_front.home / "flows-in-this-process"
    with (
        temporary_settings(
            {
                PREFECT_API_URL: shared_front.api,
                PREFECT_API_AUTH_STRING: shared_front.auth,
                PREFECT_HOME: home,
                PREFECT_LOGGING_TO_API_BATCH_INTERVAL: 0.1,  # tests wait for what was logged
            }
        ),
        pytest.MonkeyPatch.context() as patch,
    ):
        # Threads without a context, such as the one that logs a training's steps, use this one.
        patch.setattr(prefect.context, "GLOBAL_SETTINGS_CONTEXT", get_settings_context())
        yield
        APILogWorker.drain_all()


@pytest.fixture(scope="module")
def front(tmp_path_factory):
    """Return a front for the tests of one module."""
    yield from brought_up(tmp_path_factory.mktemp("home"))


@pytest.fixture
def refusing(monkeypatch):
    """Have preflight find what forbids a run; return what it says."""
    text = "worker a on b has another voice: give it ours"
    found = (Finding(level="error", check="voice", text=text),)
    monkeypatch.setattr("flows.preflight.checks.preflight", lambda *_, **__: found)
    return text
