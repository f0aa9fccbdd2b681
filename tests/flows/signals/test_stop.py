"""A command that is stopped reports it in one line, also where the stop meets an import."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flows.cli import main as program

ROOT = Path(__file__).parents[3]
COMPILED = """
import ctypes
from pathlib import Path

RUN = b"import os, signal, time; os.kill(os.getpid(), signal.{signal}); time.sleep(0.3)"
run_string = ctypes.pythonapi.PyRun_String
run_string.restype = ctypes.py_object
try:
    run_string(RUN, 257, ctypes.py_object({{}}), ctypes.py_object({{}}))
except KeyboardInterrupt as error:
    {then}
Path("imported").touch()
"""
"""A module whose code in C meets a signal while it is imported."""
COMMAND = """
import os, signal, sys, time
from flows.cli import main as cli, {command} as command

def meets_a_stop(*args, **kwargs):
    {meets}
    time.sleep(10)

{place}
sys.exit(cli.main({arguments}))
"""
IN_AN_IMPORT = "import compiled"
THEN = (
    "raise",
    "raise ImportError('initialization failed') from error",
    "raise ImportError('a compiled module that loses the cause') from None",
    "raise AttributeError('of a package that is half imported') from None",
)
"""What compiled modules raise where they are interrupted."""
SOME = [THEN[0], *(pytest.param(then, marks=pytest.mark.slow) for then in THEN[1:])]
SEGMENT = ["segment", "in.zarr", "out.zarr", "--weights", "demo"]
TRAIN = ["train", "--volume", "in.zarr", "--labels", "l.zarr", "--out", "w.safetensors"]
STOPPED = "overtile: stopped\n"
KEPT = "overtile: stopped; finished work is kept: start the same command again to resume\n"
DRAINED = "overtile: drained before the first block: start the same command again to resume\n"


@pytest.fixture
def stopped(tmp_path):
    """Return a function that runs such a command by python -m, and gives exit code and stderr."""

    def run(*, signal="SIGTERM", then="raise", meets=IN_AN_IMPORT, **parts):
        (tmp_path / "compiled.py").write_text(COMPILED.format(signal=signal, then=then))
        (tmp_path / "stopped.py").write_text(COMMAND.format(meets=meets, **parts))
        environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
        ended = subprocess.run(
            [sys.executable, "-P", "-m", "stopped"],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100,
        )  # fmt: skip
        is_imported = (tmp_path / "imported").exists()
        assert is_imported or meets != IN_AN_IMPORT, "the import was interrupted"
        return ended.returncode, ended.stderr

    return run


WEIGHTS = {
    "command": "weights", "arguments": ["weights", "demo"], "place": "command.run = meets_a_stop",
}  # fmt: skip
DOORS = "from flows.segmentation import run; run.run_segmentation = meets_a_stop"


@pytest.mark.parametrize("signal", ["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("then", THEN)
def test_a_stop_during_an_import_is_one_line_and_exit_code_1(then, signal, stopped):
    assert stopped(signal=signal, then=then, **WEIGHTS) == (1, STOPPED)


@pytest.mark.parametrize("signal", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_stop_at_any_other_time_is_one_line_and_exit_code_1(signal, stopped):
    meets = f"os.kill(os.getpid(), signal.{signal})"
    assert stopped(signal=signal, meets=meets, **WEIGHTS) == (1, STOPPED)


@pytest.mark.parametrize("then", SOME)
def test_a_drain_before_the_first_block_is_one_line_and_exit_code_75(then, stopped):
    said = stopped(signal="SIGUSR1", then=then, command="segment", place=DOORS, arguments=SEGMENT)
    assert said == (75, DRAINED)


SLOW_FIRST_IMPORT = """
import os, signal, sys
from pathlib import Path
from flows.cli import main as cli

sys.path.insert(0, {folder!r})
import flows.cli.local_workers as first

def expect_workers(*args, **options):
    import slow

