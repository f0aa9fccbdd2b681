"""The tutorial: every command of docs/tutorial.md runs, and gives what the page says."""

import csv
import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent / "docs/tutorial.md"
COMMANDS = re.findall(r"^    overtile (.*)$", PAGE.read_text(), re.MULTILINE)
LINK = re.compile(r"http://127\.0\.0\.1:\d+\S*")


def overtile(words):
    return [sys.executable, "-m", "flows.cli", *shlex.split(words)]


@pytest.mark.slow
def test_every_command_of_the_tutorial_runs_and_cells_are_counted(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(PAGE.parents[1])}
    *batch, view = COMMANDS
    assert [command.split()[0] for command in batch] == [
        "demo", "train", "preview", "segment", "objects",
    ]  # fmt: skip
    for command in batch:
        subprocess.run(overtile(command), check=True, cwd=tmp_path, env=environment, timeout=3600)
    with open(tmp_path / "tutorial/cells.zarr/tables/objects.csv") as table:
        volumes = [float(row["volume_um3"]) for row in csv.DictReader(table)]
    assert 150 < len(volumes) < 350  # the truth has 244
    assert (tmp_path / "tutorial/preview.png").exists()

    assert view.split()[0] == "view"
    with subprocess.Popen(
        overtile(view), cwd=tmp_path, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as viewer:  # fmt: skip
        assert viewer.stdout is not None
        link = next(found for line in viewer.stdout for found in LINK.findall(line))
        with urllib.request.urlopen(link.split("#")[0]) as page:
            assert page.status == 200
        viewer.send_signal(signal.SIGINT)
        viewer.communicate(timeout=30)
