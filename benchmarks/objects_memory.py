"""The memory that finding objects states per block, and the peak that each pass reaches.

    python -m benchmarks.objects_memory [--sides 128,192] [--folder DIR] [--only NAME,…]

For each kind of objects and side of a block, a separate process does the tasks of a run one after
the other, with the settings of overtile's workers, in a volume of two blocks; it also labels the
middle one of 27 blocks, with halo all around. Prints by how many bytes per voxel of the block the
resident memory rose in each pass, beside what is stated.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import multiprocessing
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from scipy import ndimage

from pipeline.base.geometry import Shape
from pipeline.base.location import Location
from pipeline.ledger.creation import begin_run_group
from pipeline.objects.definition.request import ObjectsRequest
from pipeline.objects.preparation.prepare import prepare_objects
from pipeline.objects.preparation.prepared import PreparedObjects
from pipeline.objects.run import job_for
from pipeline.objects.tasks.cluster_tasks import cluster_group, rename_block, touch_block
from pipeline.objects.tasks.ids import IdIndex
from pipeline.objects.tasks.tasks import (
    ObjectsJob,
    label,
    merge_group,
    name_group,
    number_layer,
)
from pipeline.objects.tasks.write_tasks import label_background, write_block
from pipeline.output.ome_write import create_images

from .measuring import keep, numbers, restart_with_memory_kept, some_of

TILE, SIGMA = 64, 3.0
SMALL = 24
DEPTH = {"method": "watershed", "depth": 0.05}
SEEDS = {"method": "watershed", "threshold": 0.6, "seed_threshold": 0.5}
CASES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "components": ("uint8", {}),
    "components of uint16": ("uint16", {}),
    "components of float32": ("float32", {}),
    "components, grey values": ("uint8", {"intensity": "uint16"}),
    "components, grey values of float64": ("uint8", {"intensity": "float64"}),
    "components, filled holes": ("uint8", {"fill_holes": True}),
    "watershed by depth": ("uint8", DEPTH),
    "watershed of float32": ("float32", DEPTH),
    "watershed, agglomerated": (
        "uint8", {**DEPTH, "agglomerate": "mean", "merge_threshold": 0.4}),
    "watershed, filled holes": ("uint8", {**DEPTH, "threshold": 0.6, "fill_holes": True}),
    "watershed from seeds": ("uint8", SEEDS),
    "seeds at a distance": ("uint8", {**SEEDS, "seed_distance": 8.0}),
    "seeds at a large distance": ("uint8", {**SEEDS, "seed_distance": 40.0}),
    "seeds at a distance of float32": ("float32", {**SEEDS, "seed_distance": 8.0}),
    "affinities": ("affinities", {"threshold": 0.5}),
    "affinities, watershed by depth": ("affinities", {**DEPTH, "threshold": 0.1}),
    "affinities, agglomerated": (
        "affinities", {**DEPTH, "threshold": 0.1, "agglomerate": "mean", "merge_threshold": 0.6}),
    "affinities, seeds at a distance": (
        "affinities", {"method": "watershed", "threshold": 0.2, "seed_distance": 8.0}),
}  # fmt: skip
"""(dtype of the scores, options); affinities are uint8."""


def make_scores(path: Path, shape: Shape, dtype: str, *, grey: str) -> Path:
    """Store scores (z, y, x) of a periodic random field, and grey values of the same shape."""
    noise = np.random.default_rng(0).normal(size=(TILE,) * 3).astype(np.float32)
    field = ndimage.gaussian_filter(noise, SIGMA, mode="wrap")
    scores = 1 / (1 + np.exp(-2 * field / field.std()))
    stored = "uint8" if dtype == "affinities" else dtype
    if stored != "float32":
        scores = np.rint(scores * np.iinfo(stored).max)
    repeats = tuple(-(-n // TILE) for n in shape)
    whole = np.tile(scores.astype(stored), repeats)[tuple(map(slice, shape))]
    chunks = tuple(min(64, n) for n in shape)
    if dtype == "affinities":
        store_affinities(path, whole, chunks)
    else:
        zarr.create_array(path, data=whole, chunks=chunks)
    zarr.create_array(
        path.with_suffix(".grey"), shape=shape, chunks=chunks, dtype=grey, fill_value=7
    )
    return path


def store_affinities(path: Path, scores: np.ndarray[Any, Any], chunks: Shape) -> None:
    """Store an image whose channels are the scores as affinities along z, y and x."""
    root, offsets = zarr.create_group(path), [[-1, 0, 0], [0, -1, 0], [0, 0, -1]]
    root.create_array("0", data=np.stack([scores] * 3), chunks=(1, *chunks))
    axes: Any = [{"name": "c", "type": "channel"}, *({"name": a, "type": "space"} for a in "zyx")]
    scale = [{"type": "scale", "scale": [1.0] * 4}]
    level: Any = {"path": "0", "coordinateTransformations": scale}
    root.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": [level]}]}
    root.attrs["overtile"] = {"outputs": "affinities", "offsets": offsets}


def prepare(folder: Path, shape: Shape, side: int, case: str) -> tuple[PreparedObjects, ObjectsJob]:
    """Return objects in blocks of a side, whose output exists."""
    dtype, options = CASES[case]
    name = "x".join(map(str, shape))
    scores = make_scores(
        folder / f"{name}.zarr", shape, dtype, grey=options.get("intensity", "uint8")
    )
    options = {
        **options,
        "threshold": options.get("threshold", None if "method" in options else 0.5),
    }
    if options.get("intensity"):
        options["intensity"] = str(scores.with_suffix(".grey"))
    stated: Any = {} if dtype == "affinities" else {"axes": "zyx", "role": "boundary"}
    output = folder / f"{name}-out.zarr"
    prepared = prepare_objects(
        ObjectsRequest(
            scores=str(scores), output=str(output), block=(side,) * 3, **stated, **options
        )
    )
    begin_run_group(Location.parse(str(output)), prepared.job, version="0.5", owner="token")
    return prepared, job_for(prepared, run_token="token")


def passes(prepared: PreparedObjects, job: ObjectsJob) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield the tasks of a run in order, by name; a task may need what earlier ones returned."""
    blocks = [block.index for block in job.plan.blocks()]

    def merging(of: ObjectsJob) -> Iterator[tuple[str, Callable[[], Any]]]:
        for level in range(1, of.tree.depth + 1):
            for group in of.tree.groups(level):
                yield "merge", partial(merge_group, of, level, group)
        for level in range(of.tree.depth - 1, -1, -1):
            for group in of.tree.groups(level):
                yield "name", partial(name_group, of, level, group)

    yield from (("label", partial(label, job, index)) for index in blocks)
    yield from merging(job)
    if job.method.agglomerate != "none":
        yield from (("touch", partial(touch_block, job, index)) for index in blocks)
        for level in range(1, job.tree.depth + 1):
            for group in job.tree.groups(level):
                yield "cluster", partial(cluster_group, job, level, group)
        yield from (("rename", partial(rename_block, job, index)) for index in blocks)
    if job.fills_holes:
        yield from (("background", partial(label_background, job, index)) for index in blocks)
        yield from merging(job.of_background)
    ids = IdIndex.of([number_layer(job, layer) for layer in range(job.plan.grid[0])])
    create_images(prepared.request.output, (prepared.image("uint32"),), version="0.5")
    yield from (("write", partial(write_block, job, ids, index)) for index in blocks)


