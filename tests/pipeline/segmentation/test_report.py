"""The report of real runs: what a person reads in it is what the run did."""

from __future__ import annotations

import html
import re
from dataclasses import replace

import numpy as np
import pytest
import zarr

from pipeline import SegmentRequest, SegmentRun
from pipeline.base.geometry import Box
from pipeline.ledger.figures import Figures
from pipeline.ledger.progress import Progress
from pipeline.report.extras import ReportExtras
from pipeline.report.planes import Level
from pipeline.report.report import Command, Table
from pipeline.report.seams import SeamStatistics
from pipeline.segmentation.report_scores import MOST_BYTES, count_scores
from pipeline.segmentation.report_verdict import verdict_of
from pipeline.segmentation.run_report import run_report, write_report
from pipeline.segmentation.sequence import complete
from unet import UNetPredictor

SEAMLESS = SeamStatistics(across_borders=0.1, elsewhere=0.1, border_pairs=9, lines_like_worst=0.4)
SEAM = replace(SEAMLESS, across_borders=0.9, lines_like_worst=0.0)
DONE = Progress(blocks=120, done=120, figures=Figures())
CLASSES = (("inside", 0.8), ("membrane", 0.2))


@pytest.fixture(scope="module")
def run(weights, textured, tmp_path_factory, one_worker):
    """The summary of one run on a volume whose voxels are three times as deep as wide."""
    folder = tmp_path_factory.mktemp("report")
    group = zarr.create_group(folder / "in.zarr")
    group.create_array("0", data=textured((1, 10, 33, 70))[0], chunks=(5, 16, 16))
    scale = {"type": "scale", "scale": [0.3, 0.1, 0.1]}
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    datasets = [{"path": "0", "coordinateTransformations": [scale]}]
    multiscales = [{"name": "raw", "axes": axes, "datasets": datasets}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": multiscales}
    request = SegmentRequest(
        input=str(folder / "in.zarr"), output=str(folder / "<b>&out.zarr"), block=(4, 16, 20),
        outputs=("classes", "scores"),
    )  # fmt: skip
    predictor = UNetPredictor(weights("3d"), precision="fp32")
    return complete(SegmentRun.open(request, predictor, one_worker))


def test_three_planes_have_the_volumes_proportions_and_scale_bars(run):
    report = run_report(run)
    shapes = {plane.title[:2]: plane.tiles[0].picture.shape[:2] for plane in report.planes}
    assert shapes == {"XY": (33, 70), "XZ": (30, 70), "YZ": (30, 33)}
    for plane in report.planes:
        assert [tile.title for tile in plane.tiles] == ["raw", "scores", "overlay"]
        assert plane.um_per_px == pytest.approx(0.1)
    assert "Scale bar: 1 µm." in report.planes[0].caption


def test_the_verdict_comes_first_and_every_part_is_in_the_page(run):
    command = Command(text="Repeat <it>:", command="overtile segment '<i>x'")
    truth = Table(title="Score against the truth", rows=(("IoU", "0.9"),))
    write_report(run, ReportExtras(commands=(command,), scores=truth))
    location = run.job.output
    page = (location.path / "run/report.html").read_text()
    text = html.unescape(re.sub(r"<style.*?</style>|<[^>]+>", " ", page, flags=re.S))
    order = ["Complete. ", "The result in pictures", "How sure the network was",
             "Scores of each class",
             "Score against the truth", command.command, "Figures for engineers",
             "Where the time went", "Check for seams in XY", "Check for seams in XZ"]  # fmt: skip
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    assert page.index("<details>") < page.index("Where the time went")
    assert page.count("<img ") == len(re.findall(r'<img [^>]*alt="[^"]+"', page)) == 9
    assert not re.search(r"https?://|<script|<b>&|<i>", page)
    shares = [float(one) for one in re.findall(r"([\d.]+) % of the voxels, fairly", text)]
    assert shares


def test_the_sureness_is_that_of_the_stored_scores(run):
    stored = zarr.open_array(str(run.job.output.path / "0"), mode="r")[...]
    sure = (stored.max(axis=0) >= 0.9 * 255).mean()
    figures = dict(run_report(run).key_figures)
    assert float(figures["the network was sure in"].split()[0]) == pytest.approx(100 * sure, abs=1)


@pytest.mark.parametrize(
    ("progress", "more", "state", "text"),
    [
        (DONE, {}, "good", "Complete. No seam is visible between blocks. 20 % membrane."),
        (DONE, {"objects": 1}, "good", "Complete. No seam is visible between blocks. "
                                       "20 % membrane. 1 object found."),
        (DONE, {"seams": [SEAMLESS, SEAM]}, "attention", "Complete. A seam is visible between "
         "blocks: the result changes there as nowhere else. 20 % membrane."),
        (DONE, {"seams": (), "undecided": 0.5}, "attention", "Complete. 20 % membrane. The network "
         "was undecided in 50 % of the voxels: look at the pictures before you use the result."),
        (DONE, {"seams": (), "has_other_scale": True}, "attention", "Complete. 20 % membrane. The "
         "voxels have another size than in the network's training."),
        (replace(DONE, done=117, set_aside=((0, 0, 1),) * 3), {"error": "why"}, "bad",
         "Incomplete: 3 of 120 blocks were set aside. What is done is kept: the same command "
         "again computes the rest."),
        (replace(DONE, done=100, skipped=10, set_aside=((0, 0, 1),)), {"error": "why"}, "bad",
         "Incomplete: 1 of 110 blocks was set aside and 9 of 110 blocks are not computed yet. "
         "What is done is kept: the same command again computes the rest."),
        (DONE, {"error": "no space"}, "bad", "Incomplete: all blocks are done, and the run ended "
         "before it was finished: no space"),
    ],
)  # fmt: skip
def test_the_verdict_states_what_happened(progress, more, state, text):
    given = {"error": None, "share": None, "seams": [SEAMLESS], "classes": CLASSES,
             "objects": None, **more}  # fmt: skip
    verdict = verdict_of(progress, **given)
    assert (verdict.state, verdict.text) == (state, text)


@pytest.mark.parametrize("shape", [(50_000, 50_000, 50_000), (1, 90_000, 90_000), (64, 64, 64)])
@pytest.mark.parametrize("classes", [2, 255])
def test_the_scores_that_are_counted_are_few_and_spread_over_a_large_volume(shape, classes):
    boxes = []

    def read(box):
        boxes.append(box)
        return np.broadcast_to(np.uint8(9), (classes, *box.shape))

    chunk = (1, 64, 64) if shape[0] == 1 else (32, 64, 64)
    level = Level(shape=shape, chunk=chunk, voxel_bytes=classes, read=read)
    counts, is_sample = count_scores(level, within=Box.of_shape(shape))
    assert counts.voxels == sum(box.voxels for box in boxes)
    assert counts.voxels * classes <= MOST_BYTES
    assert is_sample == (np.prod(shape, dtype=float) * classes > MOST_BYTES)
    if is_sample and classes == 2:
        starts = np.array([box.start for box in boxes]) / shape
        assert len(boxes) in range(20, 28)
        assert np.ptp(starts, axis=0)[1:].min() > 0.5
