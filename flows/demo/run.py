"""``overtile demo``: segments a synthetic volume whose truth is known."""

from __future__ import annotations

from pathlib import Path

from deploy import ClusterSpec
from pipeline.base.geometry import Box
from pipeline.evaluation.confusion import ConfusionMatrix, confusion
from pipeline.output.kinds import CLASSES
from pipeline.volume.measure_intensity import boxes_of_share
from pipeline.volume.volume import find_volume, open_volume

from ..options.segment import SegmentOptions
from ..segmentation.run import run_segmentation
from ..text.terminal import say
from .volume import make_demo_volume

DEMO_WEIGHTS = "demo"
BLOCK = (32, 128, 128)


def run_demo(directory: str, *, workers: int | None = None) -> ConfusionMatrix:
    """Make a volume, segment it, print and return its score against the truth.

    directory: folder of volume and result; created if it does not exist.
    """
    folder = Path(directory).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    say(f"making a volume of cells with membranes in {folder}")
    volume = make_demo_volume(folder)
    output = str(folder / "segmented.zarr")
    run_segmentation(
        input=volume.raw_uri,
        output=output,
        weights=DEMO_WEIGHTS,
        options=SegmentOptions(outputs=["classes", "scores"], block=BLOCK),
        spec=ClusterSpec(workers=workers),
    )
    score = score_classes(f"{output}/{CLASSES.path}", volume.truth_uri)
    print(score_text(score, volume.class_names))
    print(f"report, to open in a browser: {output}/run/report.html")
    return score


def score_classes(prediction: str, truth: str) -> ConfusionMatrix:
    """Return the confusion of classes with their truth, read box by box."""
    found, known = find_volume(prediction), find_volume(truth)
    predicted, true = open_volume(found), open_volume(known)

    def of_box(box: Box) -> ConfusionMatrix:
        return confusion(true.read(box)[0], predicted.read(box)[0], classes=2)

    score = ConfusionMatrix.empty(classes=2)
    for box in boxes_of_share(found.shape_zyx, found.chunk_shape_zyx, 0, 1):
        score += of_box(box)
    return score


def score_text(score: ConfusionMatrix, class_names: tuple[str, ...]) -> str:
    """Return the score as aligned lines."""
    lines = ["score against the known truth:", f"  pixel error    {score.pixel_error:.4f}"]
    for name, iou, dice in zip(class_names, score.iou, score.dice, strict=True):
        lines.append(f"  {name:<14} IoU {iou:.3f}  Dice {dice:.3f}")
    return "\n".join(lines)
