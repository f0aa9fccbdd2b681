"""Objects of a segmentation since an earlier one: its fragments are used where they can be."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import zarr

from flows.segmentation.objects import _prepared_since, objects_since
from pipeline import find_objects
from pipeline.base.location import Location
from pipeline.objects.definition.request import PATH, ObjectsRequest


@pytest.fixture
def earlier(textured, tmp_path):
    """Return scores with objects inside a folder as of an output, found with a threshold of 0.6."""
    scores = tmp_path / "scores.zarr"
    zarr.create_array(scores, data=textured((4, 16, 40)), dimension_names=["z", "y", "x"])
    output = tmp_path / "earlier.zarr" / PATH
    find_objects(str(scores), str(output), threshold=0.6, keep_intermediates=True)
    return Location.parse(tmp_path / "earlier.zarr")


def prepared(tmp_path, earlier, **options):
    request = ObjectsRequest(
        scores=str(tmp_path / "scores.zarr"), output=str(tmp_path / "new.zarr"), **options
    )
    return _prepared_since(request, SimpleNamespace(request=SimpleNamespace(earlier=earlier)))


def test_objects_of_the_same_definition_are_used_and_others_are_noted(earlier, tmp_path):
    assert objects_since(None) is None
    assert objects_since(Location.parse(tmp_path / "gone.zarr")) is None
    found = prepared(tmp_path, earlier, threshold=0.6)
    assert found.request.earlier == earlier / PATH
    other = prepared(tmp_path, earlier, threshold=0.5)
    assert other.request.earlier is None
    assert other.notes[-1].endswith("threshold was 0.6, now 0.5; all blocks are labelled")
    assert prepared(tmp_path, None, threshold=0.5).notes == other.notes[:-1]
