"""Benchmarks are not run by the tests, but each starts and understands what the docs tell it."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_benchmark_can_be_imported_without_the_tools_that_it_compares_with():
    names = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py"))
    assert len(names) > 15
    code = "import importlib, sys\n" + "".join(f"sys.modules[{name!r}] = None\n" for name in (
        "daisy", "monai", "matplotlib", "tensorstore",
    )) + "for name in sys.argv[1:]: importlib.import_module('benchmarks.' + name)"  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code, *names], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_the_page_on_performance_says_what_the_benchmarks_found():
    code = (
        "from benchmarks.tables import MARKED, PAGE, TABLES, written\n"
        "page = PAGE.read_text()\n"
        "assert {name for _, name, _ in MARKED.findall(page)} == TABLES.keys()\n"
        "assert written(page) == page, 'run python -m benchmarks.tables'"
    )
    environment = {key: value for key, value in os.environ.items() if key != "BENCH_RESULTS"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def named_commands():
    """Return every ``benchmarks.NAME OPTION…`` that documents and Makefile name, each once."""
    makefile = (ROOT / "Makefile").read_text()
    listed = re.search(r"for one in (.*?); do", makefile, re.DOTALL)
    assert listed is not None
    named = {f"benchmarks.{one}" for one in shlex.split(listed[1].replace("\\\n", " "))}
    for path in (ROOT / "Makefile", ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        named |= set(re.findall(r"-m (benchmarks\.\w+[^`\n]*)", path.read_text()))
    return sorted(named)


def test_a_benchmark_understands_the_commands_that_the_docs_and_the_makefile_name():
    named = named_commands()
    assert len(named) > 15
    code = (
        "import argparse, importlib, shlex, sys\n"
        "parse = argparse.ArgumentParser.parse_args\n"
        "class Understood(Exception): pass\n"
        "def understood(parser, given=None, *rest):\n"
        "    parse(parser, given)\n"
        "    raise Understood\n"
        "argparse.ArgumentParser.parse_args = understood\n"
        "for command in sys.argv[1:]:\n"
        "    module, *options = shlex.split(command)\n"
        "    module = importlib.import_module(module)\n"
        "    if hasattr(module, 'argparse'):\n"
        "        sys.argv = [command, *options]\n"
        "        try: module.main()\n"
        "        except Understood: continue\n"
        "        raise AssertionError(command)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *named], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
