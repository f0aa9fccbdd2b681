"""``overtile demo``: segments a synthetic volume whose truth is known, and finds its cells."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path

from deploy import ClusterSpec
from pipeline.evaluation.confusion import ConfusionMatrix
from pipeline.evaluation.object_metrics import ObjectFigures
from pipeline.objects.table.table import PARQUET, TABLES
from pipeline.output.kinds import CLASSES, OBJECTS_PATH
from pipeline.report.report import Table
from pipeline.segmentation.prepare import prepare

from ..options.objects import ObjectDefinition
from ..options.segment import SegmentOptions
from ..segmentation.expected_room import expected_room
from ..segmentation.on_cluster import segment_on_cluster
from ..segmentation.run import terminal
from ..text.next_commands import commands_after
from ..text.picture_file import check_picture_place, write_picture
from ..text.terminal import say, show
from ..text.terminal_picture import show_picture
from .folder import made_folder
from .picture import cells_picture
from .score import score_cells, score_classes, score_table, score_text
from .volume import CLASS_NAMES, DemoVolume, make_demo_volume

DEMO_WEIGHTS = "demo"
BLOCK = (32, 128, 128)
CELLS = ObjectDefinition(
    method="watershed", seed_distance=0.6, seed_threshold=0.4, min_voxels=1000, csv=True
)
"""Chosen on seeds 7 and 8 of the scene, which no training has seen; the demo is seed 0."""
MEMBRANE = CLASS_NAMES.index("membrane")
MAKER = "overtile demo"


def run_demo(
    directory: str, *, workers: int | None = None
) -> tuple[ConfusionMatrix, ObjectFigures]:
    """Make a volume, segment it, find its cells, print and return the scores.

    directory: folder of volume and result; created if it does not exist.
    """
    spec = ClusterSpec(workers=workers)
    folder = made_folder(directory)
    say(f"making a volume of cells with membranes in {folder}")
    volume = make_demo_volume(folder)
    output = str(folder / "segmented.zarr")
    picture = check_picture_place(str(folder / "cells.png"), source=volume.raw_uri, maker=MAKER)
    scores = _Scores(volume, output)
    _segment(volume, output, spec=spec, scores=scores)
    _show(volume, output, picture, scores)
    return scores.of_classes, scores.of_cells


class _Scores:
    """The scores of the result, computed once."""

    def __init__(self, volume: DemoVolume, output: str) -> None:
        self._volume = volume
        self._output = output

    @cached_property
    def of_classes(self) -> ConfusionMatrix:
        """Of classes, against those of the scene."""
        return score_classes(f"{self._output}/{CLASSES.path}", self._volume.truth_uri)

    @cached_property
    def of_cells(self) -> ObjectFigures:
        """Of cells, against those of the scene."""
        return score_cells(f"{self._output}/{OBJECTS_PATH}", self._volume.cells_uri)

    def table(self) -> Table:
        """Return the scores as a table of the report."""
        return score_table(self.of_classes, self._volume.class_names, self.of_cells)


def _segment(volume: DemoVolume, output: str, *, spec: ClusterSpec, scores: _Scores) -> None:
    """Segment the volume, find its cells, and write the report with the scores."""
    options = SegmentOptions(outputs=["classes", "scores"], block=BLOCK)
    request = options.request(input=volume.raw_uri, output=output)
    prepared = prepare(request, options.predictor(DEMO_WEIGHTS), room=expected_room(spec))
    commands = commands_after(
        input=volume.raw_uri, output=output, weights=DEMO_WEIGHTS, options=options, objects=CELLS,
        cluster=[] if spec.workers is None else ["--workers", str(spec.workers)],
    )  # fmt: skip
    front_end = replace(terminal(commands=commands), score=scores.table)
    segment_on_cluster(
        prepared, weights=DEMO_WEIGHTS, spec=spec, front_end=front_end, objects=CELLS
    )


def _show(volume: DemoVolume, output: str, picture: Path, scores: _Scores) -> None:
    """Print scores and places of the results, and draw them."""
    cells = f"{output}/{OBJECTS_PATH}"
    drawn = cells_picture(volume, scores=output, membrane=MEMBRANE, cells=cells)
    write_picture(picture, drawn, maker=MAKER)
    show_picture(drawn)
    show(score_text(scores.of_classes, volume.class_names, scores.of_cells))
    show(f"table of the cells: {cells}/{TABLES}/{PARQUET}")
    show(f"picture: {picture}")
    show(f"report, to open in a browser: {output}/run/report.html")
