"""A terminal or a log that is gone ends no run; a terminal of ASCII shows every line."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import zarr

from flows.cli.system_errors import refused_by_the_system

ROOT = Path(__file__).parents[3]
ASCII = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def shell(line, *, code=None, cwd=None, **environment):
    """Run a line of bash, in which `overtile` is the command; return (exit code, out, err)."""
    ran = subprocess.run(
        ["bash", "-c", f'overtile() {{ "{sys.executable}" -P -m flows.cli "$@"; }}; {line}'],
        capture_output=True, timeout=120, check=False, cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip
    return ran.returncode, ran.stdout, ran.stderr


def python(code, *words, **options):
    ran = subprocess.run(
        [sys.executable, "-P", "-c", code, *words], capture_output=True, timeout=60, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), **options.pop("environment", {})}, **options,
    )  # fmt: skip
    return ran.returncode, ran.stdout, ran.stderr


@pytest.fixture
def volume(tmp_path, textured):
    """Return a folder with a volume whose name is no ASCII."""
    zarr.create_array(
        tmp_path / "größe.zarr", data=textured((2, 32, 32)), dimension_names=("z", "y", "x")
    )
    return tmp_path


def test_every_line_is_shown_where_the_locale_knows_ascii_only(volume):
    line = "overtile weights demo && overtile plan größe.zarr out.zarr --weights demo"
    code, out, err = shell(line, cwd=volume, **ASCII)
    assert (code, err) == (0, b"")
    readable = out.decode("ascii")
    assert "2x32x32" in readable
    assert "\\" not in readable
    code, out, err = shell("overtile plan größer.zarr out.zarr --weights demo", cwd=volume, **ASCII)
    assert (code, out, err.count(b"\n")) == (2, b"", 1)
    assert "größer.zarr".encode() in err, "the name's own bytes"


CHARACTERS = """
import sys
from flows.text.streams import settle_streams
settle_streams()
for stream in (sys.stdout, sys.stderr):
    stream.write("2×3 µm³ … \\N{EM DASH} ≥ 日 \\udcff")
