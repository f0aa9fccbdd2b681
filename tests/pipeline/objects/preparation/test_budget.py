"""What a run states to need before it starts, beside what it does."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import zarr

from pipeline.base.errors import PlanError
from pipeline.base.local_client import local_client
from pipeline.objects import task_run
from pipeline.objects.definition.request import ObjectsRequest
from pipeline.objects.preparation.budget import DISTANCE_BYTES
from pipeline.objects.preparation.memory import check_worker
from pipeline.objects.preparation.prepare import prepare_objects
from pipeline.objects.run import ObjectsRun

SHAPE = (6, 20, 26)
WATERSHED = {"method": "watershed", "depth": 0.1}
KINDS = {
    "components": {},
    "one block": {"block": SHAPE},
    "filled holes": {"fill_holes": True},
    "watershed": WATERSHED,
    "agglomerated": {**WATERSHED, "agglomerate": "mean", "merge_threshold": 0.4},
    "all": {**WATERSHED, "agglomerate": "mean", "merge_threshold": 0.4, "fill_holes": True},
}


@pytest.fixture(scope="module")
def prepared(textured, tmp_path_factory):
    """Return a function from options to a prepared run."""
    folder = tmp_path_factory.mktemp("budget")
    zarr.create_array(folder / "scores.zarr", data=textured(SHAPE, seed=5), chunks=(6, 8, 8))

    def make(output="out.zarr", scores="scores.zarr", **options):
        return prepare_objects(
            ObjectsRequest(
                scores=str(folder / scores), output=str(folder / output), axes="zyx",
                role="boundary", **{"block": (3, 8, 8), **options},
            )
        )  # fmt: skip

    make.folder = folder
    return make


@pytest.mark.parametrize(
    "kind",
    [kind if kind == "all" else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS],
)
def test_a_run_does_the_stated_tasks_in_the_stated_stages(kind, prepared, monkeypatch):
    passes, drive = [], task_run.drive

    def counting(*arguments, **options):
        passes.append(0)
        for batch in drive(*arguments, **options):
            passes[-1] += len(batch)
            yield batch

    monkeypatch.setattr(task_run, "drive", counting)
    asked = prepared(f"{kind}.zarr", **KINDS[kind])
    with local_client() as client:
        ObjectsRun.start(asked, client).complete()
    swept = asked.plan.grid[0] if asked.plan.grid[0] > 1 else 1  # one task after the other
    assert sum(passes) == asked.budget.tasks
    assert len(passes) == asked.budget.stages + swept - 1


def test_a_block_of_the_middle_needs_its_halo_on_both_sides(prepared):
    zarr.create_array(prepared.folder / "wide.zarr", shape=(60,) * 3, dtype="u1", chunks=(60,) * 3)
    options = {"scores": "wide.zarr", "method": "watershed", "threshold": 0.5, "seed_distance": 9.0}
    side = 20 + 2 * prepared(**options).method.halo[0]
    assert 38 <= side < 60
    asked = prepared(block=(20, 20, 20), **options)
    assert asked.budget.block_memory_bytes == DISTANCE_BYTES * side**3


@pytest.mark.parametrize("threads", [1, 3])
def test_a_worker_needs_the_memory_of_a_block_for_each_thread(threads, prepared):
    asked = prepared()
    need = threads * asked.budget.block_memory_bytes
    for has, outcome in (
        (need, nullcontext()),
        (None, nullcontext()),
        (need - 1, pytest.raises(PlanError, match=r"a worker needs .*--block")),
    ):
        with outcome:
            check_worker(asked, threads=threads, memory_bytes=has)
