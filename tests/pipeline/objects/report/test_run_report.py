"""The report of a run states what the table holds, in the words of the options."""

from __future__ import annotations

import html
import re

import numpy as np
import pytest
import zarr

from pipeline.base.local_client import local_client
from pipeline.objects.definition.request import ObjectsRequest
from pipeline.objects.preparation.prepare import prepare_objects
from pipeline.objects.report.run_report import objects_report, write_objects_report
from pipeline.objects.run import ObjectsRun
from pipeline.objects.table.table_summary import summarise_table

SHAPE = (4, 24, 30)


@pytest.fixture(scope="module")
def threads():
    with local_client() as client:
        yield client


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Return scores of twelve columns that do not touch, one of them thin, and two at the edge."""
    folder = tmp_path_factory.mktemp("report")
    scores = np.zeros(SHAPE, np.uint8)
    for n, (y, x) in enumerate((y, x) for y in (1, 9, 17) for x in (1, 9, 17, 25)):
        scores[1:3, y : y + 5, x : x + (1 if n == 6 else 5)] = 200
    zarr.create_array(folder / "scores.zarr", data=scores, chunks=SHAPE)
    zarr.create_array(folder / "reversed.zarr", data=255 - scores, chunks=SHAPE)
    zarr.create_array(folder / "raw.zarr", data=scores // 2 + 7, chunks=SHAPE)
    return folder


@pytest.fixture(scope="module")
def report_of(stored, threads):
    """Return a function that finds objects: the report's texts by table, and its report."""

    def make(name, *, scores="scores.zarr", **options):
        request = ObjectsRequest(
            scores=str(stored / scores), output=str(stored / name), axes="zyx",
            block=(4, 12, 16), overwrite=True, **options,
        )  # fmt: skip
        run = ObjectsRun.start(prepare_objects(request), threads)
        run.complete()
        summary = run.summary()
        report = objects_report(summary, summarise_table(summary.table))
        write_objects_report(summary, report)
        return {table.title: dict(table.rows) for table in (*report.tables, *report.folded)}, report

    return make


@pytest.fixture(scope="module")
def shown(report_of, stored):
    return report_of("out.zarr", role="foreground", intensity=str(stored / "raw.zarr"))


def test_the_report_counts_objects_and_their_voxels(shown):
    tables, report = shown
    objects = tables["Objects"]
    voxels = 2 * 5 * (11 * 5 + 1)
    assert objects["objects"] == "12"
    assert objects["in objects"] == f"{voxels} of 2,880 voxels"
    assert objects["touch the edge of the volume"] == "3 (25%)"
    assert objects["median size"] == "50 voxels"
    assert objects["90 % of the objects"] == "10 voxels to 50 voxels"
    assert objects["largest"] == f"50 voxels, {5000 / voxels:.1f} % of the voxels in objects"
    assert report.summary == f"12 objects, {100 * voxels / 2880:.1f} % of the volume"
    assert tables["The smallest"]["id 7"] == "10 voxels at z 2, y 11, x 17"
    assert list(tables["The largest"]) == [f"id {n}" for n in (1, 2, 3, 4, 5)]


def test_the_report_states_the_definition_in_words(shown, report_of):
    rows = shown[0]["What objects are"]
    assert rows["objects"] == "consist of the class (foreground)"
    assert rows["method"] == "connected components"
    assert rows["threshold"] == "scores at least 0.5 (stored as 128 of 255)"
    assert rows["neighbours of a voxel"] == "6, through faces"
    assert rows["kept"] == "all"
    tables, _ = report_of(
        "other.zarr", role="boundary", method="watershed", seed_threshold=0.4, seed_distance=1.5,
        per_slice=True, connectivity=18, min_voxels=2, max_voxels=5000, border="drop",
    )  # fmt: skip
    rows = tables["What objects are"]
    assert rows["objects"] == "lie between the class (boundary)"
    assert rows["method"] == "watershed"
    assert rows["threshold"] == "none: every voxel is in an object"
    assert rows["seeds"] == "scores below 0.4 (stored as 102 of 255), more than 1.5 voxels inside"
    assert rows["slices"] == "every z is a separate image"
    assert rows["kept"] == (
        "at least 2 pixels, at most 5,000 pixels, none that touches the edge of the image"
    )


def test_the_report_states_the_time_of_every_stage(shown):
    rows = shown[0]["Run"]
    for stage in ("finding fragments in the blocks", "merging across blocks",
                  "writing labels and counting", "writing the table"):  # fmt: skip
        assert rows[stage].endswith(" s")
    assert rows["blocks"] == "4 of 4×12×16"


def test_the_page_holds_picture_and_histogram_and_is_in_the_run_group(shown, stored):
    page = (stored / "out.zarr/run/report.html").read_text()
    (plane,), (histogram,) = shown[1].planes, shown[1].pictures
    assert [tile.title for tile in plane.tiles] == ["raw", "scores of 0", "objects"]
    assert len(re.findall(r"data:image/png;base64,", page)) == len(plane.tiles)
    assert page.count("<svg ") == 1, "a drawing follows light and dark, a picture of it does not"
    assert histogram.chart.svg in page
    assert "12 objects" in html.unescape(page)
    assert "z 1, y from 0, x from 0; 12 objects" in page
    assert len(page) < 200_000


def test_a_run_without_objects_has_a_report_without_histogram(report_of):
    tables, report = report_of("none.zarr", role="foreground", threshold=0.9)
    assert tables["Objects"]["objects"] == "0"
    assert [plane.title for plane in report.planes] == ["The middle of the volume"]
    assert report.pictures == ()


def test_a_reversed_class_is_a_warning_of_the_report(report_of):
    _, report = report_of("boundary.zarr", scores="reversed.zarr", role="boundary")
    assert "pass --role foreground" in report.warnings[0]
    _, report = report_of("right.zarr", role="foreground")
    (note,) = report.warnings
    assert "names no classes" in note


def test_a_picture_that_cannot_be_made_costs_no_figure(report_of, monkeypatch):
    def fails(*_, **__):
        raise OSError("no such\nfile")

    monkeypatch.setattr("pipeline.objects.report.run_report.middle_plane", fails)
    tables, report = report_of("blind.zarr", role="foreground")
    assert tables["Objects"]["objects"] == "12"
    assert report.warnings[0].endswith("the middle of the volume cannot be read (no such file)")
