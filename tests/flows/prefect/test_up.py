"""`overtile prefect up`, from an empty home: a real server, worker, deployments and automation."""

import inspect
import json
import os
import re
import shlex
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import import_module
from pathlib import Path

import psutil
import pytest
import yaml
import zarr

from flows.prefect.available import LIMITS, why_not
from flows.prefect.deployment_names import VERBS, full_name, new_name
from flows.prefect.run_names import NAMED_AFTER
from flows.prefect.up import old_deployments

ROOT = Path(__file__).parents[3]
DEPLOYED = yaml.safe_load((ROOT / "deploy/prefect.yaml").read_text())["deployments"]
OLD = yaml.safe_load((ROOT / "deploy/old-names.yaml").read_text())["deployments"]


def flow_of(deployment):
    return deployment["entrypoint"].rpartition(".")[2].replace("_", "-")


def commands(told):
    return [shlex.split(line)[1:] for line in told.splitlines() if line.startswith("  $ ")]


def test_up_creates_everything_in_order_and_prints_the_command_of_each_step(shared_front):
    assert [words[1:3] for words in commands(shared_front.told)] == [
        ["server", "start"], ["work-pool", "create"], ["--no-prompt", "deploy"],
        ["work-queue", "set-concurrency-limit"], ["automation", "create"], ["worker", "start"],
    ]  # fmt: skip
    with shared_front.client() as client:
        assert client.read_work_pool("overtile").type == "process"
        (queue,) = [
            queue
            for queue in client.read_work_queues(work_pool_name="overtile")
            if queue.name == "local"
        ]
        assert queue.concurrency_limit == LIMITS["local"]
        names = {deployment.name for deployment in client.read_deployments()}
        assert names == {"segment-local", "train-local", "evaluate-local"}, "of this machine only"
        for name in ("segment-volume/segment-local", "train-unet/train-local"):
            deployment = client.read_deployment_by_name(name)
            assert deployment.parameters == {"cluster": "local"}
            assert deployment.work_queue_name == "local"
            assert deployment.tags == ["overtile", "local"]
            assert deployment.description.count(".") == 1
            assert deployment.pull_steps[0].popitem()[1]["directory"] == str(shared_front.project)
        (automation,) = client.read_automations_by_name("overtile-lost-runs")
        assert automation.enabled


def test_up_reports_what_it_left_out_and_the_remedy(shared_front):
    printed = shared_front.told
    left_out = re.findall(
        r"left out: (\S+) and (\S+) \((.+); once that has changed, run (.+) again\)", printed
    )
    assert [names for *names, _, _ in left_out] == [
        ["segment-cuda", "train-cuda"], ["segment-slurm", "train-slurm"],
    ]  # fmt: skip
    assert {again for *_, again in left_out} == {"overtile prefect up"}
    assert not re.search(r"NVML|pynvml|--cluster", printed)


