"""`overtile demo`: from nothing to a good score."""

from __future__ import annotations

import re

import pyarrow.parquet as pq
from PIL import Image

DEMO = ("demo", "--directory", "here", "--workers", "2")


def membrane_iou(text):
    return float(re.search(r"membrane\s+IoU (\d\.\d+)", text)[1])


def f1_of_cells(text):
    return float(
        re.search(r"cells\s+\d+ found, \d+ in the truth; F1 (\d\.\d+) at IoU 0.5", text)[1]
    )


def test_the_demo_finds_membranes_and_cells_and_a_second_one_computes_nothing(
    commands, shell, monkeypatch, tmp_path
):
    folder = tmp_path / "here"
    first = commands.start(DEMO, folder=tmp_path)
    assert first.ended().code == 0, first.text
    assert membrane_iou(first.printed) > 0.6
    report = folder / "segmented.zarr/run/report.html"
    assert str(report) in first.printed
    page = report.read_text()
    assert "<img" in page
    assert f1_of_cells(first.printed) > 0.75
    table = folder / "segmented.zarr/labels/objects/tables/objects.parquet"
    assert f"table of the cells: {table}" in first.printed
    count = pq.read_metadata(table).num_rows
    assert re.search(rf"cells\s+{count} found", first.printed)
    with Image.open(folder / "cells.png") as picture:
        assert picture.width > 4 * 256  # raw, scores, cells, true cells
    assert "note:" not in first.text
    shards = {p: p.stat().st_mtime_ns for p in (folder / "segmented.zarr").rglob("c/**/*")}
    assert shards
    monkeypatch.chdir(tmp_path)
    code, out, err = shell(*DEMO)
    assert code == 0, err
    assert re.search(r"no block to compute: \d+ blocks done by earlier runs", err)
    assert re.search(r"done: \d+ blocks, all by earlier runs", err)
    assert out == first.printed
    assert shards == {p: p.stat().st_mtime_ns for p in (folder / "segmented.zarr").rglob("c/**/*")}
