"""``overtile preflight``: its findings, no files left behind, and bad input."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import zarr
from distributed import Client

from deploy.preflight.findings import Failure
from flows.cli.main import main
from flows.options.segment import SegmentOptions
from flows.preflight.checks import check_before_start, preflight
from flows.preflight.device import device_findings
from flows.preflight.output import planned, room_findings
from pipeline.base.errors import ClusterError, OutputError
from pipeline.segmentation.prepare import prepare


@pytest.fixture
def place(tmp_path, textured, weights):
    zarr.create_array(
        tmp_path / "in.zarr", data=textured((16, 32, 32)), dimension_names=("z", "y", "x")
    )
    (tmp_path / "w.safetensors").write_bytes(Path(weights("3d")).read_bytes())
    return tmp_path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def prepared_in(place):
    options = SegmentOptions()
    weights = str(place / "w.safetensors")
    request = options.request(input=str(place / "in.zarr"), output=str(place / "out.zarr"))
    return prepare(request, options.predictor(weights)), weights


def test_findings_of_a_run_that_may_start_are_listed_and_no_file_remains(one_worker, place, capsys):
    before = names(place)
    address = one_worker.scheduler.address
    arguments = [str(place / "in.zarr"), str(place / "out.zarr"), "--weights",
                 str(place / "w.safetensors"), "--cluster", address]  # fmt: skip
    assert main(["preflight", *arguments]) == 0
    said = capsys.readouterr()
    assert all(line.startswith("fine ") for line in said.out.splitlines())
    assert "1 worker: 0 errors, 0 warnings; a run may start" in said.err
    assert names(place) == before
    assert main(["preflight", *arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {finding["check"] for finding in found} == {
        "clocks", "versions", "packages", "input", "weights", "output", "room", "device"
    }  # fmt: skip
    assert names(place) == before


def test_without_a_run_only_the_cluster_is_checked(one_worker, capsys):
    assert main(["preflight", "--cluster", one_worker.scheduler.address]) == 0
    checks = {line.split()[1] for line in capsys.readouterr().out.splitlines()}
    assert checks == {"clocks", "versions", "packages", "device"}


@pytest.mark.parametrize("given", [["in.zarr"], ["in.zarr", "out.zarr"], ["--weights", "demo"]])
def test_an_incomplete_run_is_refused(given, capsys):
    assert main(["preflight", *given]) == 2
    assert "give all three, or none" in capsys.readouterr().err


def test_weights_that_changed_since_the_plan_are_an_error(one_worker, place, weights):
    prepared, path = prepared_in(place)
    Path(path).write_bytes(Path(weights("2d")).read_bytes())
    with pytest.raises(ClusterError, match=r"has different weights at this path"):
        check_before_start(one_worker, prepared, weights=path, notify=print)
    Path(path).unlink()
    with pytest.raises(ClusterError, match=r"cannot read the weights \(WeightsError"):
        check_before_start(one_worker, prepared, weights=path, notify=print)


@pytest.fixture
def elsewhere(tmp_path_factory):
    """Return a client of a worker whose disk is another one than ours, as far as ``/proc`` goes."""
    folder = tmp_path_factory.mktemp("elsewhere")
    with Client(
        n_workers=0, dashboard_address=None, host="127.0.0.1", set_as_default=False
    ) as client:
        command = [
            sys.executable, "-P", "-m", "distributed.cli.dask_worker", client.scheduler.address,
            "--nthreads", "1", "--host", "127.0.0.1", "--no-dashboard", "--no-nanny",
        ]  # fmt: skip
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        worker = subprocess.Popen(command, cwd=folder, **quiet)
        client.wait_for_workers(1, timeout=180)
        yield client, folder
        worker.kill()
        worker.wait()


def test_a_path_that_means_another_disk_on_the_worker_is_an_error(elsewhere, place, monkeypatch):
    """``/proc/self/cwd`` is this process's folder here, and the worker's own there."""
    client, folder = elsewhere
    monkeypatch.chdir(place)
    own = Path("/proc/self/cwd")
    options, weights = SegmentOptions(), str(place / "w.safetensors")

    def errors(source, output):
        request = options.request(input=str(source), output=str(output))
        prepared = prepare(request, options.predictor(weights))
        found = preflight(client, prepared, weights=weights)
        return {finding.check: finding.text for finding in found if finding.level == "error"}

    before = names(place)
    unseen = errors(own / "in.zarr", place / "out.zarr")
    assert list(unseen) == ["input"]
    assert "use a path that every worker sees" in unseen["input"]
    output = errors(place / "in.zarr", own / "out.zarr")
    assert list(output) == ["output"]
    assert "has another disk at /proc/self/cwd than this machine" in output["output"]
    zarr.create_array(
        folder / "in.zarr", data=np.zeros((16, 32, 32), "u1"), dimension_names=("z", "y", "x")
    )
    other = errors(own / "in.zarr", place / "out.zarr")
    assert "reads other voxels in /proc/self/cwd/in.zarr" in other["input"]
    assert names(place) == before
    assert names(folder) == ["in.zarr"]


def test_a_run_is_checked_before_it_starts_and_writes_nothing_after_an_error(
    elsewhere, place, monkeypatch, capsys
):
    client, _ = elsewhere
    monkeypatch.chdir(place)
    before = names(place)
    arguments = [str(place / "in.zarr"), "/proc/self/cwd/out.zarr", "--weights", "w.safetensors",
                 "--cluster", client.scheduler.address]  # fmt: skip
    assert main(["segment", *arguments]) == 2
    assert "has another disk at /proc/self/cwd" in capsys.readouterr().err
    assert names(place) == before


def test_weights_may_be_relative_to_the_current_folder(elsewhere, place, monkeypatch):
    client, _ = elsewhere
    monkeypatch.chdir(place)
    prepared, _ = prepared_in(place)
    found = preflight(client, prepared, weights="w.safetensors")
    assert [finding.check for finding in found if finding.level == "error"] == []


def test_an_output_whose_parent_is_not_writable_is_one_line(one_worker, place, monkeypatch):
    prepared, _ = prepared_in(place)

    def closed(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "touch", closed)
    with pytest.raises(OutputError, match="access is denied"):
        preflight(one_worker, prepared)


def test_a_training_is_checked_before_it_starts(one_worker, place, refusing, capsys):
    zarr.create_array(place / "labels.zarr", data=np.arange(16384).reshape(16, 32, 32) % 2)
    before = names(place)
    arguments = ["--volume", str(place / "in.zarr"), "--labels", str(place / "labels.zarr"),
                 "--out", str(place / "new.safetensors")]  # fmt: skip
    assert main(["train", *arguments, "--cluster", one_worker.scheduler.address]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"overtile: {refusing}"
    assert names(place) == before


def test_an_evaluation_is_checked_before_it_starts(one_worker, place, refusing, capsys):
    zarr.create_array(place / "truth.zarr", data=np.arange(16384).reshape(16, 32, 32) % 2)
    truth, scores = str(place / "truth.zarr"), str(place / "scores.json")
    where = ["--cluster", one_worker.scheduler.address]
    assert main(["evaluate", truth, truth, "--json", scores, *where]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"overtile: {refusing}"
    assert not Path(scores).exists()


def test_planned_bytes_are_those_written_before_compression(place):
    prepared, _ = prepared_in(place)
    assert planned(prepared) == (16 * 32 * 32, prepared.budget.files)


@pytest.mark.parametrize(
    ("free", "files", "level"),
    [
        (10**9, 10**6, ["fine"]),
        (10**9, None, ["fine"]),
        (10**8 - 1, 10**6, ["warning"]),
        (10**6, 10**6, ["error"]),
        (10**9, 999, ["warning"]),
        (10**9, 99, ["error"]),
    ],
)
def test_the_least_free_space_of_any_worker_is_compared_with_the_plan(free, files, level):
    rooms = {"worker a": {"bytes": 10**12, "files": 10**9},
             "worker b": {"bytes": free, "files": files}}  # fmt: skip
    assert [finding.level for finding in room_findings(10**8, 1000, rooms)] == level
    assert list(room_findings(10**8, 1000, {"worker a": None})) == []


GPU = {
    "name": "NVIDIA H100", "driver": "580.65", "memory_bytes": 80 * 2**30,
    "free_bytes": 70 * 2**30, "torch": "2.13.0+cu130", "cuda": "13.0", "used_by_torch": True,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "level", "says"),
    [
        ({}, "fine", r"NVIDIA H100 \(80\.0 GiB, driver 580\.65, torch 2\.13\.0\+cu130 for CUDA 13"),
        ({"cuda": None}, "warning", r"for the CPU: pip install 'overtile\[cuda\]'"),
        ({"used_by_torch": False}, "warning", r"with driver 580\.65: update the driver"),
        (
            {"free_bytes": 2**29},
            "warning",
            r"512 MiB of 80\.0 GiB free on its GPU",
        ),
    ],
)
def test_an_unusable_gpu_is_reported(changed, level, says):
    (finding,) = device_findings(2**30, {"worker a on b": {**GPU, **changed}})
    assert finding.level == level
    assert re.search(says, finding.text), finding.text


def test_a_mix_of_workers_with_and_without_gpu_is_reported():
    found = list(device_findings(0, {"worker a": GPU, "worker b": None, "worker c": Failure("no")}))
    assert [finding.level for finding in found] == ["warning", "warning", "fine"]
    assert {finding.text.split()[1] for finding in found} == {"a", "b", "c"}


def test_without_a_driver_the_device_check_imports_no_torch(tmp_path):
    code = (
        "import sys\nfrom flows.preflight.device import describe_device\n"
        "assert describe_device() is None\nassert 'torch' not in sys.modules\n"
    )
    environment = {**os.environ, "PATH": str(tmp_path)}
    subprocess.run([sys.executable, "-P", "-c", code], env=environment, check=True)


def test_the_driver_is_queried_for_the_visible_device(tmp_path, monkeypatch):
    smi = tmp_path / "nvidia-smi"
    smi.write_text(
        f'#!/bin/sh\necho "$@" > {tmp_path}/asked\necho "NVIDIA H100, 580.65, 81559, 1559"\n'
    )
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,0")
    from flows.preflight.device import describe_device

    told = describe_device()
    assert "--id=3 " in (tmp_path / "asked").read_text()
    assert told["free_bytes"] == 80_000 * 2**20
    assert told["used_by_torch"] is False, "this machine has no GPU"
    judge = partial(device_findings, 0)
    assert [finding.level for finding in judge({"worker a": told})] == ["warning"]
