"""How the shell shows a run: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import subprocess
import sys
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import zarr

from flows.text import terminal
from flows.text.progress_line import ProgressLine
from pipeline.ledger.figures import Figures
from pipeline.ledger.progress import Progress

FIRST_SECONDS = Figures(seconds=40.0)
HALFWAY = Progress(
    blocks=200, done=100, figures=Figures(blocks=80, voxels=8 * 10**8, seconds=40.0), workers=2
)


def test_a_line_shows_blocks_done_speed_and_time_left():
    assert ProgressLine()(HALFWAY) == "100/200 blocks, 2.00 blocks/s, 20.00 Mvoxel/s, 50 s left"


def test_blocks_of_an_earlier_run_do_not_count_for_the_speed():
    figures = Figures(blocks=10, voxels=10**6, seconds=100.0)
    resumed = replace(HALFWAY, done=190, figures=figures)
    assert (
        ProgressLine()(resumed) == "190/200 blocks, 0.10 blocks/s, 0.01 Mvoxel/s, 1 min 40 s left"
    )


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"done": 20, "figures": FIRST_SECONDS}, "20/200 blocks, waiting for the first block"),
        (
            {"set_aside": ((0, 0, 1),) * 3, "done": 20, "figures": FIRST_SECONDS},
            "20/200 blocks, 3 set aside, waiting for the first block",
        ),
        ({"done": 200, "stage": "pyramid"}, "200/200 blocks, building the pyramid"),
        ({"done": 200, "stage": "done"}, "200/200 blocks, done"),
        ({"workers": 0}, "100/200 blocks, no workers: waiting"),
        (
            {"workers": 0, "set_aside": ((0, 0, 1),)},
            "100/200 blocks, 1 set aside, no workers: waiting",
        ),
        ({"workers": 0, "stage": "pyramid", "done": 200}, "200/200 blocks, no workers: waiting"),
        ({"workers": 0, "stage": "done", "done": 200}, "200/200 blocks, done"),
        (
            {"blocks": 1, "done": 0, "figures": FIRST_SECONDS},
            "0/1 block, waiting for the first block",
        ),
    ],
)
def test_a_line_shows_the_stage_of_the_run(change, line):
    assert ProgressLine()(replace(HALFWAY, **change)) == line


class SlowRun:
    """A run as the terminal sees it, with a block every 20 ms."""

    resumed_blocks = 0
    blocks = 200

    def __init__(self):
        self.started = time.monotonic()
        self.asked_by = set()

    def progress(self):
        self.asked_by.add(threading.current_thread().name)
        seconds = time.monotonic() - self.started
        done = min(200, int(seconds / 0.02))
        figures = Figures(blocks=done, voxels=done * 10**6, seconds=seconds)
        return replace(HALFWAY, done=done, figures=figures)


def test_plain_lines_come_quickly_at_first_and_rarely_later(capsys, monkeypatch):
    monkeypatch.setattr(terminal, "PLAIN_SHORTEST_S", 0.05)
    monkeypatch.setattr(terminal, "PLAIN_LONGEST_S", 0.2)
    run = SlowRun()
    with terminal.shown(run):
        time.sleep(1.0)
    lines = capsys.readouterr().err.splitlines()
    assert 4 <= len(lines) <= 15
    assert all(re.match(r"\d+/200 blocks, ", line) for line in lines)
    assert run.asked_by == {"progress"}, "a display that blocks the driving loop"


def test_a_resumed_run_reports_it_first(capsys):
    run = SlowRun()
    run.resumed_blocks = 150
    with terminal.shown(run):
        pass
    assert capsys.readouterr().err == "resuming: 150 of 200 blocks are done already\n"


@pytest.fixture
def command(weights, textured, tmp_path):
    zarr.create_array(tmp_path / "in.zarr", data=textured((8, 64, 64)))
    return [
        "segment", str(tmp_path / "in.zarr"), str(tmp_path / "out.zarr"),
        "--weights", weights("3d"), "--workers", "1", "--block", "4,8,8",
    ]  # fmt: skip


@pytest.mark.slow
def test_without_a_terminal_every_line_is_plain_and_the_last_ones_show_the_result(
    command, commands
):
    run = commands.start(command)
    assert run.ended().code == 0
    assert run.printed == ""
    assert "\x1b" not in run.text
    assert "\r" not in run.text
    lines = run.text.splitlines()
    assert any(re.match(r"dashboard: http://127\.0\.0\.1:\d+/status", line) for line in lines)
    assert "segmenting 8×64×64 voxels in 128 blocks of 4×8×8" in lines
    *_, done, segmentation, report, look = lines
    seconds, speed = re.match(
        r"done: 128 blocks; 32,768 voxels in ([\d.]+) s, ([\d.e-]+) Mvoxel/s$", done
    ).groups()
    assert float(speed) == pytest.approx(32_768e-6 / float(seconds), rel=0.2)
    assert segmentation.startswith("segmentation: ")
    assert os.path.isdir(segmentation.removeprefix("segmentation: "))
    assert os.path.isfile(report.removeprefix("report: "))
    assert look == f"look at it: overtile view {segmentation.removeprefix('segmentation: ')}"


def test_on_a_terminal_a_bar_moves_beside_speed_and_time_left(command, on_a_terminal):
    said = on_a_terminal(command, columns=80)
    assert "\x1b[" in said
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said)
    states = [line for line in re.split(r"[\r\n]+", plain) if "/128 blocks" in line]
    moving = [re.match(
        r"[━╸╺ ]{16}\s+\d+ % (\d+)/128 blocks, [\d.e-]+ blocks/s, [\d.e-]+ Mvoxel/s, .* left", state
    ) for state in states]  # fmt: skip
    counts = [int(match[1]) for match in moving if match]
    assert len(set(counts)) > 1, plain
    assert counts == sorted(counts)
    assert states[-1].split()[-2:] == ["blocks,", "done"]
    assert max(map(len, states)) <= 80
    assert plain.rstrip().splitlines()[-1].startswith("look at it: ")


def test_a_plain_line_is_repeated_only_after_a_minute(monkeypatch, capsys):
    class Waiting:
        def progress(self):
            return replace(HALFWAY, blocks=1, done=0, figures=FIRST_SECONDS)

    now = 100.0
    monkeypatch.setattr(terminal, "time", SimpleNamespace(monotonic=lambda: now))
    show = terminal._changed_lines(Waiting())
    show()
    show()
    assert capsys.readouterr().err == "0/1 block, waiting for the first block\n"
    now += 61
    show()
    assert capsys.readouterr().err == "0/1 block, waiting for the first block\n"


@pytest.mark.slow
def test_on_a_terminal_the_first_line_comes_before_the_imports_and_leaves_no_trace(tmp_path):
    command = [sys.executable, "-m", "flows.cli", "segment", str(tmp_path / "in.zarr"),
               str(tmp_path / "out.zarr"), "--weights", "demo"]  # fmt: skip
    master, tty = pty.openpty()
    with subprocess.Popen(command, stderr=tty) as process:
        os.close(tty)
        shown, loaded = os.read(master, 65536), modules_of(process.pid)
        with contextlib.suppress(OSError):  # Linux: the last writer has gone
            while piece := os.read(master, 65536):
                shown += piece
    os.close(master)
    assert process.returncode == 2
    text = shown.decode()
    assert text.lstrip("\r\x1b[K").startswith("starting overtile segment …")
    assert not [name for name in loaded if "numpy" in name or "zarr" in name]
    at_the_end = [line.rpartition("\x1b[K")[2] for line in text.split("\r\n")]
    assert [line for line in at_the_end if line] == [
        f"overtile: {tmp_path / 'in.zarr'} does not exist"
    ]


def modules_of(process_id):
    """Return the libraries that a process has loaded."""
    with open(f"/proc/{process_id}/maps") as maps:
        return {line.split()[-1] for line in maps if ".so" in line}
