"""Damaged labels of objects, and scores that objects were found in, come back to the same bytes."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

from pipeline import segment_volume
from pipeline.base.errors import VolumeError
from pipeline.base.local_client import local_client
from pipeline.base.location import Location
from pipeline.objects.definition.request import ObjectsRequest
from pipeline.objects.preparation.prepare import prepare_objects
from pipeline.objects.run import ObjectsRun
from pipeline.objects.table.finished import find_finished
from pipeline.verification.repair import repair_objects_of, repair_output
from pipeline.verification.verify import ledgers_in, verify_output
from unet import UNetPredictor

SHAPE, BLOCK = (6, 20, 270), (6, 16, 64)
BLOCKS = 1 * 2 * 5


@pytest.fixture(scope="module")
def threads():
    with local_client() as client:
        yield client


@pytest.fixture(scope="module")
def scores(textured, tmp_path_factory):
    """Return scores of one class, as an image."""
    path = tmp_path_factory.mktemp("objects") / "scores.zarr"
    zarr.create_array(path, data=textured(SHAPE, seed=5), dimension_names=["z", "y", "x"])
    return path


@pytest.fixture(scope="module")
def find(scores, threads):
    def run(output, **options):
        request = ObjectsRequest(
            scores=str(scores), output=str(output), block=BLOCK, threshold=0.6, **options
        )
        objects = ObjectsRun.start(prepare_objects(request), threads)
        objects.complete()
        return objects

    return run


def verified(output):
    return verify_output(Location.parse(output), on_cell=lambda done, total: None)


def stored(output):
    files = (path for path in output.rglob("*") if path.is_file())
    named = {str(path.relative_to(output)): path for path in files}
    ledgers = ("run/", "labels/objects/run/")
    return {name: p.read_bytes() for name, p in named.items() if not name.startswith(ledgers)}


@pytest.mark.parametrize("keep", [True, False], ids=["intermediates kept", "deleted"])
def test_damaged_labels_and_levels_come_back_to_the_same_bytes(find, keep, tmp_path):
    output = tmp_path / "cells.zarr"
    find(output, keep_intermediates=keep)
    undisturbed = stored(output)
    result = verified(output)
    assert (result.findings, result.done, result.unrecorded_blocks) == ((), BLOCKS, 0)
    labels = sorted((output / "labels/objects/0/c").rglob("*/*/*"))
    level = sorted((output / "labels/objects/1/c").rglob("*/*/*"))
    labels[0].write_bytes(labels[0].read_bytes()[:-7])
    level[0].unlink()
    assert {finding.level for finding in verified(output).findings} == {0, 1}
    assert find_finished(Location.parse(output)).count
    assert repair_output(verified(output)) == (1 if keep else BLOCKS)
    with pytest.raises(VolumeError, match=r"no finished objects: .*, whose run is complete"):
        find_finished(Location.parse(output))  # known to be wrong: nothing is exported
    find(output, keep_intermediates=keep)
    assert stored(output) == undisturbed
    assert verified(output).findings == ()


def test_a_damaged_document_of_labels_is_written_again(find, tmp_path):
    output = tmp_path / "cells.zarr"
    find(output)
    undisturbed = stored(output)
    (output / "labels/objects/0/zarr.json").write_text("{")
    assert repair_output(verified(output)) == BLOCKS
    find(output)
    assert stored(output) == undisturbed
    assert np.any(zarr.open_array(output / "labels/objects/0", mode="r")[...])


@pytest.mark.slow
def test_objects_inside_a_segmentation_are_found_again_where_its_scores_are_damaged(
    scores, weights, threads, tmp_path
):
    output, predictor = tmp_path / "out.zarr", UNetPredictor(weights("3d"), precision="fp32")
    inside = output / "labels/objects"

    def make():
        segment_volume(
            str(scores), str(output), predictor, client=threads, block=BLOCK,
            outputs=("classes", "scores"),
        )  # fmt: skip
        request = ObjectsRequest(scores=str(output), output=str(inside), block=BLOCK)
        ObjectsRun.start(prepare_objects(request), threads).complete()

    make()
    undisturbed = stored(output)
    assert [place.path for place in ledgers_in(Location.parse(output))] == [output, inside]
    shard = output / "labels/classes/0/c/0/0/1"
    shard.write_bytes(shard.read_bytes()[:-1])
    assert repair_output(verified(output)) == 1
    assert not repair_objects_of(verified(output)), "objects were found in the scores"
    make()
    shard = output / "0/c/0/0/0/1"
    shard.write_bytes(shard.read_bytes()[:-1])
    result = verified(output)
    assert repair_output(result) == 1
    assert repair_objects_of(result)
    assert verified(inside).done == 0
    make()
    assert stored(output) == undisturbed
