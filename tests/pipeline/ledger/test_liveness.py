"""A run that lives is known to live, a dead one to be dead, whatever clocks and signals do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import zarr

from pipeline.base.errors import OutputError
from pipeline.base.location import Location
from pipeline.base.process_record import is_running, this_process
from pipeline.ledger import liveness
from pipeline.ledger.creation import begin_run_group, complete_run_group
from pipeline.ledger.identity import Job
from pipeline.ledger.ledger import BlockState, Ledger
from pipeline.ledger.liveness import ALIVE, alive, live_run
from pipeline.ledger.progress import blocks_done
from pipeline.output.ome_write import create_images
from pipeline.verification.verify import check_no_run

JOB = Job({"weights": "a" * 64})
BLOCKS = 400

DRIVER = """
import sys
from pipeline.base.location import Location
from pipeline.base.errors import RunError
from pipeline.ledger.identity import Job
from pipeline.ledger.ledger import BlockState, Ledger
from pipeline.ledger.liveness import alive

place, token, blocks, ends = sys.argv[1:]
output = Location.parse(place)
ledger = Ledger.open(output, Job({"weights": "a" * 64}), owner=token)
with alive(output, token=token):
    print("alive", flush=True)
    try:
        for x in range(int(blocks)):
            if ends == "steps":
                sys.stdin.readline()
            ledger.record([(0, 0, x)], BlockState.DONE)
            print(x, flush=True)
        if ends == "waits":
            sys.stdin.read()
    except RunError as error:
        print(error, flush=True)
        raise SystemExit(1)
"""


@pytest.fixture
def output(tmp_path):
    place = Location.parse(tmp_path / "out.zarr")
    create_images(place, (), version="0.5")
    assert begin_run_group(place, JOB, version="0.5", owner="nobody")
    complete_run_group(place, grid=(1, 1, BLOCKS), version="0.5", in_shares=False)
    return place


@pytest.fixture
def driver(output):
    """Return a function that starts a process which records blocks; it has left its sign."""
    started = []

    def start(token, blocks, ends="waits"):
        process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(output), token, str(blocks), ends],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3],
        )  # fmt: skip
        started.append(process)
        assert process.stdout.readline() == "alive\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def no_wait(text):
    raise AssertionError(f"nothing is to be waited for on the same machine: {text}")


def test_a_run_is_alive_also_while_it_sleeps_and_dead_as_soon_as_it_is_killed(output, driver):
    assert live_run(output, notify=no_wait) is None
    process = driver("first", 3)
    with pytest.raises(OutputError, match=rf"a run is writing .* \(process {process.pid} on") as e:
        check_no_run(output, notify=no_wait)
    assert "\n" not in str(e.value)
    process.send_signal(signal.SIGSTOP)
    assert str(process.pid) in live_run(output, notify=no_wait)
    process.kill()
    process.wait()
    assert live_run(output, notify=no_wait) is None
    assert (output.path / "run" / ALIVE).exists()


def test_a_run_that_ends_leaves_no_sign(output, driver):
    process = driver("first", 1)
    process.communicate("")
    assert process.returncode == 0
    assert not (output.path / "run" / ALIVE).exists()


def test_a_number_of_a_process_that_another_one_has_now_is_not_a_live_run(output):
    with alive(output, token="nobody"):
        assert live_run(output, notify=no_wait)
        path = output.path / "run" / ALIVE
        sign = json.loads(path.read_text())
        path.write_text(json.dumps({**sign, "started": sign["started"] - 1}))
        assert live_run(output, notify=no_wait) is None
    record = this_process()
    assert is_running(record) is True
    assert is_running({**record, "pid": 2**22 + 1}) is False
    for changed in ({"host": "other"}, {"boot": "other"}, {"processes": "pid:[1]"}):
        assert is_running({**record, **changed}) is None


@pytest.mark.parametrize("jump_s", [0, 6 * 3600, -6 * 3600])
def test_on_another_machine_only_the_growing_number_counts_and_no_clock(
    output, monkeypatch, jump_s
):
    monkeypatch.setattr(liveness, "SILENT_AFTER_S", 0.6)
    monkeypatch.setattr(liveness, "CHECK_EVERY_S", 0.02)
    monkeypatch.setattr(liveness, "BEAT_S", 0.05)
    monkeypatch.setattr(liveness, "this_process", lambda: {**this_process(), "host": "elsewhere"})
    real, lines = time.time, []
    here = SimpleNamespace(  # of the module alone: loops of other tests' clusters use the real one
        time=lambda: real() + jump_s, monotonic=time.monotonic, sleep=time.sleep
    )
    monkeypatch.setattr(liveness, "time", here)
    path = output.path / "run" / ALIVE
    with alive(output, token="nobody"):
        os.utime(path, (real() - jump_s, real() - jump_s))  # times of the other one
        assert "on elsewhere" in live_run(output, notify=lines.append)
        assert len(lines) == 1
        sign = path.read_bytes()
    path.write_bytes(sign)  # as a killed run leaves it
    os.utime(path, (real() + jump_s, real() + jump_s))
    assert live_run(output, notify=lines.append) is None
    assert "may be writing" in lines[1]


def ledger_files(output):
    files = (path for path in (output.path / "run").rglob("*") if path.is_file())
    return {path: path.read_bytes() for path in files if path.name != ALIVE}


def test_a_run_that_wakes_after_another_took_over_writes_nothing_more(output, driver):
    first = driver("first", BLOCKS, "steps")
    for x in range(20):
        print(file=first.stdin, flush=True)
        assert first.stdout.readline() == f"{x}\n"
    first.send_signal(signal.SIGSTOP)
    second = Ledger.open(output, JOB, owner="second")
    left = [(0, 0, x) for x in range(BLOCKS) if not second.is_done((0, 0, x))]
    assert len(left) == BLOCKS - 20
    second.record(left, BlockState.DONE)
    second.note(levels=[])
    before = ledger_files(output)
    first.send_signal(signal.SIGCONT)
    out, _ = first.communicate("\n")
    assert first.returncode == 1
    assert out.splitlines()[-1] == f"another run has taken over {output}: this one ends"
    assert ledger_files(output) == before
    second.check()
    assert blocks_done(output) == BLOCKS


STARTER = """
import sys, pathlib, time
from pipeline.base.errors import OutputError, RunError
from pipeline.base.location import Location
from pipeline.ledger.identity import Job
from pipeline.ledger.ledger import BlockState
from pipeline.ledger.opening import open_output
from pipeline.ledger.output_action import choose_output_action

