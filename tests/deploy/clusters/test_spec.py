"""Specifications of clusters: names, TOML and forms agree; errors are one line."""

from __future__ import annotations

import re
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import fields

import pytest
from pydantic import ValidationError

from deploy import ClusterSpec, JobSpec, parse_cluster
from deploy.clusters.profiles import spec_of_toml, with_settings
from flows.options.cluster import ClusterOptions
from pipeline.base.errors import ClusterError

GPU_TOML = """
kind = "slurm"
partition = "gpu"
account = "p123"
gpus_per_job = 2
maximum_jobs = 8
walltime = "1-12:00:00"
memory_per_job = "64 GiB"
modules = ["cuda/12.8", "apptainer"]
directives = "--exclusive"
drain_s = 300
"""
GPU_SPEC = ClusterSpec(
    kind="slurm",
    job=JobSpec(
        queue="gpu", account="p123", gpus_per_job=2, maximum_jobs=8, walltime_s=36 * 3600,
        memory_per_job_bytes=64 * 2**30, modules=("cuda/12.8", "apptainer"),
        directives=("--exclusive",), drain_s=300.0,
    ),
)  # fmt: skip


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Return the empty folder of a user's profiles."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "config/overtile").mkdir(parents=True)
    return tmp_path / "config/overtile"


