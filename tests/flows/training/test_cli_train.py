"""`overtile train` in a terminal: the live line, Ctrl-C and --resume, log and TensorBoard."""

from __future__ import annotations

import csv
import os
import re
import signal
import time
from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import pytest

from deploy import RanksResumed, TurnChanged
from flows.cli.main import main
from flows.options.train import LabelledVolume, TrainOptions
from flows.text import training
from flows.text.training import TerminalBar, TerminalLines, WaitShare, bar_text, message_text
from flows.training.prepare import prepare_training
from pipeline.base.errors import TrainingFailedError
from unet.training.logs import BEFORE, CsvLog, TensorBoardLog
from unet.training.loop import train
from unet.training.messages import Note, StepsDone, Validated
from unet.training.ranks import Alone

CONFIG = """
[network]
base_channels = 2
levels = 2
[training]
patch = [12, 12]
batch = 1
precision = "fp32"
validate_every = 30
checkpoint_every = 20
[training.augment]
elastic_sigma = 1.0
"""


@pytest.fixture(scope="module")
def place(labelled_folder):
    """Return a folder with a volume, its labels and a config."""
    return labelled_folder(CONFIG, depth=3)


def command(place, out, *more, steps):
    return [
        "train", "--volume", str(place / "raw.zarr"), "--labels", str(place / "labels.zarr"),
        "--validation-slices", "2:3", "--config", str(place / "config.toml"),
        "--steps", str(steps), "--out", str(out), *more,
    ]  # fmt: skip


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_on_a_terminal_one_line_is_updated_and_validations_scroll_above_it(
    place, tmp_path, on_a_terminal
):
    out = tmp_path / "w.safetensors"
    said = on_a_terminal(command(place, out, steps=60), columns=80)
    assert "\x1b[" in said
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said)
    lines = re.split(r"[\r\n]+", plain)
    states = [line for line in lines if re.search(r"\d+/60 loss", line)]
    last = r"[━╸╺ ]{8} 60/60 loss [\d.]+ (lr|wait) [\de.%-]+ IoU [\d.]+ [\d.]+ patches/s .* left"
    assert re.fullmatch(last, states[-1].rstrip()), states[-1]
    assert max(map(len, states)) <= 80
    (said,) = [line for line in lines if line.startswith("validation at step 30: pixel error")]
    assert " IoU background 0." in said
    assert ", class 1 0." in said
    assert not [line for line in lines if line.startswith("step ")], "no second kind of line"
    assert lines[-3] == f"done: 60 steps; weights: {out}"
    assert {path.suffix for path in (tmp_path / "w.training").iterdir()} == {
        ".csv", ".png", ".safetensors", ""  # the last one is TensorBoard's directory
    }  # fmt: skip


def stopped(run, *, by, code=1):
    """Wait until a command has done a step, and stop it; return all its lines."""
    while not re.search(r"^step ", run.text, re.MULTILINE):
        assert run.poll() is None, run.text
        time.sleep(0.02)
    by(run)
    ended = run.ended(within_s=run.seconds + 60)
    assert ended.code == code, ended.text
    return ended.text.splitlines()


def to_all(number):
    """Return what sends a signal to driver, ranks and all else, as terminals and Slurm do."""
    return lambda run: os.killpg(run.pid, number)


@pytest.mark.parametrize(
    ("ranks", "ways"),
    [
        (1, [(to_all(signal.SIGINT), 1), (to_all(signal.SIGUSR1), 75)]),
        pytest.param(1, [(to_all(signal.SIGTERM), 1)], marks=pytest.mark.slow),
        pytest.param(
            2,
            [
                (to_all(signal.SIGTERM), 1),
                (lambda run: run.signal(signal.SIGTERM), 1),
                (lambda run: run.signal(signal.SIGUSR1), 75),
                (to_all(signal.SIGHUP), 1),
            ],
            marks=pytest.mark.slow,
        ),
    ],
    ids=["one rank", "one rank, terminated", "two ranks"],
)
def test_a_signal_to_a_training_prints_one_line_on_how_to_resume_and_loses_no_step(
    ranks, ways, place, tmp_path, commands
):
    out = tmp_path / "w.safetensors"
    done = 0
    for by, code in ways:
        more = ["--resume", "--ranks", str(ranks), "--batch", str(ranks)]
        run = commands.start(command(place, out, *more, steps=100_000))
        lines = stopped(run, by=by, code=code)
        assert (f"resuming: {done} of 100000 steps are done" in lines) == (done > 0)
        said = re.fullmatch(
            r"overtile: stopped; checkpoint-(\d+)\.safetensors was saved: resume with the "
            r"same command and --resume",
            lines[-1],
        )
        assert said, lines
        assert lines[-2].startswith(("step", "validation", "draining: the ranks finish")), lines
        assert int(said[1]) > done
        done = int(said[1])
        steps = [
            int(row["step"]) for row in rows_of(tmp_path / "w.training/log.csv") if row["loss"]
        ]
        assert steps == list(range(1, done + 1)), "every step is logged, once"
    assert not out.exists()


