"""A cluster that outlives a run: started, shared, inspected and stopped by name."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from deploy import ClusterSpec, open_cluster, parse_cluster
from deploy.clusters.started import (
    directory_of,
    find_started,
    process_of,
    scheduler_file_of,
    start_cluster,
    started_names,
    stop_cluster,
    tls_of_address,
)
from flows.cli.main import main
from pipeline.base.errors import ClusterError


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        profile = folder / "config/overtile/small.toml"
        profile.parent.mkdir(parents=True)
        profile.write_text('kind = "local"\nworkers = 1\ndashboard = "127.0.0.1:0"\n')
        yield folder
        for name in started_names():
            stop_cluster(name)


@pytest.fixture
def small(home):
    """Return the running cluster ``small``."""
    if not process_of("small").is_running():
        start_cluster("small")
    return find_started("small")


def family(started):
    """Return the processes of a cluster and its workers."""
    process = psutil.Process(started.pid)
    return [process, *process.children(recursive=True)]


def all_ended(processes, *, within_s):
    _, alive = psutil.wait_procs(processes, timeout=within_s)
    return not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]


def shell(capsys, *arguments):
    code = main([*arguments])
    return (code, *capsys.readouterr())


@pytest.fixture(autouse=True)
def _keep_handlers(monkeypatch):
    monkeypatch.setattr(signal, "signal", lambda *_: None)


def test_runs_find_a_started_cluster_by_its_name_and_leave_it_running(small):
    assert parse_cluster("small") == ClusterSpec(
        kind="scheduler_file", where=str(scheduler_file_of("small")), first_worker_s=10.0,
        tls=small.tls,
    )  # fmt: skip
    pids = set()
    for where in ("small", small.address):
        with open_cluster(where) as client:
            assert client.scheduler.address == small.address
            pids |= set(client.run(os.getpid).values())
    assert len(pids) == 1, "another run had another worker"
    assert process_of("small").is_running()


def test_only_who_can_read_the_keys_of_a_started_cluster_reaches_it(small, strangers, first_byte):
    assert small.address.startswith("tls://127.0.0.1:")
    keys = Path(small.tls)
    assert keys.parent == directory_of("small")
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in keys.iterdir()} == {0o600}
    for who, stranger in strangers.items():
        assert first_byte(int(small.address.rpartition(":")[2]), stranger) == b"", who
    shown = (directory_of("small") / "scheduler.json").read_text() + process_of(
        "small"
    ).log.read_text()
    assert "PRIVATE" not in shown


def test_status_shows_the_workers_and_their_tasks(small, capsys):
    with open_cluster("small") as client:
        busy = [client.submit(time.sleep, 60, key=("segment-block", n)) for n in range(3)]
        while not any(client.processing().values()):
            time.sleep(0.05)
        code, text, _ = shell(capsys, "cluster", "status", "small")
        assert code == 0
        assert text.startswith(f"small: local on {small.host}, {small.address}, since ")
        assert "worker 0 on 127.0.0.1, 3 threads, running: 3 segment-block" in text
        client.cancel(busy, force=True)
    code, text, _ = shell(capsys, "cluster", "status", "--json")
    (told,) = json.loads(text)
    assert told["started"]["name"] == "small"
    assert [worker["threads"] for worker in told["workers"]] == [3]


def test_a_running_cluster_is_not_started_again(small, capsys):
    code, _, text = shell(capsys, "cluster", "start", "small")
    assert code == 2
    assert "cluster small is already running" in text
    assert find_started("small") == small


def test_a_record_of_another_version_does_not_disturb_other_addresses(small):
    other = directory_of("older") / "cluster.json"
    other.parent.mkdir(parents=True)
    other.write_text('{"name": "older"}')
    assert tls_of_address(small.address) == small.tls
    assert tls_of_address("tls://127.0.0.1:1") is None
    shutil.rmtree(other.parent)


def test_stop_ends_the_processes_of_start_and_nothing_else(small, capsys):
    processes = family(small)
    assert len(processes) >= 2
    bystander = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with bystander:
        assert shell(capsys, "cluster", "stop", "small")[0] == 0
        assert all_ended(processes, within_s=10)
        assert bystander.poll() is None
        bystander.kill()
    assert not directory_of("small").exists()
    assert parse_cluster("small").kind == "local", "the word means its profile again"
    code, _, text = shell(capsys, "cluster", "stop", "small")
    assert (code, "no cluster small was started; started clusters: none" in text) == (2, True)


@pytest.mark.slow
def test_a_killed_cluster_leaves_no_worker_and_is_reported_not_replaced(small, capsys):
    processes = family(small)
    os.kill(small.pid, signal.SIGKILL)
    assert all_ended(processes, within_s=20)
    with pytest.raises(ClusterError, match="cluster small has ended unexpectedly"):
        parse_cluster("small")
    code, _, text = shell(capsys, "cluster", "status", "small")
    assert (code, "cluster small has ended unexpectedly" in text) == (1, True)
    stand_in = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with stand_in:  # the process id of a cluster that is gone may be another's now
        file = directory_of("small") / "cluster.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "pid": stand_in.pid}))
        assert shell(capsys, "cluster", "stop", "small")[0] == 0
        assert stand_in.poll() is None
        stand_in.kill()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["start", "nothing"],
            "cluster nothing did not start: cluster 'nothing': expected local, cuda, slurm",
        ),
        (["start", "local"], "use letters, digits, dots and dashes"),
        (["start", "../a"], "use letters, digits, dots and dashes"),
        (["start", "a", "--cluster", "tcp://h:1"], "is already running: pass its address"),
        (["start", "a", "--cluster", "cuda"], "CUDA_VISIBLE_DEVICES hides all"),
        (["stop", "a"], "no cluster a was started"),
        (["status", "a"], "no cluster a was started"),
    ],
)
def test_a_failed_start_or_stop_is_reported_in_one_line(arguments, says, home, capsys, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    code, _, text = shell(capsys, "cluster", *arguments)
    assert code == 2
    assert says in text
    assert text.count("\n") == 1
    assert not (home / "state/overtile/clusters/a").exists()