def risen(call: Callable[[], Any]) -> int:
    """Return by how many bytes a call raises the resident memory of this process at most."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is that of now
    before = resident("VmRSS")
    call()
    return resident("VmHWM") - before


def resident(what: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(what)).split()[1]) * 1024


def measured(folder: Path, case: str, side: int) -> dict[str, Any]:
    """Return the stated and the measured bytes per voxel of a block, by pass."""
    for _, call in passes(*prepare(folder, (SMALL, SMALL, 2 * SMALL), SMALL, case)):
        call()  # compiles
    prepared, job = prepare(folder, (side, side, 2 * side), side, case)
    peaks: dict[str, int] = {}
    for name, call in passes(prepared, job):
        peaks[name] = max(peaks.get(name, 0), risen(call))
    inner, job = prepare(folder, (3 * side,) * 3, side, case)
    peaks["label inside"] = risen(partial(label, job, (1, 1, 1)))
    stated, voxels, peak = inner.budget.block_memory_bytes, side**3, max(peaks.values())
    return {
        "case": case, "side": side, "stated": round(stated / voxels, 1),
        "peak": round(peak / voxels, 1), "ratio": round(peak / stated, 2),
        "passes": {name: round(peak / voxels, 1) for name, peak in peaks.items()},
    }  # fmt: skip


def _report(results: Any, case: str, side: int, parent: Path | None) -> None:
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        results.put(measured(Path(folder), case, side))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sides", type=numbers, default=[128, 192])
    parser.add_argument("--only", type=some_of(CASES), default=list(CASES))
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    restart_with_memory_kept()
    context, rows = multiprocessing.get_context("spawn"), []
    for case in options.only:
        for side in options.sides:
            results = context.SimpleQueue()
            process = context.Process(target=_report, args=(results, case, side, options.folder))
            process.start()
            process.join()
            rows.append({"failed": case} if results.empty() else results.get())
            print(json.dumps(rows[-1]), flush=True)
    print(keep("objects-memory", {"cases": rows}))


if __name__ == "__main__":
    main()