number, folder, rounds = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3])
for turn in range(rounds):
    output = Location.parse(folder / f"{turn}.zarr")
    (folder / f"{turn}-{number}").touch()
    while not (folder / f"{turn}-{3 - int(number)}").exists():
        pass
    try:
        action = choose_output_action(
            output, source=None, share=None, overwrite=False, finishing=False
        )
        ledger, token = open_output(
            output, Job({"weights": "a"}), action=action, grid=(1, 1, 4), version="0.5",
            provenance={},
        )
        (folder / f"{turn}-{number}-open").touch()
        while not any(
            (folder / f"{turn}-{3 - int(number)}-{end}").exists() for end in ("open", "refused")
        ):
            pass
        for x in range(4):
            ledger.record([(0, 0, x)], BlockState.DONE)
        print(turn, "done", flush=True)
    except (OutputError, RunError) as error:
        (folder / f"{turn}-{number}-refused").touch()
        print(turn, type(error).__name__, str(error), flush=True)
"""


def test_of_two_runs_that_start_in_the_same_millisecond_exactly_one_goes_to_the_end(tmp_path):
    rounds = 25
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", STARTER, number, str(tmp_path), str(rounds)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            cwd=Path(__file__).parents[3],
        )
        for number in "12"
    ]  # fmt: skip
    said = [process.communicate(timeout=120) for process in processes]
    assert [err for _, err in said] == ["", ""]
    lines = [out.splitlines() for out, _ in said]
    assert [len(one) for one in lines] == [rounds, rounds]
    for turn, (one, other) in enumerate(zip(*lines, strict=True)):
        done = [line for line in (one, other) if line == f"{turn} done"]
        refused = [line for line in (one, other) if line not in done]
        assert (len(done), len(refused)) == (1, 1), (one, other)
        assert "another run" in refused[0]
        whole = zarr.open_array(tmp_path / f"{turn}.zarr/run/done", mode="r")[...]
        assert (whole == BlockState.DONE).all()


def test_the_sign_of_a_run_that_was_taken_over_is_not_rewritten(output, monkeypatch):
    monkeypatch.setattr(liveness, "BEAT_S", 0.02)
    with alive(output, token="nobody"):
        (thread,) = [t for t in threading.enumerate() if t.name == "alive"]
        Ledger.open(output, JOB, owner="second")  # from now on it may end at any moment
        thread.join(timeout=10)
        assert not thread.is_alive()
        with alive(output, token="second"):
            assert json.loads((output.path / "run" / ALIVE).read_text())["token"] == "second"