def test_a_stopped_and_resumed_training_logs_what_an_uninterrupted_one_does(place, tmp_path):
    pair = LabelledVolume(volume=str(place / "raw.zarr"), labels=str(place / "labels.zarr"))

    def losses(name, *, stops):
        options = TrainOptions(config=str(place / "config.toml"), steps=50, resume=True)
        prepared = prepare_training([pair], str(tmp_path / name), options)
        job = prepared.job(batch=1)  # its normalisation is stated: nothing to measure
        for after in stops:
            asked = count(1)
            rank = Alone(
                listener=CsvLog(job.directory / "log.csv").hear,
                stop=lambda asked=asked, after=after: next(asked) >= after,
            )
            train(job, rank)
        rows = rows_of(job.directory / "log.csv")
        return [(row["step"], row["loss"]) for row in rows if row["loss"]]

    whole = losses("whole.safetensors", stops=[1000])
    assert [step for step, _ in whole] == [str(step) for step in range(1, 51)]
    assert losses("parts.safetensors", stops=[7, 25, 1000]) == whole


def step_message(step, losses):
    return StepsDone(
        step=step, steps=100, loss=sum(losses) / len(losses), losses=tuple(losses),
        learning_rate=1e-3, patches_per_s=2.0, wait_share=0.25,
    )  # fmt: skip


def validation_message(step, picture=""):
    return Validated(
        step=step, loss=0.7, pixel_error=0.1, iou=(0.9, 0.5), dice=(0.95, 0.6), mean_iou=0.7,
        picture=picture,
    )  # fmt: skip


def test_the_log_has_a_row_per_step_and_drops_rows_of_repeated_steps(tmp_path):
    path = tmp_path / "w.training/log.csv"
    log = CsvLog(path)
    for message in (
        step_message(2, [0.9, 0.8]), validation_message(2), step_message(4, [0.7, 0.6]),
        validation_message(4), TurnChanged(holder="others"),
    ):  # fmt: skip
        log.hear(message)
    again = CsvLog(path)  # the process was killed; the last checkpoint is that of step 3
    again.hear(step_message(5, [0.5, 0.4]))
    rows = rows_of(path)
    assert [(row["step"], row["loss"]) for row in rows] == [
        ("1", "0.9"), ("2", "0.8"), ("2", ""), ("3", "0.7"), ("4", "0.5"), ("5", "0.4")
    ]  # fmt: skip
    assert [row["validation_loss"] for row in rows] == ["", "", "0.7", "", "", ""]
    assert [row["learning_rate"] for row in rows] == ["", "0.001", "", "", "", "0.001"]
    again.hear(step_message(1, [0.3]))  # a rank was lost before there was a checkpoint
    assert [row["step"] for row in rows_of(path)] == ["1"]


def test_the_log_marks_each_validation_that_was_the_best_and_continues_one_without_marks(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(f"{','.join(BEFORE)}\n1,0.9,,,,,,\n")
    log = CsvLog(path, note=pytest.fail)
    for message in (
        step_message(2, [0.8]), replace(validation_message(2), is_best=True),
        step_message(3, [0.7]), validation_message(3),
    ):  # fmt: skip
        log.hear(message)
    assert [(row["step"], row["best"]) for row in rows_of(path)] == [
        ("1", ""), ("2", ""), ("2", "*"), ("3", ""), ("3", "")
    ]  # fmt: skip
    said = message_text(replace(validation_message(2, "p.png"), is_best=True))
    assert said.endswith("IoU 0.900, 0.500, the best so far (p.png)")
    said = message_text(replace(validation_message(2, "p.png"), names=("cell", "membrane")))
    assert said.endswith("IoU cell 0.900, membrane 0.500 (p.png)")


@pytest.mark.parametrize("damage", [
    b"step,loss\n1,\xff\xfe\n", b"foo,bar\n1,2\n", b"", b'step,loss\n1,"' + b"x" * 200_000 + b'"\n',
], ids=["no text", "other columns", "empty", "a huge field"])  # fmt: skip
def test_a_damaged_log_is_renamed_and_a_new_one_begun(damage, tmp_path):
    path = tmp_path / "log.csv"
    for aside in ("log.csv.damaged", "log.csv.damaged-2"):
        path.write_bytes(damage)
        said = []
        CsvLog(path, note=said.append).hear(step_message(6, [0.5]))
        assert [row["step"] for row in rows_of(path)] == ["6"]
        assert (tmp_path / aside).read_bytes() == damage
        assert len(said) == 1
        assert said[0].endswith(f"it was renamed to {aside}")
        assert "\n" not in said[0]


def test_half_a_row_left_by_a_full_disk_is_dropped(tmp_path):
    path = tmp_path / "log.csv"
    CsvLog(path).hear(step_message(12, [0.5, 0.4]))
    path.write_bytes(path.read_bytes()[:-3])
    CsvLog(path).hear(step_message(13, [0.3]))
    assert [(row["step"], row["loss"]) for row in rows_of(path)] == [("11", "0.5"), ("13", "0.3")]


def test_ctrl_c_before_the_first_checkpoint_states_that_nothing_was_saved(
    place, tmp_path, monkeypatch, capsys
):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("flows.training.prepare.prepare_training", interrupt)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # pytest keeps its own handlers
    argv = command(place, tmp_path / "w.safetensors", steps=3)
    assert main(argv) == 1
    said = "overtile: stopped before the first checkpoint, so nothing was saved: start the"
    assert capsys.readouterr().err == f"{said} command again\n"


def test_a_log_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "w.training").write_text("in the way")
    with pytest.raises(TrainingFailedError, match=r"log\.csv' cannot be written .*--resume"):
        CsvLog(tmp_path / "w.training/log.csv").hear(step_message(1, [0.5]))


