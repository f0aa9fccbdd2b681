"""Wrong inputs as tables, ``table/*.toml``: each has its exact line, exit code 2, nothing written.

A row has what is ``wrong``, the command to ``run`` in a folder of good things, the wrong things
that it puts there (see conftest.py), and the ``line`` that is expected; ``{place}`` is the folder.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from flows.cli.main import COMMANDS

TABLES = sorted((Path(__file__).parent / "table").glob("*.toml"))
ROWS = [
    pytest.param(row, id=f"{table.stem}: {row['wrong']}")
    for table in TABLES
    for row in tomllib.loads(table.read_text())["input"]
]
FEWEST = 200
LONGEST = 600
IN_PROCESSES = (
    "zarr: metadata that is a pipe", "weights: a device without an end",
    "places: a name with a line break",
)  # fmt: skip
"""Rows that are run as a user runs them, too: each starts a Python."""


def words_of(row):
    """Return the words of a row's command."""
    run = row["run"]
    words = shlex.split(run) if isinstance(run, str) else run
    filled = {"digits": "9" * 5000, "name": "a" * 300}
    return [re.sub(r"<(\w+)>", lambda found: filled[found[1]], word) for word in words]


def line_of(row, place):
    """Return the line that a row expects."""
    home = place.parent / "home"
    return "overtile: " + row["line"].replace("{place}", str(place)).replace(
        "{home}", str(home)
    ).replace("{parent}", str(place.parent))


def check_line(said, line):
    """Check what was said; a line that ends with ``…`` ends with a list, which may grow."""
    if line.endswith(" …"):
        assert said.startswith(line[:-1])
        assert said.count("\n") == 1
    else:
        assert said == f"{line}\n"


@pytest.mark.parametrize("row", ROWS)
def test_a_wrong_input_is_its_line_exit_2_and_nothing_written(
    row, place, shell, listing, present, monkeypatch
):
    for name, value in row.get("env", {}).items():
        monkeypatch.setenv(name, value)
    with present(row, place):
        before = listing(place)
        code, out, err = shell(*words_of(row))
        after = listing(place)
    check_line(err, line_of(row, place))
    assert (code, out) == (2, "")
    assert after == before
    assert not (place.parent / "home/overtile").exists()


@pytest.mark.parametrize(
    "row", [next(row for row in ROWS if row.id == one) for one in IN_PROCESSES]
)
def test_a_process_ends_as_the_table_says(row, place, listing, present):
    home = {name: str(place.parent / "home") for name in ("HOME", "XDG_STATE_HOME")}
    command = [sys.executable, "-m", "flows.cli", *words_of(row)]
    with present(row, place):
        before = listing(place)
        ended = subprocess.run(
            command, cwd=place, env={**os.environ, **home}, text=True, capture_output=True,
            timeout=60,
        )  # fmt: skip
        after = listing(place)
    check_line(ended.stderr, line_of(row, place))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert after == before


def test_the_tables_have_every_command_and_lines_that_can_be_read():
    rows = [row.values[0] for row in ROWS]
    assert {words_of(row)[0] for row in rows} >= set(COMMANDS)
    assert len(rows) >= FEWEST
    assert len({row["wrong"] for row in rows}) == len(rows)
    for row in rows:
        assert row["line"].isprintable(), row
        assert len(row["line"]) < LONGEST, row
        assert not re.match(r".*: (\w+Error|Exception): ", row["line"]), row