first.expect_workers = expect_workers
sys.exit(cli.main({arguments!r}))
"""
SLOW = (
    "import os, signal, time\nos.kill(os.getpid(), signal.{signal})\n"
    "until = time.monotonic() + 30\nwhile time.monotonic() < until: time.sleep(0.01)\n"
    "open('imported', 'w')\n"
)
FIRST = {
    "segment": SEGMENT,
    "convert": ["convert", "in.zarr", "out.zarr"],
    "objects": ["objects", "in.zarr", "out.zarr"],
    "train": TRAIN,
}


@pytest.mark.parametrize("command", FIRST)
@pytest.mark.parametrize(
    ("signal", "ends"),
    [("SIGTERM", (1, STOPPED)), ("SIGINT", (1, STOPPED)), ("SIGUSR1", (75, DRAINED))],
)
def test_a_stop_during_the_first_imports_does_not_wait_for_their_end(
    command, signal, ends, tmp_path
):
    """Nothing has been written by then: an import of 30 s is not waited for."""
    (tmp_path / "slow.py").write_text(SLOW.format(signal=signal))
    code = SLOW_FIRST_IMPORT.format(folder=str(tmp_path), arguments=FIRST[command])
    ran = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True,
        timeout=100, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == ends
    assert not (tmp_path / "imported").exists(), "the end of the import was waited for"
    assert [path.name for path in tmp_path.iterdir() if path.name != "__pycache__"] == ["slow.py"]


def test_a_drain_whose_signal_ran_the_handler_is_a_drain(stopped):
    """It was seen, rarely, though every thread has the signal blocked."""
    meets = "signal.getsignal(signal.SIGUSR1)(signal.SIGUSR1, None); time.sleep(10)"
    said = stopped(signal="SIGUSR1", meets=meets, command="segment", place=DOORS, arguments=SEGMENT)
    assert said == (75, DRAINED)


def test_a_drain_while_its_handler_is_being_set_up_is_a_drain(stopped):
    place = (
        "import threading; start = threading.Thread.start\n"
        "def start_and_meet(thread):\n"
        "    start(thread)\n"
        "    if thread.name == 'drain':\n"
        "        os.kill(os.getpid(), signal.SIGUSR1); time.sleep(10)\n"
        "threading.Thread.start = start_and_meet"
    )
    said = stopped(
        signal="SIGUSR1", meets="pass", command="segment", place=place, arguments=SEGMENT
    )
    assert said == (75, DRAINED)


def test_a_drain_that_waits_for_an_import_while_the_run_begins_lets_the_run_drain():
    code = (
        "import os, signal, sys, time\n"
        "from types import SimpleNamespace\n"
        "from flows.signals import stop\n"
        "from flows.signals.drain import drain_on_signal\n"
        "stop.RETRY_S = 2\n"
        "stop.handle_stops()\n"
        "with drain_on_signal() as drain:\n"
        "    import compiled\n"
        "    drain.begin(SimpleNamespace(drain=lambda: print('drained', flush=True)))\n"
        "    time.sleep(3)\n"
        "print('ended')\n"
    )
    assert run_beside(COMPILED.format(signal="SIGUSR1", then="raise"), code) == "drained\nended\n"


def run_beside(compiled, code):
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        Path(folder, "compiled.py").write_text(compiled)
        environment = {**os.environ, "PYTHONPATH": f"{folder}:{ROOT}"}
        ran = subprocess.run(
            [sys.executable, "-P", "-c", code], cwd=folder, env=environment, capture_output=True,
            text=True, timeout=100, check=True,
        )  # fmt: skip
    return ran.stdout


def test_an_error_that_no_stop_caused_is_shown_whole(stopped):
    code, said = stopped(
        meets="raise ImportError('no such thing')", **WEIGHTS
    )  # fmt: skip
    assert code == 1
    assert said.startswith("Traceback")
    assert said.endswith("ImportError: no such thing\n")


def test_an_error_while_a_run_is_stopped_is_shown_whole(stopped):
    meets = (
        "try: os.kill(os.getpid(), signal.SIGTERM); time.sleep(10)\n"
        "    except KeyboardInterrupt as error: raise OSError('No space left') from error"
    )
    code, said = stopped(meets=meets, **WEIGHTS)
    assert code != 0
    assert said.endswith("OSError: No space left\n")


@pytest.mark.parametrize("then", SOME)
def test_a_stopped_training_reports_what_is_kept(then, stopped):
    said = stopped(then=then, command="train", place="command._run = meets_a_stop", arguments=TRAIN)
    line = "overtile: stopped before the first checkpoint, so nothing was saved"
    assert said == (1, f"{line}: start the command again\n")


@pytest.mark.parametrize("ignored", ["SIGINT", "SIGHUP"])
def test_a_signal_that_is_ignored_stays_ignored(ignored, stopped):
    """As in the background of a script: ``overtile segment … &``, and by nohup."""
    ignores = f"signal.signal(signal.{ignored}, signal.SIG_IGN); "
    said = stopped(
        meets=f"os.kill(os.getpid(), signal.{ignored})\n    sys.exit(7)",
        **{**WEIGHTS, "place": ignores + WEIGHTS["place"]},
    )
    assert said == (7, "")


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads Linux's /proc")
def test_processes_that_a_command_starts_take_sigterm_and_sigint(tmp_path):
    """Those that start during an import too: nothing is masked that they could inherit."""
    (tmp_path / "starts.py").write_text(
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
    )
    code = (
        "import os, signal\nfrom flows.signals.drain import drain_on_signal\n"
        "from flows.signals.stop import handle_stops\nhandle_stops()\n"
        "with drain_on_signal():\n    import starts\n"
        "    print(open(f'/proc/{starts.child.pid}/status').read())\n    starts.child.terminate()\n"
        "print(starts.child.wait(20))"
    )
    ran = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
    )  # fmt: skip
    blocked = int(re.search(r"SigBlk:\s*(\w+)", ran.stdout)[1], 16)
    ignored = int(re.search(r"SigIgn:\s*(\w+)", ran.stdout)[1], 16)
    for number in (signal.SIGTERM, signal.SIGINT):
        assert not (blocked | ignored) >> (number - 1) & 1
    assert ran.stdout.split()[-1] == "-15"


@pytest.mark.parametrize(("words", "line"), [(SEGMENT, KEPT), (["demo"], STOPPED)])
def test_only_a_command_that_keeps_its_work_says_so(words, line, monkeypatch, capsys):
    def stop(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"flows.cli.{words[0]}.run", stop)
    assert program.main(words) == 1
    assert capsys.readouterr().err == line