"""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_character_that_an_encoding_lacks_is_replaced_on_both_streams(encoding, tmp_path):
    (tmp_path / "program.py").write_text(CHARACTERS, encoding="utf-8")
    run = "import runpy, sys; runpy.run_path(sys.argv[1])"
    environment = {**ASCII, "PYTHONIOENCODING": encoding}
    code, out, err = python(run, tmp_path / "program.py", environment=environment)
    assert code == 0
    assert out == err
    assert (
        out
        == {
            "ascii": b"2x3 um3 ... - >= \\u65e5 \xff",
            "latin-1": "2×3 µm³ ".encode("latin-1") + b"... - >= \\u65e5 \xff",
            "utf-8": "2×3 µm³ … — ≥ 日 ".encode() + b"\xff",
        }[encoding]
    )


GONE = ["2>&-", "2>/dev/full", "2> >(exec true)", ">&- 2>&- <&-"]


@pytest.mark.parametrize("gone", GONE)
def test_a_finished_command_exits_with_0_where_its_lines_cannot_be_written(gone):
    code = (
        "import sys, time\nfrom flows.cli import main as cli, weights as command\n"
        "from flows.text.terminal import say, show_status\n"
        "def run(options):\n"
        "    for number in range(2000): say('a line ' * 20)\n"
        "command.run = run\nsys.argv = ['overtile', 'weights', 'demo']\nsys.exit(cli.main())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CODE": code}
    ran = subprocess.run(
        ["bash", "-c", f'"{sys.executable}" -P -c "$CODE" {gone}'], check=False, env=environment,
        timeout=60,
    )  # fmt: skip
    assert ran.returncode == 0


def test_a_run_whose_log_is_gone_completes(volume):
    """The reader of a pipe ends after the first line, as `ssh` and `head` do."""
    line = "overtile convert größe.zarr out.zarr --shard 2,16,16 --workers 1 2> >(head -n 1 >&2)"
    code, _, _ = shell(line, cwd=volume)
    assert code == 0
    assert zarr.open_array(volume / "out.zarr/0")[:].any()


def test_no_file_takes_the_place_of_a_closed_stream(tmp_path):
    code = (
        "import os, sys\nfrom flows.text.streams import settle_streams\nsettle_streams()\n"
        "file = open(sys.argv[1], 'w')\nos.write(2, b'a message of a library')\n"
        "sys.exit(0 if file.fileno() > 2 else 9)\n"
    )
    ran = subprocess.run(
        ["bash", "-c", f'"{sys.executable}" -P -c "$CODE" {tmp_path}/file <&- >&- 2>&-'],
        env={**os.environ, "PYTHONPATH": str(ROOT), "CODE": code}, check=False, timeout=60,
    )  # fmt: skip
    assert ran.returncode == 0
    assert (tmp_path / "file").read_text() == ""


def test_what_libraries_report_after_the_end_of_a_command_is_not_shown():
    code = (
        "import atexit, logging, sys\nfrom flows.cli import main as cli, weights as command\n"
        "def run(options):\n"
        "    logging.basicConfig(level=logging.INFO)\n"
        "    atexit.register(logging.getLogger('distributed.process').info, 'reaping stray')\n"
        "    logging.getLogger('distributed.process').info('before')\n"
        "command.run = run\nsys.argv = ['overtile', 'weights', 'demo']\nsys.exit(cli.main())\n"
    )
    assert python(code) == (0, b"", b"INFO:distributed.process:before\n")


def test_the_end_of_a_command_looks_for_no_garbage_in_what_it_has_imported():
    code = (
        "import atexit, gc, sys\nfrom flows.cli import main as cli, weights as command\n"
        "atexit.register(lambda: print(gc.get_freeze_count() > 10_000))\n"
        "command.run = lambda options: None\nsys.argv = ['overtile', 'weights', 'demo']\n"
        "sys.exit(cli.main())\n"
    )
    assert python(code) == (0, b"True\n", b"")


def test_a_dask_configuration_that_cannot_be_read_is_one_line(volume):
    (volume / "jobqueue.yaml").write_text("jobqueue: [\n")
    line = "overtile convert größe.zarr out.zarr --workers 1"
    code, out, err = shell(line, cwd=volume, DASK_CONFIG=str(volume))
    assert (code, out) == (2, b"")
    said = f"overtile: A dask config file at '{volume}/jobqueue.yaml' is malformed"
    assert err.startswith(said.encode())
    assert err.count(b"\n") == 1
    assert not (volume / "out.zarr").exists()


def test_a_limit_of_processes_is_one_line_that_names_the_limit():
    words = "this user may run no more processes and threads here (ulimit -u is "
    assert refused_by_the_system(RuntimeError("can't start new thread")).startswith(words)
    assert refused_by_the_system(BlockingIOError(11, "Resource temporarily unavailable"))
    caused = OSError("other")
    caused.__cause__ = RuntimeError("can't start new thread")
    assert refused_by_the_system(caused).startswith(words)
    assert refused_by_the_system(RuntimeError("other")) is None
    assert refused_by_the_system(ValueError("other")) is None


COMMANDS = {
    "segment": "größe.zarr out.zarr --weights demo --workers 1",
    "convert": "größe.zarr out.zarr --workers 1",
    "objects": "größe.zarr out.zarr --workers 1",
    "train": "--volume größe.zarr --labels größe.zarr --out out.zarr --steps 1",
}
AS_ANOTHER_USER = (
    "setpriv", "--reuid=65533", "--regid=65533", "--clear-groups",
    "--inh-caps=+dac_override,+dac_read_search", "--ambient-caps=+dac_override,+dac_read_search",
    "bash", "-c", 'ulimit -u "$0"; exec "$@"',
)  # fmt: skip
"""A user without processes, to whom limits apply, and who can read all files."""
NEEDS_ROOT = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs another user"
)


def within(most, command, *, cwd):
    """Run a command with a limit of processes; return its exit code and standard error."""
    ran = subprocess.run(
        [*AS_ANOTHER_USER, str(most), sys.executable, "-P", "-m", "flows.cli", command,
         *COMMANDS[command].split()],
        cwd=cwd, capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(cwd), "OMP_NUM_THREADS": "1",
             "OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    return ran.returncode, ran.stderr


@NEEDS_ROOT
@pytest.mark.parametrize("command", COMMANDS)
def test_a_limit_of_processes_ends_a_command_before_it_has_written_anything(command, volume):
    code, said = within(6, command, cwd=volume)
    assert code == 1
    words = r"overtile: a run needs 32 threads or more, and \d could be started: this user may run "
    assert re.match(words + r"no more processes and threads here \(ulimit -u is 6\); .*\n$", said)
    assert not (volume / "out.zarr").exists()


@pytest.mark.slow
@NEEDS_ROOT
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("most", [32, 36, 44])
def test_a_command_within_a_limit_of_processes_ends_well_or_with_one_line(
    most, command, volume, weights
):
    code, said = within(most, command, cwd=volume)
    assert "Traceback" not in said
    assert code in (0, 2) or "ulimit -u" in said.splitlines()[-1]