def test_a_cluster_is_available_once_what_it_lacks_is_there(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("DASK_CUDA_TEST_DISABLE_DEVICE_SPECIFIC", "0")
    assert "sbatch is not on the PATH" in why_not("slurm")
    (tmp_path / "sbatch").write_text("#!/bin/sh\n")
    (tmp_path / "sbatch").chmod(0o755)
    assert f"{tmp_path}/overtile/slurm.toml does not exist" in why_not("slurm")
    (tmp_path / "overtile").mkdir()
    (tmp_path / "overtile/slurm.toml").write_text('kind = "slurm"\n')
    assert why_not("slurm") is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "hides all" in why_not("cuda")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("DASK_CUDA_TEST_DISABLE_DEVICE_SPECIFIC", "1")
    assert why_not("cuda") is None


@pytest.mark.parametrize("cluster", LIMITS)
def test_every_deployment_has_an_old_name(cluster):
    new_names = {
        (each["entrypoint"], each["name"]) for each in DEPLOYED if each["name"].endswith(cluster)
    }
    now = {
        (each["entrypoint"], new_name(f"{flow_of(each)}/{each['name']}").partition("/")[2])
        for each in OLD
        if each["name"] == cluster
    }
    assert now == new_names
    for each in OLD:
        (same,) = [
            one
            for one in DEPLOYED
            if new_name(f"{flow_of(each)}/{each['name']}") == f"{flow_of(one)}/{one['name']}"
        ]
        assert all(each[key] == same[key] for key in ("parameters", "work_pool", "entrypoint"))


def test_deployments_of_other_flows_are_no_old_names(shared_front):
    with shared_front.client() as client:
        made = [
            client.create_deployment(client.create_flow_from_name(flow), "local")
            for flow in ("of-the-team", "train-unet")
        ]
        try:
            found = old_deployments(client, ["local", "slurm"])
        finally:
            for deployment in made:
                client.delete_deployment(deployment)
    assert found == ["flows.train_unet.train_unet/local"]
    entrypoints = {each["entrypoint"] for each in OLD}
    assert {name.partition("/")[0] for name in found} <= entrypoints, "as prefect deploy selects"


def test_the_docs_list_the_commands_that_up_prints(shared_front):
    docs = (ROOT / "docs/prefect.md").read_text()
    for words in commands(shared_front.told):
        typed = shlex.join(["prefect", *words[1:]]).partition(" --host")[0]
        assert f"\n    {typed.replace(f'{ROOT}/', '')}" in docs


def test_the_files_of_up_are_in_the_installed_package():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = settings["tool"]["setuptools"]["package-data"]["deploy"]
    shipped = {path for pattern in patterns for path in (ROOT / "deploy").glob(pattern)}
    assert {
        path for path in (ROOT / "deploy").rglob("*.yaml") if "kubernetes" not in path.parts
    } <= shipped
    plugins = settings["project"]["entry-points"]["prefect.plugins"]
    assert plugins == {"overtile": "flows.prefect.deployment_names"}


@pytest.mark.slow
def test_up_again_starts_nothing_twice_and_keeps_changes_by_the_user(front):
    before = {part: front.kept(part) for part in ("server", "worker")}
    front.done("prefect work-queue set-concurrency-limit local 3 --pool overtile")
    code, told = front.overtile("prefect", "up", "--old-names")
    assert code == 0, told
    with front.client() as client:
        for flow in VERBS:
            assert client.read_deployment_by_name(f"{flow}/local").parameters == {
                "cluster": "local"
            }
    code, told = front.overtile("prefect", "up")
    assert code == 0, told
    deploy = ["--no-prompt", "deploy"]
    assert [words[1:3] for words in commands(told)] == [deploy, deploy], "the old names too"
    assert {part: front.kept(part) for part in ("server", "worker")} == before
    with front.client() as client:
        (queue,) = [
            queue
            for queue in client.read_work_queues(work_pool_name="overtile")
            if queue.name == "local"
        ]
        assert queue.concurrency_limit == 3
        assert len(client.read_automations()) == 1


def test_status_shows_server_worker_and_deployments(shared_front):
    code, printed = shared_front.overtile("prefect", "status")
    assert code == 0
    assert f"server: {shared_front.api}, Prefect" in printed
    assert f"worker: started in {shared_front.project}" in printed
    for each in DEPLOYED:
        is_here = each["name"].endswith("-local")
        assert (f"{flow_of(each)}/{each['name']}" in printed) == is_here


def test_the_server_listens_on_loopback_only(shared_front):
    port = int(re.search(r":(\d+)/", shared_front.api)[1])
    listening = {
        connection.laddr.ip
        for connection in psutil.net_connections("tcp")
        if connection.status == "LISTEN" and connection.laddr.port == port
    }
    assert listening == {"127.0.0.1"}


LATER = ("--start-in", "24 hours")


def deployment_of(front, flow_run_id):
    with front.client() as client:
        deployment = client.read_deployment(client.read_flow_run(flow_run_id).deployment_id)
        flow = client.read_flow(deployment.flow_id)
    return f"{flow.name}/{deployment.name}"


@pytest.fixture
def parameters():
    return {"input": "in.zarr", "output": "out.zarr", "weights": "demo"}


@pytest.mark.parametrize("name", ["segment-local", "segment-volume/local"])
def test_short_and_old_names_are_found(shared_front, parameters, name):
    flow_run = shared_front.run(name, *LATER, **parameters)
    assert deployment_of(shared_front, flow_run) == "segment-volume/segment-local"
    assert shared_front.flow_run(flow_run).name == "segment out.zarr", "before it starts"


def test_a_run_that_waits_keeps_the_name_that_a_person_gave(shared_front, parameters):
    named = (*LATER, "--flow-run-name", "left eye")
    flow_run = shared_front.run("segment-volume/segment-local", *named, **parameters)
    assert shared_front.flow_run(flow_run).name == "left eye"


def test_runs_of_every_flow_are_named_after_one_of_its_parameters():
    for each in DEPLOYED:
        module, _, flow = each["entrypoint"].rpartition(".")
        _, parameter = NAMED_AFTER[flow_of(each)]
        assert parameter in inspect.signature(getattr(import_module(module), flow).fn).parameters


def test_after_up_a_prefect_command_finds_the_server_in_any_folder_with_no_more_settings(
    shared_front, parameters, tmp_path
):
    pairs = [word for name, value in parameters.items() for word in ("-p", f"{name}={value}")]
    code, printed = shared_front.prefect(
        "prefect deployment run segment-volume", *LATER, *pairs, PREFECT_API_URL=None, cwd=tmp_path
    )
    assert code == 0, printed
    flow_run = re.search(r"UUID: (\S+)", printed)[1]
    assert deployment_of(shared_front, flow_run) == "segment-volume/segment-local"


def test_a_short_name_is_the_deployment_that_prefect_toml_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prefect.toml").write_text(
        '[overtile.deployments]\nsegment-volume = "segment-volume/slurm"\n'
    )
    assert full_name("segment-volume") == "segment-volume/slurm"
    assert full_name("train-unet") == "train-unet/train-local"


def test_an_unknown_short_name_is_answered_with_the_known_ones(shared_front):
    code, printed = shared_front.prefect("prefect deployment run segment-volumes")
    assert code == 1
    assert "(prefect.toml lists segment-volume, train-unet" in printed
    assert "use FLOW/DEPLOYMENT, like segment-volume/segment-local" in printed


