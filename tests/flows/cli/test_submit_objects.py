"""`overtile submit objects`: all options reach the jobs, in the order in which shares need them."""

from __future__ import annotations

import argparse
import re
import shlex

import numpy as np
import pytest
import zarr

from flows.cli import objects as cli_objects

GOOD = ("in.zarr", "out.zarr", "--block", "4,8,8")


@pytest.fixture
def submit(tmp_path, monkeypatch, shell):
    """Return a function that runs `overtile submit objects` in a folder with scores."""
    zarr.create_array(
        tmp_path / "in.zarr", data=np.full((8, 32, 32), 200, np.uint8),
        dimension_names=("z", "y", "x"),
    )  # fmt: skip
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.chdir(tmp_path)
    return lambda *argv: shell("submit", "objects", *argv)


def runs_in(scripts):
    """Return the words that each script runs, and whether it is an array, and waits."""
    found = []
    for script in scripts.split("#!/usr/bin/env bash\n")[1:]:
        (line,) = [line for line in script.splitlines() if line.startswith("run=(")]
        words = shlex.split(line.removeprefix("run=(").removesuffix(")"))
        found.append((words, "#SBATCH --array=1-2\n" in script, "=afterok:" in script))
    return found


SAID = {
    "nothing": [],
    "objects": ["--role", "boundary", "--method", "watershed", "--depth", "0.2", "--csv"],
    "files": ["--intensity", "in.zarr", "--keep-intermediates", "--retries", "7"],
}


@pytest.mark.parametrize("said", SAID.values(), ids=SAID)
def test_one_job_gets_the_options_of_the_command(said, submit):
    parser = argparse.ArgumentParser()
    cli_objects.add_arguments(parser)
    code, scripts, err = submit(*GOOD, *said, "--dry-run")
    assert (code, err) == (0, "")
    (((command, *words), is_array, waits),) = runs_in(scripts)
    assert (command, is_array, waits) == ("objects", False, False)
    assert parser.parse_args(words) == parser.parse_args([*GOOD, *said])


def test_shares_label_one_job_merges_shares_write_and_the_last_job_completes(submit):
    code, scripts, err = submit(*GOOD, "--shard", "2", "--dry-run")
    assert code == 0
    assert "4 scripts: the array that labels, the job that merges, the array that writes" in err
    one, share = ["objects", *GOOD], ["--shard", "$SLURM_ARRAY_TASK_ID/2"]
    assert runs_in(scripts) == [
        ([*one, *share], True, False),
        ([*one, "--merge-only"], False, True),
        ([*one, *share], True, True),
        (one, False, True),
    ]


BAD = {
    "no such store": (("gone.zarr", "out.zarr"), r"gone\.zarr does not exist"),
    "an option of shares": ((*GOOD, "--merge-only"), r"unrecognized arguments: --merge-only"),
    "more shares than regions": ((*GOOD, "--shard", "9"), r"the volume has 4 regions of blocks"),
    "shares that delete": ((*GOOD, "--shard", "2", "--overwrite"), r"each share would delete"),
    "a depth of components": ((*GOOD, "--depth", "0.1"), r"--depth is for --method watershed"),
    "no Slurm here": (GOOD, r"sbatch not found: run this on a login node"),
}


@pytest.mark.parametrize("wrong", BAD)
def test_bad_input_is_one_line_exit_2_and_nothing_is_submitted(wrong, submit, tmp_path):
    argv, says = BAD[wrong]
    code, out, err = submit(*argv)
    assert (code, out) == (2, "")
    assert err.startswith("overtile: ")
    assert err.count("\n") == 1
    assert re.search(says, err), err
    assert not (tmp_path / "out.zarr").exists()
