"""Objects since those of earlier scores: the bytes of a run without it, fewer blocks labelled."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

from pipeline.base.errors import PlanError
from pipeline.base.geometry import Box
from pipeline.base.local_client import local_client
from pipeline.base.location import Location
from pipeline.objects.definition.request import ObjectsRequest
from pipeline.objects.fragments.labelled_block import outer_box
from pipeline.objects.fragments.labelling import label_block
from pipeline.objects.preparation.prepare import prepare_objects
from pipeline.objects.run import ObjectsRun
from pipeline.verification.verify import verify_output

SHAPE, BLOCK = (4, 16, 270), (4, 16, 64)
CHANGED = Box((1, 6, 128), (3, 10, 134))
"""At the edge of its block: a watershed of the block before reads it too."""
METHODS = {
    "components": {"threshold": 0.4, "fill_holes": True},
    "merged": {
        "method": "watershed", "role": "boundary", "depth": 0.05, "agglomerate": "mean",
        "merge_threshold": 0.5,
    },
    "seeds": {"method": "watershed", "threshold": 0.4, "seed_distance": 1.5},
}  # fmt: skip


@pytest.fixture(scope="module")
def find(textured, tmp_path_factory):
    """Return a function that finds objects in the first or in the changed scores."""
    folder = tmp_path_factory.mktemp("since")
    scores = textured(SHAPE, seed=5)
    for name in ("one", "other"):
        zarr.create_array(folder / f"{name}.zarr", data=scores, dimension_names=["z", "y", "x"])
        scores = scores.copy()
        scores[CHANGED.slices] = 255 - scores[CHANGED.slices]
    with local_client() as client:

        def run(name, output, **options):
            options = {"block": BLOCK, **options}
            request = ObjectsRequest(
                scores=str(folder / f"{name}.zarr"), output=str(output), **options
            )
            objects = ObjectsRun.start(prepare_objects(request), client)
            objects.complete()
            return objects

        yield run


def stored(output):
    files = (path for path in output.rglob("*") if path.is_file())
    named = {str(path.relative_to(output)): path for path in files}
    return {name: p.read_bytes() for name, p in named.items() if not name.startswith("run/")}


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(name, marks=pytest.mark.slow if name in ("merged", "seeds") else ())
        for name in METHODS
    ],
)
def test_objects_are_those_of_a_full_run_and_equal_blocks_are_not_labelled_again(
    find, method, tmp_path, monkeypatch
):
    options = METHODS[method]
    find("one", tmp_path / "first.zarr", keep_intermediates=True, **options)
    find("other", tmp_path / "plain.zarr", **options)
    labelled = []

    def noted(*values, core, **rest):
        labelled.append(core)
        return label_block(*values, core=core, **rest)

    monkeypatch.setattr("pipeline.objects.tasks.tasks.label_block", noted)
    run = find("other", tmp_path / "out.zarr", since=str(tmp_path / "first.zarr"), **options)
    assert stored(tmp_path / "out.zarr") == stored(tmp_path / "plain.zarr")
    job = run.job
    touched = [
        core for core in (job.plan.block(index).core for index in np.ndindex(job.plan.grid))
        if outer_box(core, job.method, SHAPE).clipped_to(CHANGED).voxels
    ]  # fmt: skip
    assert sorted(core.start for core in labelled) == sorted(core.start for core in touched)
    assert 0 < len(touched) < len(job.plan)
    assert run.summary().taken_over == len(job.plan) - len(touched)
    result = verify_output(Location.parse(tmp_path / "out.zarr"), on_cell=lambda *_: None)
    assert result.findings == ()


def test_objects_of_equal_scores_take_over_all_blocks_and_copy_all_levels(find, tmp_path):
    find("one", tmp_path / "first.zarr", keep_intermediates=True, threshold=0.6)
    run = find("one", tmp_path / "out.zarr", threshold=0.6, since=str(tmp_path / "first.zarr"))
    summary = run.summary()
    assert summary.taken_over == len(run.job.plan)
    copied, of = summary.copied_shards
    assert copied == of > 0
    assert stored(tmp_path / "out.zarr") == stored(tmp_path / "first.zarr")


def test_a_damaged_or_missing_file_of_the_earlier_output_is_made_again(find, tmp_path):
    first = tmp_path / "first.zarr"
    find("one", first, keep_intermediates=True, threshold=0.6)
    (first / "run/objects/inputs/0.0.0").write_bytes(b"torn")
    (first / "run/objects/graphs/0.0.1").unlink()
    run = find("one", tmp_path / "out.zarr", threshold=0.6, since=str(first))
    assert run.summary().taken_over == len(run.job.plan) - 2
    assert stored(tmp_path / "out.zarr") == stored(first)


def test_what_cannot_be_taken_over_is_refused_in_one_line(find, tmp_path):
    first = tmp_path / "first.zarr"
    find("one", first, keep_intermediates=True, threshold=0.6)
    with pytest.raises(PlanError, match=r"was made in another way: threshold was "):
        find("other", tmp_path / "out.zarr", threshold=0.5, since=str(first))
    find("one", tmp_path / "deleted.zarr", threshold=0.6)
    with pytest.raises(PlanError, match=r"has no intermediate results: .*--keep-intermediates"):
        find("other", tmp_path / "out.zarr", threshold=0.6, since=str(tmp_path / "deleted.zarr"))
    attributes = zarr.open_group(tmp_path / "deleted.zarr/run", mode="r+").attrs
    attributes["job"] = {k: v for k, v in attributes["job"].items() if k != "kind"}
    with pytest.raises(PlanError, match=r"is not an output of objects: .*OUTPUT/labels/objects$"):
        find("other", tmp_path / "out.zarr", threshold=0.6, since=str(tmp_path / "deleted.zarr"))
    with pytest.raises(PlanError, match="--since and --reuse exclude each other"):
        find("other", tmp_path / "out.zarr", since=str(first), reuse=str(first))
    assert not (tmp_path / "out.zarr").exists()