def test_a_file_a_profile_and_a_form_specify_the_same_cluster(home, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(GPU_TOML)
    (home / "a100.toml").write_text(GPU_TOML)
    assert parse_cluster(str(file)) == GPU_SPEC
    assert parse_cluster("a100") == GPU_SPEC
    assert ClusterOptions(cluster="a100").spec() == GPU_SPEC
    form = ClusterOptions(
        cluster="slurm", partition="gpu", account="p123", gpus_per_job=2, maximum_jobs=8,
        walltime="36 h", settings=GPU_TOML.partition("memory")[1] + GPU_TOML.partition("memory")[2],
    )  # fmt: skip
    assert form.spec() == GPU_SPEC


def test_a_form_overrides_a_profile_and_so_does_python_by_either_name(home):
    (home / "a100.toml").write_text(GPU_TOML)
    changed = ClusterOptions(cluster="a100", jobs=3, walltime="2 h").spec()
    assert changed.job.jobs == 3
    assert changed.job.maximum_jobs is None, "a fixed number replaces the bounds"
    assert changed.job.walltime_s == 7200
    assert changed.job.queue == "gpu"
    by_field = with_settings(GPU_SPEC, {"queue": "x", "walltime_s": 7200, "jobs": 3})
    by_word = with_settings(GPU_SPEC, {"partition": "x", "walltime": "02:00:00", "jobs": 3})
    assert by_field == by_word


def test_a_kind_alone_is_a_cluster_and_a_profile_of_its_name_takes_precedence_except_local(home):
    assert parse_cluster("slurm") == ClusterSpec(kind="slurm", job=JobSpec())
    assert parse_cluster("cuda") == ClusterSpec(kind="cuda")
    for name in ("slurm", "local"):
        (home / f"{name}.toml").write_text('kind = "pbs"\n')
    assert parse_cluster("slurm").kind == "pbs"
    assert parse_cluster("local") == ClusterSpec()


def test_a_profile_may_contain_the_address_of_an_existing_cluster(home):
    (home / "lab.toml").write_text('kind = "tcp://10.0.0.1:8786"\ntimeout_s = 30\n')
    assert parse_cluster("lab") == ClusterSpec(
        kind="address", where="tcp://10.0.0.1:8786", timeout_s=30.0
    )


BAD_TOML = {
    "not TOML": ("kind slurm", r"is not TOML: "),
    "no kind": ("jobs = 3", r"kind is not set: expected local, cuda, slurm"),
    "another kind": ('kind = "condor"', r"kind 'condor': expected local"),
    "a slip": ('kind = "slurm"\nparition = "a"', r"parition: unknown setting.*did you mean part"),
    "of another kind": (
        'kind = "local"\nqos = "a"',
        r"cluster local: qos: unknown setting; exp",
    ),
    "Slurm's alone": ('kind = "pbs"\nqos = "a"', r"cluster pbs: qos: unknown setting"),
    "a table": ('kind = "slurm"\n[jobs]\na = 1', r"jobs \(\{'a': 1\}\): expected an integer"),
    "text for number": ('kind = "slurm"\njobs = "4"', r"jobs \('4'\): expected an integer"),
    "yes for number": ('kind = "slurm"\njobs = true', r"jobs \(True\): expected an integer"),
    "number for text": ('kind = "slurm"\npartition = 4', r"partition \(4\): expected a string"),
    "number for list": ('kind = "slurm"\nmodules = 4', r"modules \(4\): expected a list"),
    "number in list": (
        'kind = "slurm"\nmodules = ["a", 4]',
        r"modules\.1 \(4\): expected a string",
    ),
    "no jobs": ('kind = "slurm"\njobs = 0', r"jobs 0: expected at least 1"),
    "both numbers": ('kind = "slurm"\njobs = 2\nmaximum_jobs = 4', r"for a fixed number, or mini"),
    "upside down": ('kind = "slurm"\nminimum_jobs = 4\nmaximum_jobs = 2', r"swap them"),
    "half": ('kind = "slurm"\nminimum_jobs = 4', r"set maximum_jobs too"),
    "unclear time": ('kind = "slurm"\nwalltime = "1:30"', r"duration '1:30': expected 02:00:00"),
    "unclear size": ('kind = "slurm"\nmemory_per_job = "4"', r"memory '4': expected 32GiB"),
    "too short": (
        'kind = "slurm"\nwalltime = "00:05:00"\ndrain_s = 280',
        r"walltime 00:05:00 leaves no time for a block: workers take none in its last 280 s",
    ),
    "several lines": ('kind = "slurm"\npartition = "a\\nrm -rf"', r"partition|queue.*one line"),
    "GPUs shared": ('kind = "slurm"\ngpus_per_job = 2\nworkers_per_job = 4', r"each GPU has one"),
    "not ours": ('kind = "tcp://h:1"\njobs = 4', r"cluster address: jobs: unknown setting"),
}


@pytest.mark.parametrize("case", BAD_TOML)
def test_an_invalid_profile_is_reported_in_one_line_that_names_the_file(case, tmp_path):
    text, says = BAD_TOML[case]
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(ClusterError, match=says) as caught:
        parse_cluster(str(tmp_path / "bad.toml"))
    assert str(caught.value).startswith(str(tmp_path / "bad.toml"))
    assert "\n" not in str(caught.value)


def test_the_error_for_an_unknown_key_lists_the_valid_ones():
    with pytest.raises(ClusterError) as caught:
        spec_of_toml('kind = "slurm"\nx = 1', source="f")
    told = set(re.findall(r"\w+", str(caught.value)))
    names = {field.name for field in fields(JobSpec)} - {"walltime_s", "memory_per_job_bytes"}
    assert names - {"queue", "parallel_environment"} <= told
    assert {"walltime", "memory_per_job", "partition", "threads_per_worker"} <= told
    assert not {"devices", "workers", "kind", "where"} & told


def test_a_form_rejects_unknown_fields():
    with pytest.raises(ValidationError):
        ClusterOptions(cluster="slurm", paritition="gpu")
    with pytest.raises(ClusterError, match="cluster local: partition: unknown setting"):
        ClusterOptions(partition="gpu").spec()


@pytest.mark.parametrize(("walltime_s", "margin_s"), [(60, 30), (1800, 180), (86_400, 600)])
def test_the_drain_is_a_tenth_of_the_walltime_within_bounds(walltime_s, margin_s):
    assert JobSpec(walltime_s=walltime_s).margin_s == margin_s


def test_a_specification_needs_neither_dask_nor_torch():
    code = (
        "import sys, deploy; deploy.parse_cluster('slurm'); "
        "print({'distributed', 'dask', 'torch', 'dask_jobqueue'} & set(sys.modules))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("gres", "gpus", "refused"),
    [
        ("gpu:1", 0, "requests 1 GPU"),
        ("gpu:a100:4", 2, "requests 4 GPU"),
        ("gpu", 2, "requests 1 GPU"),
        ("gpu:a100:2,gpu:v100:1", 2, "requests 3 GPU"),
        ("gres/gpu:2(S:0-1)", 2, None),
        ("gpu:a100:4", 4, None),
        ("nvme:1", 0, None),
        (None, 2, None),
    ],
)
def test_gpus_that_slurm_would_reserve_and_no_worker_use_are_rejected(gres, gpus, refused):
    with pytest.raises(ClusterError, match=refused) if refused else nullcontext():
        JobSpec(gres=gres, gpus_per_job=gpus)