def test_tensorboard_shows_scalars_and_the_validation_picture(tmp_path):
    from PIL import Image
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    Image.new("RGB", (30, 20), "red").save(tmp_path / "v.png")
    log = TensorBoardLog(tmp_path / "tensorboard")
    log.hear(TurnChanged(holder="others"))
    assert not (tmp_path / "tensorboard").exists(), "nothing before the first step"
    log.hear(step_message(3, [0.5]))
    log.hear(validation_message(3, picture=str(tmp_path / "v.png")))
    log.hear(validation_message(4, picture=str(tmp_path / "not seen yet.png")))
    seen = EventAccumulator(str(tmp_path / "tensorboard"))
    seen.Reload()
    assert [(e.step, e.value) for e in seen.Scalars("training/loss")] == [(3, 0.5)]
    assert seen.Scalars("training/learning_rate")[0].value == pytest.approx(1e-3)
    assert seen.Scalars("training/patches_per_s")[0].value == 2
    assert seen.Scalars("validation/mean_iou")[0].value == pytest.approx(0.7)
    (picture,) = seen.Images("validation/slice")
    assert (picture.width, picture.height) == (30, 20)


def test_plain_lines_come_every_ten_seconds_and_at_the_end(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(training, "time", SimpleNamespace(monotonic=lambda: now[0]))
    said = []
    lines = TerminalLines(said.append)
    for step in range(1, 101):
        now[0] += 1
        lines.hear(step_message(step, [0.5]))
    assert [line.split(":")[0] for line in said] == [
        *(f"step {step}/100" for step in range(1, 100, 10)), "step 100/100", said[-1]
    ]  # fmt: skip
    speed = "2.00 patches/s, 25% waiting for samples"
    assert said[1].endswith(f"learning rate 0.001, {speed}, 1 min 29 s left")
    assert said[-1] == "the network waited for samples in 25% of the time"


def test_the_share_of_a_training_that_waited_weighs_its_messages_by_their_time():
    share = WaitShare()
    assert share.text().endswith(" 0% of the time")
    share.hear(step_message(3, [0.5] * 3))  # at two patches a second
    share.hear(replace(step_message(4, [0.5]), patches_per_s=0.5, wait_share=1.0))
    expected = (0.25 * 3 / 2 + 1.0 * 1 / 0.5) / (3 / 2 + 1 / 0.5)
    assert share.text() == f"the network waited for samples in {expected:.0%} of the time"


def test_a_bar_shows_the_share_that_waits_in_place_of_the_learning_rate():
    assert "lr 0.001" in bar_text(replace(step_message(4, [0.5]), wait_share=0.05))
    waiting = bar_text(step_message(4, [0.5]))
    assert "wait 25%" in waiting
    assert "lr " not in waiting


def test_a_bar_never_shows_more_time_left_after_repeated_steps(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(training, "time", SimpleNamespace(monotonic=lambda: now[0]))
    shown = []
    bar = TerminalBar(lambda step, steps, text: shown.append((step, steps, text)))
    for step in (1, 11, 1, 11):
        now[0] += 10
        bar.hear(step_message(step, [0.5]))
    assert [text.endswith("left") for *_, text in shown] == [False, True, False, True]
    assert shown[1][2].endswith("1 min 29 s left")
    assert shown[3] == shown[1]


@pytest.mark.parametrize(
    ("message", "line"),
    [
        (TurnChanged(holder="others"), "other tasks use the workers now"),
        (TurnChanged(holder="ranks"), "the workers train again"),
        (Note("1 of 2 workers train"), "note: 1 of 2 workers train"),
        (
            RanksResumed(attempt=1, world_size=1, reason="rank 1 was lost"),
            "rank 1 was lost: resuming from the last checkpoint with 1 rank",
        ),
        (
            validation_message(4, picture="v.png"),
            "validation at step 4: pixel error 0.1000, IoU 0.900, 0.500 (v.png)",
        ),
    ],
)
def test_every_message_is_one_line(message, line):
    assert message_text(message) == line
