"""The deployment `segment-local` as docs/prefect.md has it: real server and runs.

The slow tests start server and worker by the page's commands, the others by `overtile prefect up`,
which runs the same commands (test_up.py).
"""

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path
from signal import SIGKILL, SIGTERM

import numpy as np
import psutil
import pytest
import zarr
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

ROOT = Path(__file__).parents[3]
PREFECT = str(Path(sys.executable).with_name("prefect"))
SERVER = "prefect server start"
RECIPE = (
    "prefect work-pool create overtile --type process --overwrite",
    "prefect --no-prompt deploy --prefect-file deploy/prefect.yaml --name *-local",
)
WORKER = "prefect worker start --pool overtile --type process"
RUN = "prefect deployment run segment-volume/segment-local"
TRAIN = "prefect deployment run train-unet/train-local"
PATIENCE_S = 180


class Deployment:
    """A separate Prefect server with a worker and our deployment."""

    def __init__(self, home):
        self.home = home
        self.port = free_port()
        self.api = f"http://127.0.0.1:{self.port}/api"
        self.worker = None
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
        self.environment = {
            **inherited,
            "HOME": str(home),
            "PREFECT_HOME": str(home / ".prefect"),
            "PREFECT_API_URL": self.api,
            "PREFECT_SERVER_API_PORT": str(self.port),
            "DO_NOT_TRACK": "1",
            "COLUMNS": "400",
            "PWD": str(ROOT),  # as every shell has it
        }

    def prefect(self, command, *arguments, cwd=ROOT):
        """Run one command to its end; return (exit code, what it printed)."""
        done = subprocess.run(
            [PREFECT, *command.split()[1:], *arguments], cwd=cwd, env=self.environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENCE_S,
        )  # fmt: skip
        return done.returncode, done.stdout

    @contextmanager
    def started(self, command):
        """Run a command in the background while inside; then end its processes."""
        log = self.home / f"{command.split()[1]}.log"
        with log.open("w") as out:
            process = subprocess.Popen(
                [PREFECT, *command.split()[1:]], cwd=ROOT, env=self.environment, stdout=out,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        try:
            yield process
        finally:
            end(process)

    def client(self):
        return SyncPrefectClient(self.api)

    def run(self, **parameters):
        return run(self, **parameters)


def run(prefect, *, watch=True, command=RUN, **parameters):
    """Start a flow run; return (exit code, what was printed, the flow run's id)."""
    given = [f"{name}={as_text(value)}" for name, value in parameters.items()]
    pairs = [word for text in given for word in ("-p", text)]
    # From another folder: relative paths in parameters are relative to the project's folder.
    code, printed = prefect.prefect(command, *(["--watch"] * watch), *pairs, cwd=prefect.home)
    found = re.search(r"UUID: (\S+)", printed)
    return code, printed, found and found[1]


def as_text(value):
    return value if isinstance(value, str) else json.dumps(value)


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def end(process):
    """End a process and its descendants, by their ids."""
    with suppress(psutil.NoSuchProcess):
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, SIGKILL)
    process.wait(timeout=10)


def wait_until(condition, *, what, timeout_s=PATIENCE_S):
    end_at = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_at, f"waited in vain for {what}"
        time.sleep(0.2)


def answers(url):
    with suppress(OSError):
        return urllib.request.urlopen(url, timeout=5).status == 200
    return False


@pytest.fixture(scope="module")
def deployment(tmp_path_factory):
    deployment = Deployment(tmp_path_factory.mktemp("home"))
    with deployment.started(SERVER):
        wait_until(lambda: answers(f"{deployment.api}/health"), what="the server")
        for command in RECIPE:
            code, printed = deployment.prefect(command)
            assert code == 0, printed
        with deployment.started(WORKER) as worker:
            deployment.worker = psutil.Process(worker.pid)
            yield deployment


@pytest.fixture
def stored(tmp_path, textured):
    """A volume of 24 slices in chunks of their own."""
    zarr.create_array(
        tmp_path / "in.zarr", data=textured((1, 24, 32, 200))[0], chunks=(1, 32, 16),
        dimension_names=["z", "y", "x"],
    )  # fmt: skip
    return tmp_path / "in.zarr"


def test_the_recipe_is_the_one_in_the_docs():
    page = (ROOT / "docs/prefect.md").read_text()
    for command in (SERVER, *RECIPE, WORKER, f"{RUN} --watch"):
        assert f"    {command.replace('*-local', shlex.quote('*-local'))}" in page


