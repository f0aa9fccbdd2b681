"""The tree that merges objects across blocks, for as many blocks as a huge volume has.

    python -m benchmarks.objects_tree [--side 100] [--folder DIR] [--workers 2]

Simulates ``side**3`` blocks: each has four fragments, and two random edges to each of its six
neighbours, which both sides state. Real tasks of the run merge the groups level by level, and name
their nodes from the top, through real files. Prints tasks per second, the sizes of the states, and
the memory of the driver and of the workers.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client, LocalCluster

from pipeline.base.geometry import Halo, Shape
from pipeline.base.location import Location
from pipeline.evaluation.gather import results_of
from pipeline.ledger.creation import begin_run_group
from pipeline.ledger.identity import Job
from pipeline.objects.definition.method import Method, Rule
from pipeline.objects.fragments.fragments import Edges
from pipeline.objects.fragments.measures import Records
from pipeline.objects.merging.merge import GroupState, WaysOut, merge
from pipeline.objects.tasks.filters import Filter
from pipeline.objects.tasks.intermediates import file_name
from pipeline.objects.tasks.tasks import ObjectsJob, groups_at, merge_group, name_group, settled_at
from pipeline.planning.blocks import BlockPlan

from .measuring import peak_mib

FRAGMENTS, EDGES, HEIGHTS = 4, 2, 1000
DEPTH = 300


def block_state(grid: Shape, block: Shape) -> GroupState:
    """Return a block's fragments; edges follow from the face, so both of its blocks state them."""
    number = int(np.ravel_multi_index(block, grid))
    names = np.arange(1, FRAGMENTS + 1, dtype=np.uint64) + np.uint64(number * FRAGMENTS)
    node, there, height, place = [], [], [], []
    for axis in range(3):
        for side in (-1, 1):
            other = tuple(i + side * (a == axis) for a, i in enumerate(block))
            if not all(0 <= i < n for i, n in zip(other, grid, strict=True)):
                continue
            lower = min(number, int(np.ravel_multi_index(other, grid)))
            random = np.random.default_rng((lower, axis))
            ends = random.integers(0, FRAGMENTS, (2, EDGES))
            mine, theirs = (ends[0], ends[1]) if lower == number else (ends[1], ends[0])
            beyond = int(np.ravel_multi_index(other, grid)) * FRAGMENTS
            node.append(mine)
            there.append((theirs + beyond + 1).astype(np.uint64))
            height.append(random.integers(1, HEIGHTS, EDGES).astype(np.int32))
            place.append((lower * 3 + axis) * EDGES + np.arange(EDGES))
    of = np.concatenate(node).astype(np.int64)
    lowest = np.random.default_rng(number).integers(0, HEIGHTS // 2, FRAGMENTS).astype(np.int32)
    none = np.empty(0, np.int64)
    return GroupState(
        records=Records(
            names=names, voxels=np.ones(FRAGMENTS, np.int64), at_edge=np.zeros(FRAGMENTS, np.bool_)
        ),
        seeded=np.ones(FRAGMENTS, np.bool_),
        lowest=lowest,
        edges=Edges(one=none, other=none, height=none.astype(np.int32), place=none),
        ways_out=WaysOut(
            node=of,
            here=names[of],
            there=np.concatenate(there),
            height=np.concatenate(height),
            place=np.concatenate(place).astype(np.int64),
        ),
    )


def merge_blocks(job: ObjectsJob, group: Shape) -> int:
    """Merge simulated blocks as ``merge_group`` merges real ones of level 1."""
    children = job.tree.children(1, group)
    state, _ = merge([block_state(job.plan.grid, block) for block in children], Rule(depth=DEPTH))
    job.files.put(groups_at(1), file_name(group), state)
    return len(state.records)


def state_bytes(job: ObjectsJob, level: int, group: Shape) -> int:
    state = job.files.get(groups_at(level), file_name(group), GroupState)
    ways, edges = state.ways_out, state.edges
    return 21 * len(state.records) + 28 * len(edges.one) + 36 * len(ways.node)


def simulate(side: int, folder: Path, workers: int) -> dict[str, Any]:
    output = Location.parse(str(folder / "tree.zarr"))
    begin_run_group(output, Job({"simulated": side}), version="0.5", owner="token")
    plan = BlockPlan(
        shape=(side,) * 3, core=(1, 1, 1), halo=Halo((0,) * 3, (0,) * 3), divisor=(1, 1, 1)
    )
    method = Method(role="boundary", threshold=None, connectivity=6, per_slice=False, depth=DEPTH)
    job = ObjectsJob(
        scores=None, output=output, run_token="token", plan=plan, method=method,  # type: ignore[arg-type]
        kept=Filter(), path="", axes="zyx",
    )  # fmt: skip
    tree = job.tree
    rows: list[dict[str, Any]] = []

    def stage(name: str, call: Any, items: Iterable[Shape]) -> None:
        start, tasks, nodes, most = time.perf_counter(), 0, 0, 0
        for _, found in results_of(client, items, lambda item: (call, item), key=name, token=""):
            tasks, nodes, most = tasks + 1, nodes + found, max(most, found)
        seconds = time.perf_counter() - start
        rows.append({
            "stage": name, "tasks": tasks, "seconds": round(seconds, 1),
            "tasks_per_s": round(tasks / seconds), "nodes": nodes, "largest": most,
            "driver_mib": driver_mib(),
        })  # fmt: skip
        print(json.dumps(rows[-1]), flush=True)

    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        stage("merge 1", partial(merge_blocks, job), tree.groups(1))
        for level in range(2, tree.depth + 1):
            stage(f"merge {level}", partial(merge_group, job, level), tree.groups(level))
        for level in range(tree.depth - 1, 0, -1):
            stage(f"name {level}", partial(name_group, job, level), tree.groups(level))
        peaks = client.run(peak_mib)
    last = tree.depth - 1
    largest = max(state_bytes(job, last, group) for group in tree.groups(last))
    settled = len(job.files.names(settled_at(last)))
    return {
        "blocks": side**3, "stages": rows, "workers_peak_mib": sorted(peaks.values()),
        "largest_state_before_last_mib": round(largest / 2**20, 1), "groups_before_last": settled,
    }  # fmt: skip


def driver_mib() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() // 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        start = time.perf_counter()
        result = simulate(options.side, Path(folder), options.workers)
        result["seconds"] = round(time.perf_counter() - start, 1)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
