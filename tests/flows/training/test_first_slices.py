"""Labels of the first slices of a TIFF stack: the error says how to train on them, and it works."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from flows.options.train import LabelledVolume, TrainOptions
from flows.training.prepare import prepare_training

DEEP, PAINTED = 24, 8
KINDS = {
    # how a person painted: value of the object, what fills the other slices, options
    "classes": (1, 255, {}),
    "a Fiji mask": (255, 100, {"rule": "foreground"}),
    "napari": (2, 0, {"class_names": ["unpainted", "background", "cell"]}),
}


@pytest.fixture(params=KINDS)
def painted(request, tmp_path, textured, monkeypatch):
    """A stack and labels of its first slices as TIFF: the value that fills, and the options."""
    value, fill, options = KINDS[request.param]
    stack = textured((DEEP, 64, 60))
    labels = np.where(stack[:PAINTED] > 128, value, int(value == 2)).astype(np.uint8)
    for name, array in (("stack", stack), ("labels", labels)):
        tifffile.imwrite(tmp_path / f"{name}.tif", array, photometric="minisblack")
    monkeypatch.chdir(tmp_path)
    return fill, options


def prepared(volume, labels, **options):
    pair = LabelledVolume(volume=volume, labels=labels)
    return prepare_training([pair], "w.safetensors", TrainOptions(**options))


def test_the_error_names_both_ways(painted, shell):
    argv = ("--volume", "stack.tif", "--labels", "labels.tif", "--out", "w.safetensors")
    code, out, err = shell("train", *argv)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.endswith(
        "is 24×64×60: they do not state which of its slices they are; pass these slices alone as "
        "--volume (for the first 8, in Fiji, Image > Duplicate with the range 1-8), or add the "
        "other slices to the labels, filled with a value that is not a label, as --ignore\n"
    )


def test_the_slices_alone_are_a_volume(painted):
    fill, options = painted
    first = tifffile.imread("stack.tif")[:PAINTED]
    tifffile.imwrite("first.tif", first, photometric="minisblack")
    more = {"ignore": 0} if fill == 0 else {}
    one = prepared("first.tif", "labels.tif", **options, **more)
    assert one.surveys[0].known_share == 1
    assert one.volumes.training[0].shape_zyx == first.shape


def test_labels_that_are_filled_up_are_learnt_where_they_are_painted(painted):
    fill, options = painted
    padding = ((0, DEEP - PAINTED), (0, 0), (0, 0))
    padded = np.pad(tifffile.imread("labels.tif"), padding, constant_values=fill)
    tifffile.imwrite("padded.tif", padded, photometric="minisblack")
    one = prepared("stack.tif", "padded.tif", ignore=fill, validation_slices=(6, 8), **options)
    box, survey = one.volumes.training[-1], one.surveys
    known = sum(part.known_voxels for part in survey)
    assert known == 6 * 64 * 60
    assert one.validation_surveys[0].known_share == 1
    assert box.volume_shape_zyx == (DEEP, 64, 60)


def test_a_truth_of_the_first_slices_is_filled_up_too(painted, shell, one_worker):
    labels = tifffile.imread("labels.tif")
    whole = np.pad(labels, ((0, DEEP - PAINTED), (0, 0), (0, 0)), constant_values=1)
    tifffile.imwrite("prediction.tif", whole, photometric="minisblack")
    cluster = ("--cluster", one_worker.scheduler.address)
    code, out, err = shell("evaluate", "prediction.tif", "labels.tif", *cluster)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "it does not state which slices it has; add the others to it, with any value, and" in err
    assert err.endswith("--slices, e.g. --slices 0:8 for the first 8\n")
    truth = np.pad(labels, ((0, DEEP - PAINTED), (0, 0), (0, 0)))
    tifffile.imwrite("truth.tif", truth, photometric="minisblack")
    code, out, err = shell("evaluate", "prediction.tif", "truth.tif", "--slices", "0:8", *cluster)
    assert code == 0, err
    assert "pixel error 0.0000" in out