def test_a_run_of_the_deployment_completes_and_watching_it_ends_with_0(
    shared_front, stored, tmp_path
):
    output = tmp_path / "out.zarr"
    project = shared_front.project
    code, printed, _ = run(
        shared_front, input=os.path.relpath(stored, project),
        output=os.path.relpath(output, project), weights="demo",
        options={"outputs": ["classes", "scores"], "block": [8, 32, 64]}, cluster={"workers": 1},
    )  # fmt: skip
    assert code == 0, printed
    assert zarr.open_array(output / "labels/classes/0", mode="r").shape == (24, 32, 200)
    assert zarr.open_array(output / "0", mode="r").shape == (2, 24, 32, 200)


def test_a_failed_run_fails_its_watcher_and_writes_nothing(shared_front, tmp_path):
    output = tmp_path / "out.zarr"
    code, printed, flow_run = run(
        shared_front, input=str(tmp_path / "nothing.zarr"), output=str(output), weights="demo"
    )
    assert code == 1, printed
    assert not output.exists()
    with shared_front.client() as client:
        state = client.read_flow_run(flow_run).state
    assert state.is_failed()
    assert state.message.endswith(f"VolumeError: {tmp_path}/nothing.zarr does not exist")


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"options": {"outputs": ["klasses"]}}, r"options\.outputs.*klasses"),
        pytest.param({"options": {"block": [8, 16]}}, r"options\.block", marks=pytest.mark.slow),
        ({"inptu": "in.zarr"}, "inptu"),
    ],
    ids=["choice", "two sizes", "name"],
)
def test_wrong_parameters_are_rejected_before_anything_is_scheduled(
    shared_front, wrong, named, tmp_path
):
    with shared_front.client() as client:
        before = len(client.read_flow_runs())
        right = {"input": "in.zarr", "output": str(tmp_path / "out.zarr"), "weights": "demo"}
        code, printed, flow_run = run(shared_front, **{**right, **wrong}, watch=False)
        assert code == 1
        assert re.search(named, printed), printed
        assert flow_run is None
        assert len(client.read_flow_runs()) == before


def test_the_deployment_contains_the_form_and_the_server_is_on_loopback_in_its_home(shared_front):
    with shared_front.client() as client:
        deployment = client.read_deployment_by_name("segment-volume/segment-local")
    schema = deployment.parameter_openapi_schema
    assert schema["required"] == ["input", "output", "weights"]
    options = schema["definitions"]["SegmentOptions"]["properties"]
    assert options["engine"]["enum"] == ["store", "map_overlap"]
    assert deployment.enforce_parameter_schema
    assert deployment.work_pool_name == "overtile"
    assert (shared_front.home / ".prefect/prefect.db").is_file()
    port = int(re.search(r":(\d+)/", shared_front.api)[1])
    listening = {
        connection.laddr
        for connection in psutil.net_connections("tcp")
        if connection.status == "LISTEN" and connection.laddr.port == port
    }
    assert {address.ip for address in listening} == {"127.0.0.1"}


@pytest.fixture
def training(tmp_path, textured):
    """Return the parameters of a small training, and its folder of checkpoints."""
    raw = textured((3, 32, 36))
    zarr.create_array(tmp_path / "raw.zarr", data=raw, chunks=(1, 16, 18))
    zarr.create_array(tmp_path / "labels.zarr", data=(raw > 128).astype("u1"), chunks=(1, 32, 36))
    (tmp_path / "config.toml").write_text(
        "[network]\nbase_channels = 2\nlevels = 2\n"
        '[training]\npatch = [12, 12]\nprecision = "fp32"\ncheckpoint_every = 50\n'
        "augment = { elastic_sigma = 1.0 }"
    )
    pair = {"volume": str(tmp_path / "raw.zarr"), "labels": str(tmp_path / "labels.zarr")}
    parameters = {
        "volumes": [pair],
        "out": str(tmp_path / "w.safetensors"), "command": TRAIN,
        "options": {"config": str(tmp_path / "config.toml"), "resume": True, "steps": 3},
    }  # fmt: skip
    return parameters, tmp_path / "w.training"


@pytest.mark.slow
def test_a_training_of_the_deployment_completes(deployment, training):
    parameters, directory = training
    code, printed, _ = deployment.run(**parameters)
    assert code == 0, printed
    assert Path(parameters["out"]).is_file()
    assert (directory / "log.csv").is_file()


def kept_step(directory):
    found = max(directory.glob("checkpoint-*"), default=None)
    return found and int(re.search(r"\d+", found.name)[0])


