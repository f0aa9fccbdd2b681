"""Benchmarks are too long to run here: each is imported, and parses the commands in the docs."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.measuring import run_record

ROOT = Path(__file__).parents[1]
NAMES = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py"))
CODE = """
import argparse, importlib, json, shlex, sys

names, commands = json.loads(sys.argv[1])
for tool in ("daisy", "monai", "matplotlib", "tensorstore"):
    sys.modules[tool] = None  # not installed
parse = argparse.ArgumentParser.parse_args

class Parsed(Exception): pass

def parse_only(parser, given=None, *rest):
    parse(parser, given)
    raise Parsed

argparse.ArgumentParser.parse_args = parse_only

def outcome(function, *arguments):
    try:
        return function(*arguments)
    except (Exception, SystemExit) as error:
        return repr(error)

def run(command):
    name, *options = shlex.split(command)
    module = importlib.import_module(name)
    if not hasattr(module, "argparse"):
        return "parsed"
    sys.argv = [command, *options]
    try:
        module.main()
    except Parsed:
        return "parsed"

def page():
    from benchmarks.tables import MARKED, PAGES, TABLES, written
    pages = [path.read_text() for path in PAGES]
    marked = [name for page in pages for _, name, _ in MARKED.findall(page)]
    assert sorted(marked) == sorted(TABLES)
    assert [written(page) for page in pages] == pages, "run python -m benchmarks.tables"

print(json.dumps({
    "imports": {name: outcome(lambda: importlib.import_module(f"benchmarks.{name}") and None)
                for name in names},
    "commands": {command: outcome(run, command) for command in commands},
    "page": outcome(page),
}))
"""
"""One process for all tests, because it imports torch, Dask and Prefect."""


def named_commands():
    """Return every ``benchmarks.NAME OPTION…`` in documents and Makefile, each once."""
    makefile = (ROOT / "Makefile").read_text()
    listed = re.search(r"for one in (.*?); do", makefile, re.DOTALL)
    assert listed is not None
    named = {f"benchmarks.{one}" for one in shlex.split(listed[1].replace("\\\n", " "))}
    for path in (ROOT / "Makefile", ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        named |= set(re.findall(r"-m\s(benchmarks\.\w+[^`\n]*)", path.read_text()))
    return sorted(named)


@pytest.fixture(scope="module")
def found():
    environment = {key: value for key, value in os.environ.items() if key != "BENCH_RESULTS"}
    done = subprocess.run(
        [sys.executable, "-c", CODE, json.dumps([NAMES, named_commands()])],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_every_benchmark_can_be_imported_without_the_tools_that_it_compares_with(found):
    assert len(NAMES) > 15
    assert found["imports"] == dict.fromkeys(NAMES)


def test_the_tables_in_the_docs_are_those_of_the_result_files(found):
    assert found["page"] is None


def test_every_benchmark_parses_the_commands_in_the_docs_and_the_makefile(found):
    assert len(found["commands"]) > 15
    assert set(found["commands"].values()) == {"parsed"}, found["commands"]


def test_results_name_no_folder_of_the_machine_that_made_them(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/a/share.py", "--old", "/home/me/old", "--x", "2"])
    assert run_record()["command"] == "python -m benchmarks.share --old old --x 2"
    results = list((ROOT / "benchmarks/results").glob("*.json"))
    commands = [
        command
        for path in results
        for command in re.findall(r'"command": "(.*)"', path.read_text())
    ]
    assert len(commands) >= len(results) / 2
    assert not [one for one in commands if any(map(os.path.isabs, shlex.split(one)))]


def test_the_readme_has_the_figures_of_the_table_of_shares():
    cases = json.loads((ROOT / "benchmarks/results/share.json").read_text())["cases"]

    def times(case, *tools):
        over = cases[case]["over_overtile"]
        names = {"daisy": "daisy", "MONAI": "MONAI, exact", "old": "version 0.1"}
        return ", ".join(f"{names[tool]} {over[tool]['median']:.2f}" for tool in tools)

    solid, small = "3-D base 32, bf16, 2 GiB", "3-D base 32, bf16, 2 GiB, 512×256×384"
    expected = (
        f"3-D base 32: {times(solid, 'daisy', 'MONAI', 'old')}; on a smaller volume and another "
        f"processor {times(small, 'daisy', 'MONAI')}; "
        f"2-D base 32: {times('2-D base 32, bf16, 2 GiB', 'daisy', 'MONAI', 'old')}"
    )
    assert expected in (ROOT / "README.md").read_text()
