"""``overtile demo``: segments a synthetic volume whose truth is known, and finds its cells."""

from __future__ import annotations

from pathlib import Path

from deploy import ClusterSpec
from pipeline.evaluation.confusion import ConfusionMatrix
from pipeline.evaluation.object_metrics import ObjectFigures
from pipeline.objects.table.table import PARQUET, TABLES
from pipeline.output.kinds import CLASSES, OBJECTS_PATH

from ..options.objects import ObjectDefinition
from ..options.segment import SegmentOptions
from ..segmentation.run import run_segmentation
from ..text.picture_file import check_picture_place, write_picture
from ..text.terminal import say
from ..text.terminal_picture import show_picture
from .picture import cells_picture
from .score import score_cells, score_classes, score_text
from .volume import CLASS_NAMES, DemoVolume, make_demo_volume

DEMO_WEIGHTS = "demo"
BLOCK = (32, 128, 128)
CELLS = ObjectDefinition(method="watershed", seed_distance=0.6, seed_threshold=0.4, min_voxels=1000)
"""Chosen on seeds 7 and 8 of the scene, which no training has seen; the demo is seed 0."""
MEMBRANE = CLASS_NAMES.index("membrane")
MAKER = "overtile demo"


def run_demo(
    directory: str, *, workers: int | None = None
) -> tuple[ConfusionMatrix, ObjectFigures]:
    """Make a volume, segment it, find its cells, print and return the scores.

    directory: folder of volume and result; created if it does not exist.
    """
    folder = Path(directory).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    say(f"making a volume of cells with membranes in {folder}")
    volume = make_demo_volume(folder)
    output = str(folder / "segmented.zarr")
    picture = check_picture_place(str(folder / "cells.png"), source=volume.raw_uri, maker=MAKER)
    run_segmentation(
        input=volume.raw_uri,
        output=output,
        weights=DEMO_WEIGHTS,
        options=SegmentOptions(outputs=["classes", "scores"], block=BLOCK),
        objects=CELLS,
        spec=ClusterSpec(workers=workers),
    )
    return _show(volume, output, picture)


def _show(volume: DemoVolume, output: str, picture: Path) -> tuple[ConfusionMatrix, ObjectFigures]:
    """Print scores and places of the results, and draw them."""
    cells = f"{output}/{OBJECTS_PATH}"
    classes_score = score_classes(f"{output}/{CLASSES.path}", volume.truth_uri)
    cells_score = score_cells(cells, volume.cells_uri)
    drawn = cells_picture(volume, scores=output, membrane=MEMBRANE, cells=cells)
    write_picture(picture, drawn, maker=MAKER)
    show_picture(drawn)
    print(score_text(classes_score, volume.class_names, cells_score))
    print(f"table of the cells: {cells}/{TABLES}/{PARQUET}")
    print(f"picture: {picture}")
    print(f"report, to open in a browser: {output}/run/report.html")
    return classes_score, cells_score
