"""On a real one-node Slurm: submissions from inside an allocation, rules of a site, lost answers.

Minutes long: make test-slurm.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import zarr

from deploy import open_cluster
from deploy.batch_jobs import batch_system
from deploy.batch_jobs.batch_system import BatchSystem
from pipeline.base.errors import ClusterError

pytestmark = pytest.mark.slurm

ALLOCATION = ("salloc", "-n1", "-c1", "--mem-per-cpu=500", "--time=5", "--quiet")
NO_MEM = """
kind = "slurm"
partition = "main"
cpus_per_job = 1
memory_per_job = "3GiB"
interface = "lo"
walltime = "10 min"
dashboard = "127.0.0.1:0"
"""


@pytest.fixture(autouse=True)
def place(slurm, tmp_path, monkeypatch, textured):
    """Return a folder with a volume and profiles; leave no job."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config/overtile").mkdir(parents=True)
    for name, more in {
        "small": "",
        "percpu": 'directives = ["--mem-per-cpu=3000M"]',
        "nomem": 'skip_directives = ["--mem", "--comment"]',
    }.items():
        (tmp_path / f"config/overtile/{name}.toml").write_text(f"{NO_MEM}{more}\n")
    zarr.create_array(
        tmp_path / "in.zarr", data=textured((8, 32, 32)), dimension_names=("z", "y", "x")
    )
    yield tmp_path
    slurm.wait_until_empty(timeout_s=30)


def done(*words, before=(), **environment):
    """Run a command of overtile, which must succeed; return its output."""
    command = [*before, sys.executable, "-m", "flows.cli", *words]
    ran = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **environment},
        timeout=300,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


SEGMENT = ("in.zarr", "out.zarr", "--weights", "demo", "--block", "8,32,32", "--tile", "8,32,32")


def state_of(job_id):
    said = subprocess.run(
        ["scontrol", "show", "job", job_id], capture_output=True, text=True, check=True
    ).stdout
    return next(word[9:] for word in said.split() if word.startswith("JobState="))


def wait_until_complete(job_id):
    until = time.monotonic() + 300
    while (state := state_of(job_id)) in ("PENDING", "RUNNING", "COMPLETING"):
        assert time.monotonic() < until
        time.sleep(0.3)
    return state


@pytest.mark.parametrize(
    "way", ["submit", "driver", pytest.param("sbatch by hand", marks=pytest.mark.slow)]
)
def test_a_run_from_inside_an_allocation_is_that_from_a_login_node(way, place):
    inside = {"SBATCH_MEM_PER_NODE": "1M", "SQUEUE_STATES": "COMPLETED"}
    if way == "driver":
        done("segment", *SEGMENT, "--cluster", "small", before=ALLOCATION, **inside)
    else:
        if way == "submit":
            said = done("submit", "segment", *SEGMENT, "--cluster", "small", before=ALLOCATION,
                        **inside)  # fmt: skip
        else:
            import deploy

            script = f"{deploy.__path__[0]}/slurm/segment.sbatch"
            command = [*ALLOCATION, "sbatch", "--parsable", "--cpus-per-task=1", "--mem=3G", script,
                       *SEGMENT]  # fmt: skip
            own = {"OVERTILE_PYTHON": sys.executable, "OVERTILE_INTERFACE": "lo"}
            environment = {**os.environ, **own}
            said = subprocess.run(
                command, capture_output=True, text=True, check=True, env=environment, timeout=60
            ).stdout
        assert wait_until_complete(said.split()[0]) == "COMPLETED", "".join(
            path.read_text() for path in place.rglob("overtile-*.log")
        )
    assert np.ptp(zarr.open_array(place / "out.zarr/labels/classes/0")[:])


@pytest.mark.parametrize("profile", ["percpu", "nomem"])
def test_a_site_that_refuses_mem_is_served(profile, place):
    said = done("submit", "segment", *SEGMENT, "--cluster", profile)
    assert wait_until_complete(said.split()[0]) == "COMPLETED"
    shutil.rmtree(place / "out.zarr")
    done("segment", *SEGMENT, "--cluster", profile)


@pytest.fixture
def lost_answers(place, monkeypatch):
    """Return a function that puts an sbatch first on the path whose first answers are lost."""
    real = shutil.which("sbatch")
    monkeypatch.setattr(batch_system, "CALL_S", 3.0)
    monkeypatch.setattr(batch_system, "LOOK_AFTER_S", (0.2, 0.5, 1.0))

    def put(first):
        folder = place / "bin"
        folder.mkdir()
        (folder / "sbatch").write_text(
            f"#!/bin/bash\necho >> {place}/calls\n"
            f'if [ $(wc -l < {place}/calls) = 1 ]; then {first}; fi\nexec {real} "$@"\n'
        )
        (folder / "sbatch").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        return place / "calls"

    return put


JOB = "#!/bin/bash\n#SBATCH --partition=main --time=1 --mem=50M --output=/dev/null\nsleep 20\n"
ARRIVED = '{real} "$@" >/dev/null; exec sleep 60'
FIRST = {
    "the job arrived": (ARRIVED, 1),
    "the job did not arrive": ("exec sleep 60", 2),
    "the controller was busy": (
        "echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv operation'"
        " >&2; exit 1", 2,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FIRST)
def test_a_submission_without_an_answer_is_repeated_and_never_doubled(case, lost_answers, slurm):
    first, calls = FIRST[case]
    counted = lost_answers(first.format(real=shutil.which("sbatch")))
    job_id = BatchSystem("slurm").submit(JOB)
    try:
        assert [line.split()[0] for line in slurm.queue()] == [job_id]
        assert len(counted.read_text().splitlines()) == calls
    finally:
        BatchSystem("slurm").cancel([job_id])


def test_a_run_survives_a_first_submission_that_is_not_answered(lost_answers):
    lost_answers("exec sleep 60")
    with open_cluster("small") as client:
        assert client.submit(int, 7).result(timeout=60) == 7


def test_a_submission_that_is_refused_is_not_repeated(lost_answers):
    counted = lost_answers("true")
    with pytest.raises(ClusterError, match="sbatch failed"):
        BatchSystem("slurm").submit(JOB.replace("main", "nope"))
    assert len(counted.read_text().splitlines()) == 1


def test_a_suspended_job_delays_no_run(slurm, monkeypatch):
    """Slurm suspends worker and nanny: others do its work, and the pool replaces the job."""
    said = []
    with open_cluster("small", jobs=2, notify=said.append) as client:
        client.wait_for_workers(2, timeout=60)
        first = slurm.queue()[0].split()[0]
        slept = client.map(time.sleep, [0.4] * 30, pure=False)
        subprocess.run(["scontrol", "suspend", first], check=True)
        began = time.monotonic()
        client.gather(slept)
        assert time.monotonic() - began < 75
    assert [line for line in said if "has been silent for" in line]
