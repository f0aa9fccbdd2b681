"""A run of a network without classes: its scores, what the output states of them, its report."""

from __future__ import annotations

import html
import json
import re

import numpy as np
import pytest
import torch
import zarr

import pipeline
from flows.text.plan import plan_rows
from pipeline import SegmentRequest
from pipeline.base.errors import PlanError, VolumeError
from pipeline.base.location import Location
from pipeline.base.network_outputs import ATTRIBUTE, NetworkOutputs
from pipeline.base.stores import read_node
from pipeline.evaluation.plan import plan_evaluation
from pipeline.evaluation.request import EvaluateRequest
from pipeline.preview.preview import preview_volume
from pipeline.segmentation.outputs import with_outputs
from pipeline.segmentation.prepare import prepare
from pipeline.viewing.layers import find_view
from unet import UNet, UNetConfig, UNetPredictor, save_weights

OFFSETS = ((-1, 0), (0, -1), (0, -4), (-4, 0))
AFFINITIES = NetworkOutputs(kind="affinities", offsets=OFFSETS)
STATED = {
    "outputs": "affinities",
    "activation": "sigmoid",
    "offsets": [[0, -1, 0], [0, 0, -1], [0, 0, -4], [0, -4, 0]],
}


def file_of(folder, outputs, classes):
    torch.manual_seed(1)
    model = UNet(UNetConfig(base_channels=2, levels=2, classes=classes), outputs)
    with torch.no_grad():  # else the scores hardly vary
        logits = model(torch.rand(1, 1, *model.config.input_shape((16, 16))))
        scale = 2 / logits.std(dim=(2, 3)).mean()
        model.head.weight.mul_(scale)
        model.head.bias.sub_(logits.mean(dim=(2, 3))[0]).mul_(scale)
    save_weights(model, folder / "w.safetensors", normalisation={"kind": "dtype"})
    return UNetPredictor(str(folder / "w.safetensors"), precision="fp32", device="cpu")


@pytest.fixture(scope="module", params=["0.5", "0.4"])
def place(request, tmp_path_factory, textured):
    """A folder with a volume, and the scores of a network of affinities in it."""
    folder = tmp_path_factory.mktemp("outputs")
    zarr.create_array(
        folder / "in.zarr", data=textured((1, 2, 24, 30))[0], dimension_names=list("zyx")
    )
    predictor = file_of(folder, AFFINITIES, 4)
    pipeline.segment_volume(
        str(folder / "in.zarr"), str(folder / "out.zarr"), predictor, block=(2, 16, 16),
        format=request.param,
    )  # fmt: skip
    return folder, predictor


def test_scores_are_stored_and_no_classes(place):
    folder, predictor = place
    stored = zarr.open_array(folder / "out.zarr/0", mode="r")
    assert stored.shape == (4, 2, 24, 30)
    assert stored.dtype == np.uint8
    assert not (folder / "out.zarr/labels").exists()
    raw = zarr.open_array(folder / "in.zarr", mode="r")[...].astype(np.float32) / 255
    sizes = zip(raw.shape, predictor.input_shape(raw.shape), predictor.halo, strict=True)
    pads = [(halo, size - n - halo) for n, size, halo in sizes]
    wanted = predictor(np.pad(raw, pads, mode="reflect")[None, None])[0][:, :2, :24, :30]
    assert np.abs(stored[...] / 255 - wanted).max() < 0.51 / 255
    assert stored[...].std() > 2


def test_the_image_states_what_its_channels_are_with_offsets_along_all_axes(place):
    folder, _ = place
    attributes = read_node(Location.parse(str(folder / "out.zarr"))).attributes
    assert attributes[ATTRIBUTE] == STATED
    assert NetworkOutputs.from_json(attributes[ATTRIBUTE]) == AFFINITIES.in_zyx()
    omero = attributes.get("ome", attributes)["omero"]
    assert [one["label"] for one in omero["channels"]] == list(AFFINITIES.names)
    assert all(one["active"] for one in omero["channels"]), "no channel is background"


def test_the_report_speaks_of_channels_and_of_no_class(place):
    folder, _ = place
    page = (folder / "out.zarr/run/report.html").read_text()
    text = html.unescape(re.sub(r"<style.*?</style>|<[^>]+>", " ", page, flags=re.S))
    assert "Complete." in text
    assert "Scores of each channel" in text
    assert "affinity 0,-1" in text
    assert not re.search(r"\bclass|[Hh]ow sure|undecided|overlay", text)


def test_a_viewer_shows_every_channel(place):
    folder, _ = place
    view = find_view(Location.parse(str(folder / "out.zarr")))
    scores = [layer for layer in view.layers if layer.kind == "scores"]
    assert [layer.name for layer in scores] == [f"scores: {name}" for name in AFFINITIES.names]
    assert all(layer.is_shown for layer in scores)


def test_a_plan_and_a_preview_name_the_channels(place):
    folder, predictor = place
    request = SegmentRequest(input=str(folder / "in.zarr"), output=str(folder / "new.zarr"))
    rows = plan_rows(prepare(request, predictor))
    assert ("scores", f"affinities: {', '.join(AFFINITIES.names)}") in rows
    assert preview_volume(request, predictor).picture.ndim == 3


@pytest.mark.parametrize("scores", [None, 0])
def test_an_evaluation_of_its_scores_is_refused_in_one_line(place, scores):
    folder, _ = place
    request = EvaluateRequest(
        prediction=str(folder / "out.zarr"), truth=str(folder / "in.zarr"), scores=scores
    )
    with pytest.raises(VolumeError, match=r"scores of a network of affinities, .*overtile objects"):
        plan_evaluation(request)


@pytest.mark.parametrize("outputs", [("classes",), ("classes", "scores")])
def test_classes_of_a_network_without_them_are_refused_in_one_line(place, outputs):
    folder, predictor = place
    request = SegmentRequest(input=str(folder / "in.zarr"), output="new.zarr", outputs=outputs)
    with pytest.raises(PlanError) as caught:
        prepare(request, predictor)
    assert str(caught.value) == (
        f"--outputs {','.join(outputs)} of a network of affinities: its channels are not classes, "
        "of which each voxel has one; use --outputs scores"
    )


def test_outputs_that_are_left_open_are_those_that_the_network_has(place, weights):
    _, predictor = place
    classes = UNetPredictor(weights("2d"))
    for network, for_objects, wanted in (
        (classes, False, ("classes",)),
        (classes, True, ("classes", "scores")),
        (predictor, False, ("scores",)),
        (predictor, True, ("scores",)),
    ):
        request = SegmentRequest(input="in.zarr", output="out.zarr", for_objects=for_objects)
        assert with_outputs(request, network).outputs == wanted


def test_scores_are_not_written_into_the_input(place):
    folder, predictor = place
    request = SegmentRequest(
        input=str(folder / "in.zarr"), output=str(folder / "in.zarr/labels/ours"), into_input=True
    )
    with pytest.raises(PlanError, match="--into-input with scores"):
        prepare(request, predictor)


def test_the_job_of_a_run_states_its_outputs(place):
    folder, _ = place
    run = read_node(Location.parse(str(folder / "out.zarr")), path="run")
    assert run.attributes["job"]["outputs"] == ["scores"]
    json.dumps(run.attributes["job"])
