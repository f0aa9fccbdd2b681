"""Rules of a site, and the submitter's own allocation: what reaches a job, and what does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.batch_jobs.directives import PREFIXES
from deploy.batch_jobs.environment import submitting_environment
from deploy.batch_jobs.render_segment import Submission, render_segment
from deploy.batch_jobs.render_workers import render_workers
from deploy.clusters.profiles import spec_of_toml
from deploy.clusters.worker_memory import worker_memory_bytes
from deploy.clusters.written_options import WRITTEN_OPTIONS, option_of
from pipeline.base.errors import ClusterError

FULL = {
    "slurm": 'partition="p"\naccount="a"\nqos="q"\ngpus_per_job=1\nconstraint="c"',
    "lsf": 'queue="q"\naccount="a"\ngpus_per_job=1\ncpus_per_job=2',
    "pbs": 'queue="q"\naccount="a"',
    "sge": 'queue="q"\naccount="a"\ngpus_per_job=1\ncpus_per_job=2',
}
OF_A_SUBMISSION = ("--chdir", "--open-mode", "--requeue", "--signal")
ADDED_ELSEWHERE = ("--comment",)


def script(kind, more=""):
    spec = spec_of_toml(f'kind = "{kind}"\n{FULL[kind]}\n{more}', source="site")
    return render_workers(spec, scheduler="tcp://10.0.0.1:8786", name="w", logs=Path("/logs"))


def options_in(text, kind):
    lines = (line for line in text.splitlines() if line.startswith(f"{PREFIXES[kind]} "))
    return [option_of(line[len(PREFIXES[kind]) + 1 :], kind=kind) for line in lines]


@pytest.mark.parametrize("kind", WRITTEN_OPTIONS)
def test_every_line_that_a_script_states_by_default_can_be_left_out(kind):
    whole = options_in(script(kind), kind)
    expected = [o for o in WRITTEN_OPTIONS[kind] if o not in (*OF_A_SUBMISSION, *ADDED_ELSEWHERE)]
    assert sorted(whole) == sorted(expected)
    for option in whole:
        left = options_in(script(kind, f"skip_directives = ['{option}']"), kind)
        assert left == [one for one in whole if one != option]
    assert options_in(script(kind, f"skip_directives = {whole}"), kind) == []


def submitted(more):
    spec = spec_of_toml(f'kind = "slurm"\n{more}', source="site")
    return render_segment(
        Submission(cluster=spec, arguments=("a", "b"), directory="/d", folder="/f", shares=2),
        after="71",
    )


def test_the_lines_of_a_submission_can_be_left_out_except_those_that_its_meaning_depends_on():
    more = f"skip_directives = {[*OF_A_SUBMISSION, '--mem']}"
    left = options_in(submitted(more), "slurm")
    assert not {*OF_A_SUBMISSION, "--mem"} & {*left}
    assert {"--array", "--dependency", "--kill-on-invalid-dep"} <= {*left}
    with pytest.raises(ClusterError, match="'--array': expected options that a script states"):
        submitted("skip_directives = ['--array']")


@pytest.mark.parametrize(
    ("kind", "directive", "ours"),
    [
        ("slurm", "--mem-per-cpu=2000M", "--mem"),
        ("slurm", "--mem-per-gpu=8G", "--mem"),
        ("slurm", "--mem=0", "--mem"),
        ("slurm", "-p other", "--partition"),
        ("slurm", "--time 10", "--time"),
        ("pbs", "-l select=2:ncpus=1", "-l select"),
        ("sge", "-pe mpi 8", "-pe"),
        ("lsf", "-n 9", "-n"),
    ],
)
def test_a_directive_of_a_profile_replaces_our_line_and_no_other(kind, directive, ours):
    before = options_in(script(kind), kind)
    text = script(kind, f"directives = ['{directive}']")
    left = options_in(text, kind)
    assert f"{PREFIXES[kind]} {directive}\n" in text
    assert left[:-1] == [one for one in before if one != ours]


def test_lines_that_a_batch_system_combines_are_not_replaced():
    left = options_in(script("lsf", "directives = ['-R \"rusage[mem=4000]\"']"), "lsf")
    assert left.count("-R") == 2
    assert options_in(script("sge", "directives = ['-l a=4G']"), "sge").count("-l h_rt") == 1


@pytest.mark.parametrize(
    ("more", "mib"),
    [
        ('memory_per_job = "8GiB"', 8192),
        ("directives = ['--mem-per-cpu=2000M']", 8000),
        ("directives = ['--mem=3G']", 3072),
        ("directives = ['--mem=500']", 500),
        ("directives = ['--mem=0']\nmemory_per_job = '6GiB'", 6144),
        ("directives = ['--mem-per-gpu=9G']\nmemory_per_job = '6GiB'", 6144),
    ],
)
def test_workers_use_the_memory_that_their_job_requests(more, mib):
    spec = spec_of_toml(f'kind = "slurm"\ncpus_per_job = 4\n{more}', source="site")
    assert worker_memory_bytes(spec) == mib * 2**20 * 7 // 8


def test_an_option_that_is_not_written_cannot_be_left_out():
    says = r"skip_directives '--memory': expected options .*--mem,"
    with pytest.raises(ClusterError, match=says):
        spec_of_toml('kind = "slurm"\nskip_directives = ["--memory"]', source="site")


NAMES = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ_", min_size=1, max_size=12)
PREFIX = st.sampled_from(["SLURM_", "SBATCH_", "SQUEUE_", "SCANCEL_", "SRUN_", "SALLOC_"])
SLURMS = st.builds(lambda prefix, name: prefix + name, PREFIX, NAMES)


@given(own=st.dictionaries(SLURMS, NAMES), other=st.dictionaries(NAMES, NAMES))
def test_nothing_of_the_submitters_allocation_reaches_a_job_and_all_else_does(own, other):
    needed = {"SLURM_CONF": "/etc/slurm.conf", "SLURM_JWT": "token", "SBATCH_EXPORT": "NONE"}
    others = {f"MY_{name}": value for name, value in other.items()}
    left = submitting_environment("slurm", {**own, **others, **needed})
    assert left == {**others, **needed}


def test_a_users_default_account_is_kept_unless_the_profile_states_one():
    mine = {"SBATCH_ACCOUNT": "p1", "SBATCH_PARTITION": "debug", "SBATCH_TIMELIMIT": "1"}
    kept = submitting_environment("slurm", mine, script="#SBATCH --partition=gpu\n")
    assert kept == {"SBATCH_ACCOUNT": "p1"}
    assert submitting_environment("slurm", mine, script="#SBATCH -A p2\n#SBATCH -p gpu\n") == {}


def test_devices_of_the_submitters_job_are_not_those_of_its_jobs():
    mine = {"CUDA_VISIBLE_DEVICES": "3", "PATH": "/bin"}
    assert submitting_environment("slurm", mine) == mine
    assert submitting_environment("slurm", {**mine, "SLURM_JOB_ID": "7"}) == {"PATH": "/bin"}
    sge = {"SGE_ROOT": "/sge", "SGE_TASK_ID": "1", "QUEUE": "all.q", "PATH": "/bin"}
    assert set(submitting_environment("sge", sge)) == {"SGE_ROOT", "QUEUE", "PATH"}
    assert set(submitting_environment("sge", {**sge, "JOB_ID": "7"})) == {"SGE_ROOT", "PATH"}
    pbs = {"PBS_DEFAULT": "host", "PBS_JOBID": "7", "PBS_O_WORKDIR": "/"}
    assert submitting_environment("pbs", pbs) == {"PBS_DEFAULT": "host"}
    lsf = {"LSB_JOBID": "7", "LSB_DEFAULTQUEUE": "q", "LSF_ENVDIR": "/lsf"}
    assert set(submitting_environment("lsf", lsf)) == {"LSB_DEFAULTQUEUE", "LSF_ENVDIR"}


JOBQUEUE = {
    "of a site": "jobqueue:\n  slurm:\n    queue: other\n    job-directives-skip: [--mem]\n",
    "of no use": "jobqueue: text\n",
    "empty": "jobqueue:\n  slurm:\n    queue: null\n",
}


@pytest.mark.parametrize("kind", JOBQUEUE)
def test_a_sites_jobqueue_yaml_neither_changes_a_job_nor_stays_unmentioned(kind, tmp_path):
    (tmp_path / "jobqueue.yaml").write_text(JOBQUEUE[kind])
    code = (
        "from pathlib import Path\nfrom deploy.clusters.profiles import spec_of_toml\n"
        "from deploy.batch_jobs.job_cluster import has_jobqueue_settings\n"
        "from deploy.batch_jobs.render_workers import render_workers\n"
        "spec = spec_of_toml('kind = \"slurm\"', source='x')\n"
        "print(has_jobqueue_settings('slurm'))\n"
        "print(render_workers(spec, scheduler='s', name='w', logs=Path('/logs')))\n"
    )
    said = {}
    for folder in (tmp_path, tmp_path / "nothing"):
        environment = {**os.environ, "DASK_CONFIG": str(folder)}
        said[folder] = subprocess.run(
            [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True,
            env=environment, cwd=Path(__file__).parents[3],
        ).stdout.partition("\n")  # fmt: skip
    assert said[tmp_path][2] == said[tmp_path / "nothing"][2]
    assert said[tmp_path][0] == str(kind != "empty")
    assert said[tmp_path / "nothing"][0] == "False"