OTHER_PREFECT = '''
"""A Prefect whose client and commands have renamed one of their methods."""
import sys
from importlib.machinery import PathFinder, SourceFileLoader

CHANGED = ("prefect.cli.deployment", "prefect.client.orchestration._deployments.client")

class Renaming(SourceFileLoader):
    def get_code(self, fullname):
        source = self.get_data(self.path).replace(b"read_deployment_by_name", b"read_deployment")
        source = source.replace(b"def read_deployment(\\n        self,\\n        name",
                                b"def read_named(\\n        self,\\n        name")
        source = source.replace(b"client.read_deployment(name)", b"client.read_named(name)")
        return self.source_to_code(source, self.path)

class Finder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name not in CHANGED:
            return None
        spec = super().find_spec(name, path, target)
        spec.loader = Renaming(name, spec.origin)
        return spec

sys.meta_path.insert(0, Finder)
'''


@pytest.mark.slow
def test_with_another_prefect_the_plugin_disables_itself_and_the_full_name_works(
    shared_front, parameters, tmp_path
):
    (tmp_path / "sitecustomize.py").write_text(OTHER_PREFECT)
    pairs = [word for name, value in parameters.items() for word in ("-p", f"{name}={value}")]
    other = {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    code, printed = shared_front.prefect(
        "prefect deployment run segment-volume/segment-local", *LATER, *pairs, **other
    )
    assert code == 0, printed
    assert "short names of deployments do not work with this Prefect: use FLOW" in printed
    code, printed = shared_front.prefect(
        "prefect deployment run segment-volume", *LATER, *pairs, **other
    )
    assert code == 1
    assert "Invalid deployment name format: segment-volume" in printed


@pytest.mark.slow
def test_two_runs_of_a_cluster_run_one_after_the_other(front, parameters):
    runs = [front.run("segment-volume/segment-local", **parameters) for _ in range(2)]
    assert not any(front.ended(run).is_completed() for run in runs), "there is no such input"
    first, second = sorted((front.flow_run(run) for run in runs), key=lambda run: run.start_time)
    assert second.start_time >= first.end_time


@pytest.mark.slow
def test_down_refuses_active_runs_unless_they_may_be_cancelled(front, waiting, textured, tmp_path):
    raw = textured((64, 256, 256))
    zarr.create_array(tmp_path / "in.zarr", data=raw, dimension_names=["z", "y", "x"])
    flow_run = front.run(
        "segment-volume/segment-local", input=str(tmp_path / "in.zarr"), weights="demo",
        output=str(tmp_path / "out.zarr"), options={"tta": "full"}, cluster={"workers": 1},
    )  # fmt: skip
    waiting(lambda: front.flow_run(flow_run).state.is_running(), what="the run")
    code, printed = front.overtile("prefect", "down")
    assert (code, flow_run in printed) == (2, True)
    processes = [*front.processes("worker"), *front.processes("server")]
    code, printed = front.overtile("prefect", "down", "--cancel")
    assert code == 0, printed
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert alive == []
    assert front.overtile("prefect", "down")[1].startswith("nothing to stop")
    code, told = front.overtile("prefect", "up")
    assert code == 0, told
    assert [words[1:3] for words in commands(told)] == [
        ["server", "start"], ["--no-prompt", "deploy"], ["worker", "start"],
    ]  # fmt: skip
    assert front.ended(flow_run).is_cancelled()


class Answer(BaseHTTPRequestHandler):
    """Answers every request with the same text."""

    says, status = "", 200

    def do_GET(self):
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(json.dumps(self.says).encode())

    def log_message(self, *words):
        pass


@pytest.mark.parametrize(
    ("what", "status", "says", "told"),
    [
        ("up", 404, "", r"is in use by another program, not by Prefect .*set another port"),
        (
            "status",
            200,
            "2.20.1",
            r"runs Prefect 2\.20\.1, this machine 3\..*install the same version",
        ),
    ],
    ids=["another server", "another Prefect"],
)
def test_another_server_at_the_port_is_reported_in_one_line(
    tmp_path, new_front, what, status, says, told
):
    front = new_front(tmp_path)
    port = int(re.search(r":(\d+)/", front.api)[1])
    handler = type("Answer", (Answer,), {"status": status, "says": says})
    with HTTPServer(("127.0.0.1", port), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        code, printed = front.overtile("prefect", what)
        server.shutdown()
    assert code == 2
    assert printed.count("\n") == 1
    assert re.match(f"overtile: .*{told}", printed)
    assert not (front.home / ".local/state/overtile/prefect/server.json").exists()


def test_a_remote_server_that_does_not_answer_is_reported_in_one_line(tmp_path, new_front):
    front = new_front(tmp_path, PREFECT_API_URL="http://192.0.2.1:4200/api")
    code, printed = front.overtile("prefect", "up")
    assert (code, printed.count("\n")) == (2, 1)
    assert re.match(r"overtile: no server answers at .*another machine: start it there", printed)
