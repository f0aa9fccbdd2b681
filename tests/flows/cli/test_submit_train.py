"""`overtile submit train`: every option reaches the job, which resumes; bad input as in train."""

from __future__ import annotations

import argparse
import shlex
import signal

import numpy as np
import pytest
import zarr

from deploy.batch_jobs.render_segment import MARK
from flows.cli import train as cli_train
from flows.cli.main import main
from flows.options.train import LabelledVolume, TrainOptions
from flows.training.prepare import prepare_training
from unet.training.loop import train
from unet.training.ranks import Alone
from unet.training.run import write_weights

CONFIG = """
network = { dims = 2, base_channels = 2, levels = 2 }
[training]
steps = 2
batch = 1
patch = [12, 12]
precision = "fp32"
augment = { elastic_sigma = 0.0 }
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Return the current folder, with a labelled volume, a config and profiles, and no Slurm."""
    raw = np.random.default_rng(0).integers(0, 255, (4, 24, 24), "u1")
    zarr.create_array(tmp_path / "raw.zarr", data=raw)
    zarr.create_array(tmp_path / "labels.zarr", data=(raw > 127).astype("u1"))
    (tmp_path / "c.toml").write_text(CONFIG)
    profiles = tmp_path / "config/overtile"
    profiles.mkdir(parents=True)
    (profiles / "gpu.toml").write_text('kind = "slurm"\npartition = "gpu"\ngpus_per_job = 2\n')
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def submit(place, monkeypatch, capsys):
    """Return a function that runs `overtile submit train`: exit code, output and error."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # pytest keeps its own handlers

    def run(*argv):
        try:
            code = main(["submit", "train", *argv])
        except SystemExit as exit_:  # argparse leaves so
            code = exit_.code
        return (code, *capsys.readouterr())

    return run


GOOD = ("--volume", "raw.zarr", "--labels", "labels.zarr", "--out", "w.safetensors")
SMALL = (*GOOD, "--config", "c.toml")


def train_parser():
    parser = argparse.ArgumentParser()
    cli_train.add_arguments(parser)
    return parser


def run_of(script):
    """Return the words that the script runs, as its shell would read them."""
    (line,) = [line for line in script.splitlines() if line.startswith("run=(")]
    return shlex.split(line.removeprefix("run=(").removesuffix(")"))


SAID = {
    "nothing": [],
    "how": ["--preset", "unet-2015", "--steps", "7", "--batch", "3", "--seed", "5", "--dtype",
            "float16"],
    "labels": ["--rule", "boundary", "--ignore=-1", "--class-names", "inside,edge"],
    "what is read": ["--level", "0", "--axes", "zyx", "--normalisation", "range:0:255",
                     "--voxel-size", "50,8,8nm", "--validation-slices", "0:1"],
    "two volumes": ["--volume", "raw.zarr", "--labels", "labels.zarr", "--validation-volume",
                    "raw.zarr", "--validation-labels", "labels.zarr"],
    "resume": ["--resume"],
}  # fmt: skip


@pytest.mark.parametrize("said", SAID.values(), ids=SAID)
def test_the_job_gets_the_options_of_the_command_resumes_and_knows_its_ranks(said, submit, place):
    code, script, err = submit(*GOOD, *said, "--dry-run")
    assert (code, err) == (0, "")
    command, *words = run_of(script)
    assert command == "train"
    expected = train_parser().parse_args([*GOOD, *said, "--resume", "--ranks", "1"])
    assert train_parser().parse_args(words) == expected
    assert f"\noutput={place}/w.training\n" in script
    assert script.count(MARK) == 1


def test_every_option_of_train_reaches_the_job():
    """Each is of the model whose options reach the script, or is said of the submission."""
    named = set(vars(train_parser().parse_args(GOOD)))
    files = {"volume", "labels", "validation_volume", "validation_labels", "out"}
    of_submission = {"cluster", "tls"}
    of_plan = {"plan", "plan_picture", "json"}  # they train nothing
    reach = set(TrainOptions.model_fields) - {"validation_volumes"}
    assert named - of_plan == files | of_submission | reach


@pytest.mark.parametrize(
    ("said", "ranks"),
    [
        ((), 2), (("--nodes", "3"), 6), (("--batch", "4", "--nodes", "3"), 4),
        (("--batch", "1"), 1), (("--ranks", "1", "--nodes", "3"), 1),
    ],
)  # fmt: skip
def test_a_worker_or_gpu_has_a_rank_unless_the_steps_have_fewer_patches(said, ranks, submit):
    code, script, err = submit(*GOOD, *said, "--cluster", "gpu", "--dry-run")
    assert (code, err) == (0, "")
    words = run_of(script)
    assert words[words.index("--ranks") + 1] == str(ranks)
    assert "\n#SBATCH --gres=gpu:2\n" in script


def test_a_dry_run_writes_nothing(submit, place):
    before = sorted(place.rglob("*"))
    assert submit(*SMALL, "--dry-run")[0] == 0
    assert sorted(place.rglob("*")) == before


BAD = {
    "no such volume": ((*GOOD, "--volume", "gone.zarr", "--labels", "labels.zarr"), "gone.zarr do"),
    "labels without a volume": ((*GOOD, "--labels", "labels.zarr"), "1 --volume and 2 --labels"),
    "a wrong setting": ((*GOOD, "--steps", "0"), "--steps 0"),
    "an out elsewhere": ((*GOOD[:-1], "s3://bucket/w.safetensors"), "expected a path that every"),
    "more ranks than workers": (
        (*GOOD, "--ranks", "9", "--cluster", "gpu", "--nodes", "2"),
        "9 ranks on 4 workers: each rank needs its own worker; use more --nodes, set gpus_per_job "
        "or workers_per_job in the profile, or use at most --ranks 4"),
    "more ranks than patches": (
        (*SMALL, "--ranks", "2", "--cluster", "gpu"), "2 ranks for a batch of 1"),
    "shares": ((*GOOD, "--shard", "2"), "unrecognized arguments: --shard"),
    "another batch system": ((*GOOD, "--cluster", "local"), "cluster local: expected a profile"),
    "no node": ((*GOOD, "--nodes", "0"), "--nodes 0: expected at least 1"),
    "no Slurm here": (GOOD, "sbatch not found"),
}  # fmt: skip


@pytest.mark.parametrize(("words", "says"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line_exit_2_and_nothing_is_submitted(words, says, submit, place):
    code, out, err = submit(*words)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert says in err
    assert not list(place.glob("w.*"))


def test_a_job_neither_repeats_a_finished_training_nor_continues_another_one(submit, place):
    pair = LabelledVolume(volume="raw.zarr", labels="labels.zarr")
    prepared = prepare_training([pair], "w.safetensors", TrainOptions(config="c.toml"))
    job = prepared.job(batch=1)  # its normalisation is stated: nothing to measure
    end = train(job, Alone())
    code, script, _ = submit(*SMALL, "--dry-run")
    assert (code, run_of(script)[0]) == (0, "train"), "the weights are missing"
    write_weights(prepared, job, end)
    done = f"done already: 2 steps; weights: {place}/w.safetensors\n"
    assert submit(*SMALL) == (0, "", done)
    code, out, err = submit(*SMALL, "--seed", "3")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "the checkpoint was made with training.seed = 0, now it is 3" in err
