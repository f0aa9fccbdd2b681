"""``overtile evaluate`` adds its scores to the report of the result, and to nothing else of it."""

from __future__ import annotations

import html
import json
import re
import signal
import threading
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import zarr

import pipeline
from flows.cli.main import main
from pipeline.base.location import Location
from pipeline.ledger.kept_scores import read_scores
from pipeline.objects.definition.request import ObjectsRequest
from pipeline.objects.preparation.prepare import prepare_objects
from pipeline.objects.report.run_report import objects_report, write_objects_report
from pipeline.objects.run import ObjectsRun
from pipeline.objects.table.table_summary import summarise_table
from pipeline.report.report import with_scores
from pipeline.segmentation.run_report import run_report
from pipeline.segmentation.sequence import complete
from unet import UNetPredictor

SHAPE = (6, 32, 36)
MARKS = re.compile(r"<!-- scores -->.*<!-- end of scores -->", re.DOTALL)


@pytest.fixture(scope="module")
def place(tmp_path_factory, weights, textured, one_worker):
    """A folder with a segmentation, its objects, and their truths."""
    folder = tmp_path_factory.mktemp("scored")
    raw = textured((1, *SHAPE))[0]
    zarr.create_array(folder / "raw.zarr", data=raw, dimension_names=list("zyx"))
    zarr.create_array(folder / "truth.zarr", data=(raw > 120).astype(np.uint8))
    ids = np.arange(raw.size, dtype=np.uint32).reshape(SHAPE) // 300
    zarr.create_array(folder / "ids.zarr", data=ids)
    request = pipeline.SegmentRequest(
        input=str(folder / "raw.zarr"), output=str(folder / "<i>out.zarr"), block=(4, 16, 20),
        outputs=("classes", "scores"),
    )  # fmt: skip
    predictor = UNetPredictor(weights("3d"), precision="fp32")
    complete(pipeline.SegmentRun.open(request, predictor, one_worker))
    out = request.output
    run = ObjectsRun.start(
        prepare_objects(ObjectsRequest(scores=out, output=out / "labels/objects")), one_worker
    )
    run.complete()
    found = run.summary()
    write_objects_report(found, objects_report(found, summarise_table(found.table)))
    return folder, request, predictor


@pytest.fixture
def evaluated(place, monkeypatch, capsys, one_worker):
    """Return a function that evaluates in the folder: its figures, and standard error."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # pytest keeps its own handlers
    monkeypatch.chdir(place[0])

    def run(*argv):
        where = ["--cluster", one_worker.scheduler.address, "--json", "figures.json"]
        assert main(["evaluate", *argv, *where]) == 0
        return json.loads((place[0] / "figures.json").read_text()), capsys.readouterr().err

    return run


def text_of(page):
    return html.unescape(re.sub(r"<style.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL))


def test_scores_of_classes_and_objects_are_added_to_the_report_and_replaced(place, evaluated):
    folder, *_ = place
    report = folder / "<i>out.zarr/run/report.html"
    before = report.read_text()
    figures, err = evaluated("<i>out.zarr", "truth.zarr")
    assert f"report: {report}\n" in err
    page = report.read_text()
    assert MARKS.sub("", page) == MARKS.sub("", before)
    assert f"pixel error {figures['classes']['pixel_error']:.4f}" in text_of(page)
    assert f"{folder}/<i>out.zarr against {folder}/truth.zarr" in text_of(page)
    assert not re.search(r"https?://|<script|<i>", page)
    assert evaluated("<i>out.zarr", "truth.zarr")[0]["classes"] == figures["classes"]
    assert report.read_text() == page, "the same comparison is shown once"
    objects, err = evaluated("<i>out.zarr/labels/objects", "ids.zarr", "--objects", "ids")
    own = folder / "<i>out.zarr/labels/objects/run/report.html"
    assert [line for line in err.splitlines() if "report: " in line] == [
        f"report: {own}", f"report: {report}"
    ]  # fmt: skip
    shown = f"{objects['objects']['adapted_rand_error']:.4f}"
    for one, sections in ((own, 1), (report, 2)):
        text = text_of(one.read_text())
        assert text.count("Score against the truth") == sections
        assert re.search(rf"adapted Rand error\s+{shown}\s", text)


def test_ids_of_a_segmentation_are_those_of_the_objects_inside_and_never_its_classes(
    place, evaluated, one_worker, capsys
):
    _, request, predictor = place
    inside, _ = evaluated("<i>out.zarr/labels/objects", "ids.zarr", "--objects", "ids")
    found, _ = evaluated("<i>out.zarr", "ids.zarr", "--objects", "ids")
    assert found["objects"] == inside["objects"]
    assert found["prediction"] == inside["prediction"]
    itself, _ = evaluated("<i>out.zarr/labels/objects", "<i>out.zarr", "--objects", "ids")
    assert itself["objects"]["adapted_rand_error"] == 0
    alone = replace(request, output=request.output.parent / "alone.zarr", outputs=("classes",))
    complete(pipeline.SegmentRun.open(alone, predictor, one_worker))
    assert main(["evaluate", "alone.zarr", "ids.zarr", "--objects", "ids"]) == 2
    assert "alone.zarr holds classes and no objects" in capsys.readouterr().err


def test_a_repeated_run_keeps_scores_and_blocks_that_came_later_end_them(
    place, evaluated, one_worker
):
    folder, request, predictor = place
    evaluated("<i>out.zarr/labels/classes", "truth.zarr", "--slices", "1:3")
    again = complete(pipeline.SegmentRun.open(request, predictor, one_worker))
    kept = read_scores(request.output)
    assert run_report(again).scores == kept
    assert any("2×32×36 voxels from 1,0,0" in one.summary for one in kept)
    assert "2×32×36 voxels from 1,0,0" in (folder / "<i>out.zarr/run/report.html").read_text()
    done = zarr.open_array(folder / "<i>out.zarr/run/done", mode="r+")
    done[0, 0, 0] = 0
    assert read_scores(request.output) == ()
    done[0, 0, 0] = 1
    (folder / "<i>out.zarr/run/scores-damaged.json").write_text('{"blocks_done": 8}')
    assert read_scores(request.output) == kept


def test_what_overtile_did_not_make_is_left_alone(place, evaluated):
    before = sorted(place[0].rglob("*"))
    assert "report" not in evaluated("ids.zarr", "ids.zarr", "--objects", "ids")[1]
    (place[0] / "figures.json").unlink()
    assert sorted(place[0].rglob("*")) == [one for one in before if one.name != "figures.json"]


def test_a_result_that_cannot_be_written_costs_one_note(place, evaluated):
    served = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    handler = partial(served, directory=str(place[0]))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/%3Ci%3Eout.zarr"
            figures, err = evaluated(url, "truth.zarr")
        finally:
            server.shutdown()
    assert figures["classes"]
    assert err.count("\n") == 1
    assert err.startswith("note: the report does not show these scores (")


def test_the_page_of_an_earlier_version_is_left_alone(place):
    page = (place[0] / "<i>out.zarr/run/report.html").read_text()
    kept = read_scores(Location.parse(place[0] / "<i>out.zarr"))
    assert with_scores(MARKS.sub("", page), kept) is None
    assert with_scores(page, kept) == page
