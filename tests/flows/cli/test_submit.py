"""`overtile submit segment`: all options reach the job, and bad input is refused as by plan."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import shutil
import signal

import numpy as np
import pytest
import zarr

from deploy.batch_jobs.render_segment import MARK
from deploy.tls.keys import make_keys
from flows.cli import segment as cli_segment
from flows.cli.main import main
from flows.cli.submit import warn_of_other_run
from pipeline.base.location import Location
from pipeline.base.process_record import this_process
from pipeline.ledger.liveness import ALIVE


@pytest.fixture
def place(tmp_path, weights, monkeypatch):
    """Return the current folder, with a volume, weights and a profile, and no Slurm."""
    zarr.create_array(tmp_path / "in.zarr", data=np.full((8, 32, 32), 7, np.uint8))
    shutil.copy(weights("3d"), tmp_path / "w.safetensors")
    profiles = tmp_path / "config/overtile"
    profiles.mkdir(parents=True)
    (profiles / "hpc.toml").write_text('kind = "slurm"\npartition = "gpu"\ngpus_per_job = 2\n')
    (profiles / "box.toml").write_text('kind = "local"\n')
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def submit(place, monkeypatch, capsys):
    """Return a function that runs `overtile submit segment`: exit code, output and error."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # pytest keeps its own handlers

    def run(*argv):
        try:
            code = main(["submit", "segment", *argv])
        except SystemExit as exit_:  # argparse leaves so
            code = exit_.code
        return (code, *capsys.readouterr())

    return run


GOOD = ("in.zarr", "out.zarr", "--weights", "w.safetensors")


def words_of(script):
    """Return the words that the script's run has, as its shell would read them."""
    (line,) = [line for line in script.splitlines() if line.startswith("run=(")]
    return shlex.split(line.removeprefix("run=(").removesuffix(")"))


def segment_parser():
    parser = argparse.ArgumentParser()
    cli_segment.add_arguments(parser)
    return parser


SAID = {
    "nothing": [],
    "what is read": ["--level", "0", "--axes", "zyx", "--normalisation", "range:0:255"],
    "what is written": ["--outputs", "scores,classes", "--scores-dtype", "float32", "--format",
                        "0.4", "--overwrite"],
    "sizes": ["--block", "8,32,32", "--tile", "8,16,32", "--tile-memory", "0.25"],
    "a size with its unit": ["--tile-memory", "256MiB"],
    "how": ["--precision", "fp32", "--tta", "full", "--engine", "map_overlap", "--retries", "7",
            "--allow-seams"],
    "objects": ["--objects", "--class", "1", "--method", "watershed", "--depth", "0.2",
                "--outputs", "classes,scores"],
    "an option that is short": ["--over", "--prec=bf16"],
}  # fmt: skip


@pytest.mark.parametrize("text", ["0.25", "256MiB", "256M", "268435.456 kB"])
def test_a_tile_memory_is_in_gib_or_has_a_unit(text):
    options = segment_parser().parse_args([*GOOD, "--tile-memory", text])
    assert options.tile_memory_gib == 0.25


@pytest.mark.parametrize("said", SAID.values(), ids=SAID)
def test_the_job_gets_the_options_of_the_command(said, submit):
    code, script, err = submit(*GOOD, *said, "--cluster", "hpc", "--dry-run")
    assert (code, err) == (0, "")
    command, *words = words_of(script)
    assert command == "segment"
    assert segment_parser().parse_args(words) == segment_parser().parse_args([*GOOD, *said])


def test_tls_is_a_setting_of_the_job_as_a_path_and_not_an_option_of_its_run(submit, place):
    make_keys(place / "my keys")
    for tls, setting in ((None, "auto"), ("off", "off"), ("my keys", f"'{place}/my keys'")):
        words = () if tls is None else ("--tls", tls)
        code, script, err = submit(*GOOD, *words, "--cluster", "hpc", "--dry-run")
        assert (code, err) == (0, "")
        assert f"\ntls={setting}\n" in script
        assert "--tls" not in words_of(script)
        assert "PRIVATE" not in script
    code, _, err = submit(*GOOD, "--tls", "nowhere", "--cluster", "hpc", "--dry-run")
    assert (code, err.count("\n")) == (2, 1)
    assert "tls 'nowhere': expected auto, off, a folder" in err


def test_every_option_of_segment_reaches_the_job():
    """Each is of the models whose options reach the script, or is said of the submission."""
    from flows.options.objects import ObjectDefinition, WithObjects
    from flows.options.segment import SegmentOptions

    named = vars(segment_parser().parse_args(GOOD))
    of_submission = {"input", "output", "weights", "cluster", "tls", "workers", "shard"}
    reach = {
        field
        for model in (SegmentOptions, WithObjects, ObjectDefinition)
        for field in model.model_fields
    }
    assert set(named) - of_submission == reach - of_submission


