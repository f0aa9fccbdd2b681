"""`overtile demo`: from nothing to a good score."""

from __future__ import annotations

import re
import subprocess
import sys
import time

import pyarrow.parquet as pq
import pytest
from PIL import Image

DEMO = ("demo", "--directory", "here", "--workers", "2")


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Return a function that runs the demo in one and the same folder, and the folder."""
    folder = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "flows.cli", *DEMO]

    def run():
        start = time.monotonic()
        ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
        print(f"the demo took {time.monotonic() - start:.1f} s")
        assert ended.returncode == 0, ended.stderr
        return ended

    return run, folder / "here"


def membrane_iou(text):
    return float(re.search(r"membrane\s+IoU (\d\.\d+)", text)[1])


def f1_of_cells(text):
    return float(
        re.search(r"cells\s+\d+ found, \d+ in the truth; F1 (\d\.\d+) at IoU 0.5", text)[1]
    )


def test_the_demo_finds_membranes_and_cells_and_a_second_one_computes_nothing(
    demo, shell, monkeypatch, capsys
):
    run, folder = demo
    first = run()
    assert membrane_iou(first.stdout) > 0.6
    report = folder / "segmented.zarr/run/report.html"
    assert str(report) in first.stdout
    page = report.read_text()
    assert "<img" in page
    assert f1_of_cells(first.stdout) > 0.75
    table = folder / "segmented.zarr/labels/objects/tables/objects.parquet"
    assert f"table of the cells: {table}" in first.stdout
    count = pq.read_metadata(table).num_rows
    assert re.search(rf"cells\s+{count} found", first.stdout)
    with Image.open(folder / "cells.png") as picture:
        assert picture.width > 4 * 256  # raw, scores, cells, true cells
    assert "note:" not in first.stderr
    shards = {p: p.stat().st_mtime_ns for p in (folder / "segmented.zarr").rglob("c/**/*")}
    assert shards
    monkeypatch.chdir(folder.parent)
    capsys.readouterr()  # what the first run printed here
    code, out, err = shell(*DEMO)
    assert code == 0, err
    assert re.search(r"no block to compute: \d+ blocks done by earlier runs", err)
    assert re.search(r"done: \d+ blocks, all by earlier runs", err)
    assert out == first.stdout
    assert shards == {p: p.stat().st_mtime_ns for p in (folder / "segmented.zarr").rglob("c/**/*")}
