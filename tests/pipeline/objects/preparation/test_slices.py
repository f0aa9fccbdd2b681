"""Slices that a 2-D network saw one by one: objects that join them are noted."""

from __future__ import annotations

import pytest
import zarr

from pipeline import segment_volume
from pipeline.objects.definition.request import ObjectsRequest
from pipeline.objects.preparation.prepare import prepare_objects
from unet import UNetPredictor


def notes_on(network, planes, weights, textured, tmp_path, **options):
    zarr.create_array(tmp_path / "in.zarr", data=textured((planes, 40, 40)))
    out = str(tmp_path / "out.zarr")
    segment_volume(
        str(tmp_path / "in.zarr"), out, UNetPredictor(weights(network)), axes="zyx",
        outputs=("classes", "scores"),
    )  # fmt: skip
    request = ObjectsRequest(scores=out, output=str(tmp_path / "o.zarr"), score_class=1, **options)
    return " ".join(prepare_objects(request).notes)


@pytest.mark.parametrize(
    ("network", "planes", "options", "is_noted"),
    [
        ("2d", 3, {}, True),
        ("2d", 3, {"per_slice": True}, False),
        ("2d", 1, {}, False),
        ("3d", 8, {}, False),
    ],
)
def test_objects_that_join_slices_seen_alone_are_noted(
    network, planes, options, is_noted, weights, textured, tmp_path
):
    notes = notes_on(network, planes, weights, textured, tmp_path, **options)
    assert ("add --per-slice if the slices are separate images" in notes) == is_noted