def test_a_dry_run_prints_the_script_and_changes_nothing(submit, place):
    before = sorted(place.rglob("*"))
    code, script, err = submit(*GOOD, "--cluster", "hpc", "--nodes", "3", "--dry-run")
    assert (code, err) == (0, "")
    assert script.count(MARK) == 1
    for line in ("--partition=gpu", "--gres=gpu:2", "--nodes=3", f"--chdir={place}"):
        assert f"\n#SBATCH {line}\n" in script
    assert f"\nfolder={place}/state/overtile/jobs\n" in script
    assert sorted(place.rglob("*")) == before


def test_shares_are_an_array_and_a_last_job_of_the_same_arguments(submit):
    small = ("--block", "4,8,8", "--tile", "4,8,8")
    code, scripts, _ = submit(*GOOD, *small, "--shard", "3", "--dry-run")
    assert code == 0
    array, finish = scripts.split("#!/usr/bin/env bash\n")[1:]
    assert "#SBATCH --array=1-3\n" in array
    assert "#SBATCH --dependency=afterok:" in finish
    (*share, option, number) = words_of(array)
    assert [option, number] == ["--shard", "$SLURM_ARRAY_TASK_ID/3"]
    assert words_of(finish) == ["finish", *share[1:]]


def test_the_default_cluster_is_slurm_without_further_settings(submit):
    code, script, _ = submit(*GOOD, "--dry-run")
    assert code == 0
    assert "--partition" not in script
    assert "#SBATCH --nodes=1\n" in script


BAD = {
    "no such store": ({"INPUT": "gone.zarr"}, r"gone\.zarr does not exist"),
    "no such weights": ({"--weights": "gone.safetensors"}, r"gone\.safetensors"),
    "a block off the divisor": ({"--block": "3,16,16"}, r"divisor.*try 4,16,16"),
    "output = input": ({"OUTPUT": "in.zarr"}, r"output and input are the same"),
    "an unknown option": ({"--nope": "1"}, r"unrecognized arguments: --nope"),
    "no such profile": ({"--cluster": "nope"}, r"cluster 'nope': expected"),
    "a profile that is not slurm": ({"--cluster": "box"}, r"cluster local: expected a profile"),
    "local": ({"--cluster": "local"}, r"cluster local: expected"),
    "an address": ({"--cluster": "tcp://a:1"}, r"cluster tcp://a:1: expected"),
    "workers": ({"--workers": "2"}, r"--workers applies to --cluster local only"),
    "no node": ({"--nodes": "0"}, r"--nodes 0: expected at least 1"),
    "half a share": ({"--shard": "1/2"}, r"argument --shard: invalid int value: '1/2'"),
    "one share": ({"--shard": "1"}, r"--shard 1: expected a number of"),
    "more shares than regions": ({"--shard": "9"}, r"--shard 1/9: the volume has 1 region of"),
    "shares that delete": ({"--shard": "2", "--overwrite": None}, r"each share would delete"),
    "no Slurm here": ({}, r"sbatch not found: run this on a login node"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "says"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line_exit_2_and_nothing_is_submitted(changes, says, submit, place):
    values = {"INPUT": "in.zarr", "OUTPUT": "out.zarr", "--weights": "w.safetensors", **changes}
    positional = [values.pop("INPUT"), values.pop("OUTPUT")]
    options = [part for pair in values.items() for part in pair if part is not None]
    code, out, err = submit(*positional, *options)
    assert (code, out) == (2, "")
    assert err.startswith("overtile: ")
    assert err.count("\n") == 1
    assert re.search(says, err), err
    assert not (place / "out.zarr").exists()


@pytest.mark.parametrize(
    ("changes", "warned"),
    [({}, True), ({"host": "elsewhere"}, True), ({"pid": 2**22 + 1}, False), (None, False)],
    ids=["lives here", "of another machine", "has ended", "no sign"],
)
def test_submit_warns_of_an_output_that_another_run_may_write(changes, warned, tmp_path, capsys):
    output = Location.parse(tmp_path / "out.zarr")
    zarr.open_group(tmp_path / "out.zarr/run", attributes={"owner": "first", "job": {}})
    if changes is not None:
        sign = {"token": "first", **this_process(), **changes}
        (tmp_path / "out.zarr/run" / ALIVE).write_text(json.dumps(sign))
    warn_of_other_run(output)
    assert ("this job takes the output over" in capsys.readouterr().err) == warned
