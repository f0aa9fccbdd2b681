"""Benchmarks are not run by the tests, but each of them starts."""

from __future__ import annotations

import os
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
