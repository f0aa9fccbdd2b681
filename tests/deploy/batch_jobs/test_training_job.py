"""The script of a training as a job, run by bash; stubs stand for Slurm and Python."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from deploy.batch_jobs.render_segment import Submission, render_segment
from deploy.clusters.profiles import spec_of_toml

STUB = """#!{python} -SE
import json, os, signal, sys, time
place, kind, words = os.environ["PLACE"], sys.argv[2], sys.argv[3:]

def note(text):
    with open(place + "/notes", "a") as file:
        file.write(json.dumps(text) + "\\n")

def save(number, frame):
    note(["train", signal.Signals(number).name])
    with open(place + "/done", "w") as file:
        file.write(os.environ["REACHES"])
    os._exit(75 if number == signal.SIGUSR1 else 1)

def ended(number, frame):
    note([kind, signal.Signals(number).name])
    os._exit(0)

if kind == "deploy.tls.job":
    print("ca", "cert", "key", sep="\\n")
elif kind.startswith("distributed."):
    note([kind, *words])
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as outlive_term has them do
    signal.signal(signal.SIGINT, ended)
    if "--scheduler-file" in words:
        with open(words[words.index("--scheduler-file") + 1], "w") as file:
            file.write('{{"address": "tls://127.0.0.1:1"}}')
    time.sleep(120)
elif words[0] == "status":
    note(words)
    print('{{', '  "done": ' + open(place + "/done").read(), '}}', sep="\\n")
else:
    signal.signal(signal.SIGUSR1, save)
    signal.signal(signal.SIGTERM, save)
    note(words)
    open(place + "/trains", "w").close()
    time.sleep(120)
"""
"""Stands for Python: notes what it is started as, and behaves as that does."""
SCHEDULER, WORKER = "distributed.cli.dask_scheduler", "distributed.cli.dask_worker"
OUTLIVES = "--preload deploy.batch_jobs.outlive_term"
SCONTROL = '#!/bin/sh\necho "$@" >> "$PLACE/asked"\n'
SRUN = """#!/bin/sh
touch "$PLACE/by-srun"
while [ "$1" != "$PLACE/python" ]; do shift; done
exec "$@"
"""
ARGUMENTS = ("--volume", "raw.zarr", "--labels", "ids.zarr", "--out", "w.safetensors", "--resume",
             "--ranks", "1")  # fmt: skip


@pytest.fixture
def begun(tmp_path):
    """Return a function that starts the script of a training, and waits until all of it runs."""
    programs = {
        "python": STUB.format(python=sys.executable), "squeue": "#!/bin/sh\n",
        "scontrol": SCONTROL, "srun": SRUN,
        "sleep": f"#!/bin/sh\nexec {shutil.which('sleep')} 0.2\n",  # the script looks every second
    }  # fmt: skip
    for name, text in programs.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "done").write_text("3")
    started = []

    def start(*, nodes=1, reaches=7):
        profile = f'kind = "slurm"\npython = "{tmp_path}/python"\ncpus_per_job = 2'
        script = render_segment(
            Submission(
                cluster=spec_of_toml(profile, source="test"), command="train", nodes=nodes,
                arguments=ARGUMENTS, directory=str(tmp_path), folder=str(tmp_path),
                training=str(tmp_path / "w.training"),
            )
        )  # fmt: skip
        (tmp_path / "script").write_text(script)
        environment = {
            "PATH": f"{tmp_path}:{os.environ['PATH']}", "PLACE": str(tmp_path),
            "SLURM_JOB_ID": "47", "SLURM_JOB_NUM_NODES": str(nodes), "SLURM_CPUS_ON_NODE": "2",
            "SLURM_MEM_PER_NODE": "1000", "REACHES": str(reaches),
        }  # fmt: skip
        started.append(
            subprocess.Popen(["bash", tmp_path / "script"], env=environment, start_new_session=True)
        )
        while not ((tmp_path / "trains").exists() and WORKER in (tmp_path / "notes").read_text()):
            assert started[0].poll() is None
            time.sleep(0.05)
        return started[0]

    yield start
    for job in started:
        try:
            os.killpg(job.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        job.wait()


def notes(place):
    return [json.loads(line) for line in (place / "notes").read_text().splitlines()]


def requeued(place):
    path = place / "asked"
    return path.read_text().splitlines() if path.exists() else []


def started_as(place, kind):
    (words,) = [words for words in notes(place) if words[0] == kind and words[1:2] != ["SIGINT"]]
    return words


def test_before_its_walltime_the_job_drains_the_training_and_requeues_itself(begun, tmp_path):
    job = begun()
    job.send_signal(signal.SIGUSR1)
    assert job.wait(timeout=60) == 75
    assert requeued(tmp_path) == ["requeue 47"]
    assert not (tmp_path / "by-srun").exists(), "it kills what it started as soon as it gets a TERM"
    (trained,) = [words for words in notes(tmp_path) if words[0] == "train" and "--out" in words]
    assert trained[1 : 1 + len(ARGUMENTS)] == list(ARGUMENTS)
    assert trained[1 + len(ARGUMENTS)] == "--cluster"
    asked = [words for words in notes(tmp_path) if words[0] == "status"]
    assert asked == [["status", str(tmp_path / "w.training"), "--json"]] * 2, "before and after"


@pytest.mark.slow
def test_a_cancelled_job_lets_the_training_save_and_ends_all_its_processes(begun, tmp_path):
    job = begun()
    job.send_signal(signal.SIGTERM)
    assert job.wait(timeout=60) == 1
    assert requeued(tmp_path) == []
    assert (tmp_path / "done").read_text() == "7"
    ended = [words for words in notes(tmp_path) if words[1].startswith("SIG")]
    assert ended == [["train", "SIGTERM"], [WORKER, "SIGINT"], [SCHEDULER, "SIGINT"]]


def test_a_job_in_which_no_step_was_done_is_not_requeued(begun, tmp_path):
    job = begun(reaches=3)
    job.send_signal(signal.SIGUSR1)
    assert job.wait(timeout=60) == 1
    assert requeued(tmp_path) == []


def test_on_several_nodes_srun_starts_the_workers(begun, tmp_path):
    begun(nodes=2)
    assert (tmp_path / "by-srun").exists()
    assert OUTLIVES in " ".join(started_as(tmp_path, SCHEDULER))
    worker = " ".join(started_as(tmp_path, WORKER))
    assert OUTLIVES in worker
    assert OUTLIVES.replace("--preload", "--preload-nanny") in worker