@pytest.mark.slow
def test_cancelling_a_training_saves_a_checkpoint_and_a_new_run_resumes(deployment, training):
    parameters, directory = training
    parameters["options"]["steps"] = 1_000_000
    *_, flow_run = deployment.run(**parameters, watch=False)
    wait_until(lambda: kept_step(directory), what="the first checkpoint")
    at_work = deployment.worker.children(recursive=True)
    assert len(at_work) >= 2, "the flow run, and a Dask worker"
    code, printed = deployment.prefect("prefect flow-run cancel", flow_run)
    assert code == 0, printed
    with deployment.client() as client:
        wait_until(lambda: client.read_flow_run(flow_run).state.is_final(), what="the end")
        assert client.read_flow_run(flow_run).state.is_cancelled()
    _, alive = psutil.wait_procs(at_work, timeout=10)
    assert alive == []
    log = (directory / "log.csv").read_text().splitlines()
    step = kept_step(directory)
    assert log[-1].startswith(f"{step},"), "the ranks were asked, and saved the step they were at"
    *_, flow_run = deployment.run(**parameters, watch=False)
    wait_until(lambda: kept_step(directory) > step, what="a checkpoint of the new run")
    deployment.prefect("prefect flow-run cancel", flow_run)


HELD = (6, 7, 14, 15)
"""Slices at the end of the first two regions: they block all three threads of the one worker."""


@contextmanager
def held_back(volume, slices):
    """Block every reader of the first chunk of these slices while inside.

    The first chunk, because the sample that a run takes of its input lies further inside.
    """
    chunks = {chunk: chunk.read_bytes() for z in slices for chunk in volume.glob(f"c/{z}/0/0")}
    assert len(chunks) == len(slices)
    for chunk in chunks:
        chunk.unlink()
        os.mkfifo(chunk)
    try:
        yield
    finally:
        for chunk, stored in chunks.items():
            chunk.unlink()
            chunk.write_bytes(stored)


def done_in(output):
    try:
        return np.flatnonzero(zarr.open_array(output / "run/done", mode="r")[...] == 1).tolist()
    except (OSError, ValueError, KeyError, RuntimeError):  # not there yet, or being written
        return []


@pytest.mark.slow
def test_cancelling_stops_the_blocks_and_a_new_run_resumes(deployment, stored, weights, tmp_path):
    output = tmp_path / "out.zarr"
    parameters = {
        "input": str(stored), "output": str(output), "weights": weights("2d"),
        "options": {"block": [1, 32, 200]}, "cluster": {"workers": 1},
    }  # fmt: skip
    begun = [z for z in range(16) if z not in HELD]
    with held_back(stored, HELD):
        *_, flow_run = deployment.run(**parameters, watch=False)
        wait_until(lambda: done_in(output) == begun, what="all blocks that can be done")
        at_work = deployment.worker.children(recursive=True)
        assert len(at_work) >= 2, "the flow run, and a Dask worker"
        written = {path: path.stat().st_mtime_ns for path in shards(output)}
        code, printed = deployment.prefect("prefect flow-run cancel", flow_run)
        assert code == 0, printed
        with deployment.client() as client:
            wait_until(lambda: client.read_flow_run(flow_run).state.is_final(), what="the end")
            assert client.read_flow_run(flow_run).state.is_cancelled()
            of_run = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run]))
            regions = {r.name: r.state.type for r in client.read_task_runs(flow_run_filter=of_run)}
        assert list(regions.values()) == ["CANCELLED", "CANCELLED"]
        assert all(name.startswith("region ") for name in regions)
        _, alive = psutil.wait_procs(at_work, timeout=10)
        assert alive == []
    assert done_in(output) == begun
    code, printed, _ = deployment.run(**parameters)
    assert code == 0, printed
    assert done_in(output) == list(range(24))
    kept = {path: path.stat().st_mtime_ns for path in written}
    assert kept == written, "what was done is not done again"


def shards(output):
    return [path for path in (output / "labels/classes/0/c").rglob("*") if path.is_file()]


@pytest.mark.parametrize("password", ["its own", "hunter2hunter2"])
def test_a_password_in_the_address_of_the_server_is_not_printed(password, shared_front):
    given = shared_front.auth if password == "its own" else f"me:{password}"
    url = shared_front.api.replace("://", f"://{given}@")
    code, printed = shared_front.overtile("prefect", "status", PREFECT_API_URL=url)
    assert code == (0 if password == "its own" else 2), printed
    assert "://***@127.0.0.1" in printed
    assert given.partition(":")[2] not in printed
