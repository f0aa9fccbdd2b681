"""A task of a run that another one has taken over writes nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import zarr

from pipeline.base.errors import RunError
from pipeline.base.local_client import local_client
from pipeline.objects.definition.request import ObjectsRequest
from pipeline.objects.preparation.prepare import prepare_objects
from pipeline.objects.run import ObjectsRun
from pipeline.objects.tasks.cluster_tasks import cluster_group, rename_block, touch_block
from pipeline.objects.tasks.ids import IdIndex
from pipeline.objects.tasks.row_tasks import sweep_layer, write_table
from pipeline.objects.tasks.tasks import label, merge_group, name_group, number_layer
from pipeline.objects.tasks.write_tasks import label_background, write_block

BLOCK = (0, 0, 0)
TASKS = {
    "label": lambda job, spec: label(job, BLOCK),
    "merge": lambda job, spec: merge_group(job, 1, BLOCK),
    "name": lambda job, spec: name_group(job, 0, BLOCK),
    "touch": lambda job, spec: touch_block(job, BLOCK),
    "cluster": lambda job, spec: cluster_group(job, 1, BLOCK),
    "rename": lambda job, spec: rename_block(job, BLOCK),
    "background": lambda job, spec: label_background(job, BLOCK),
    "number": lambda job, spec: number_layer(job, 0),
    "write": lambda job, spec: write_block(job, IdIndex.of([]), BLOCK),
    "sweep": lambda job, spec: sweep_layer(job, 0),
    "table": lambda job, spec: write_table(job, spec, True),
}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A complete run with its intermediates, every kind of task included."""
    folder = tmp_path_factory.mktemp("owner")
    scores = np.random.default_rng(0).integers(0, 256, (4, 6, 6)).astype(np.uint8)
    zarr.create_array(folder / "scores.zarr", data=scores)
    request = ObjectsRequest(
        scores=str(folder / "scores.zarr"), output=str(folder / "out.zarr"), axes="zyx",
        role="boundary", method="watershed", threshold=0.7, depth=0.1, agglomerate="mean",
        merge_threshold=0.4, fill_holes=True, block=(4, 3, 6), keep_intermediates=True,
    )  # fmt: skip
    with local_client() as client:
        run = ObjectsRun.start(prepare_objects(request), client)
        run.complete()
    return run, folder / "out.zarr"


@pytest.mark.parametrize("task", TASKS)
def test_a_task_of_a_superseded_run_writes_nothing(task, done):
    run, output = done

    def contents():
        return {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file()}

    before = contents()
    with pytest.raises(RunError, match="another run has taken over"):
        TASKS[task](replace(run.job, run_token="other"), run.prepared.table_spec)
    assert contents() == before
