"""Objects in blocks: equal for every grid, how fast, and in how much memory, beside other tools.

    python -m benchmarks.objects [--sides 256,512] [--folder DIR] [--workers 2] [--peers]

Makes a volume of smooth random scores per side, finds objects of it by components and by watershed
in blocks of 128³ and in another grid, and compares the labels. Prints seconds per stage, voxels per
second, the peak memory of workers and driver. ``--peers``: also scipy.ndimage.label,
skimage.segmentation.watershed, cc3d and dask_image.ndmeasure.label on the same scores, each on the
whole volume in a separate process.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from distributed import Client, LocalCluster
from scipy import ndimage

from pipeline.objects.definition.request import ObjectsRequest
from pipeline.objects.preparation.prepare import prepare_objects
from pipeline.objects.run import ObjectsRun, Stage

from .measuring import peak_mib

TILE, SIGMA = 256, 3.0
THRESHOLD, DEPTH = 0.5, 0.05
BLOCKS = ((128, 128, 128), (96, 160, 256))


def make_scores(folder: Path, side: int) -> Path:
    """Store scores (z, y, x) of a periodic random field."""
    path = folder / f"scores{side}.zarr"
    if path.exists():
        return path
    noise = np.random.default_rng(0).normal(size=(TILE,) * 3).astype(np.float32)
    field = ndimage.gaussian_filter(noise, SIGMA, mode="wrap")
    tile = np.rint(255 / (1 + np.exp(-2 * field / field.std()))).astype(np.uint8)
    array = zarr.create_array(path, shape=(side,) * 3, chunks=(128,) * 3, dtype="uint8")
    for start in np.ndindex(*(-(-side // TILE),) * 3):
        place = tuple(slice(i * TILE, min((i + 1) * TILE, side)) for i in start)
        array[place] = tile[tuple(slice(0, s.stop - s.start) for s in place)]
    return path


def find(client: Client, scores: Path, output: Path, method: str, block: Any) -> dict[str, Any]:
    settings = {"depth": DEPTH} if method == "watershed" else {"threshold": THRESHOLD}
    request = ObjectsRequest(
        scores=str(scores), output=str(output), axes="zyx", role="boundary", method=method,  # type: ignore[arg-type]
        block=block, overwrite=True, **settings,
    )  # fmt: skip
    prepared = prepare_objects(request)
    stages: dict[str, float] = {}

    def timed(stage: Stage) -> None:
        start = time.perf_counter()
        stage.do()
        stages[stage.name] = stages.get(stage.name, 0) + time.perf_counter() - start

    start = time.perf_counter()
    run = ObjectsRun.start(prepared, client)
    objects = run.complete(do=timed)
    seconds = time.perf_counter() - start
    labels: Any = zarr.open_array(output / "labels/objects/0", mode="r")
    digest = hashlib.sha256()
    for z in range(0, labels.shape[0], 64):
        digest.update(np.ascontiguousarray(labels[z : z + 64]).tobytes())
    voxels = int(np.prod(labels.shape))
    return {
        "method": method, "block": list(block), "objects": objects, "seconds": round(seconds, 1),
        "mvoxel_per_s_and_worker": round(voxels / seconds / 1e6 / len(client.nthreads()), 2),
        "mvoxel_per_s_and_worker_by_stage": {
            name: round(voxels / each / 1e6 / len(client.nthreads()), 2)
            for name, each in stages.items()
        },
        "labels": digest.hexdigest()[:12], "block_mib": prepared.budget.block_memory_bytes // 2**20,
        "workers_peak_mib": sorted(client.run(peak_mib).values()), "driver_peak_mib": peak_mib(),
    }  # fmt: skip


def scipy_label(path: Path) -> int:
    scores: Any = zarr.open_array(path, mode="r")
    return int(ndimage.label(scores[...] < 128)[1])  # type: ignore[index]


def cc3d_label(path: Path) -> int:
    import cc3d

    scores: Any = zarr.open_array(path, mode="r")
    return int(cc3d.connected_components(scores[...] < 128, connectivity=6).max())


def skimage_watershed(path: Path) -> int:
    from skimage.morphology import h_minima
    from skimage.segmentation import watershed

    scores: Any = zarr.open_array(path, mode="r")
    values = scores[...]
    seeds: Any = ndimage.label(h_minima(values, round(DEPTH * 255)))
    return int(watershed(values, seeds[0]).max())


def dask_image_label(path: Path) -> int:
    import dask.array as da
    from dask_image.ndmeasure import label

    labels, count = label(da.from_zarr(str(path)) < 128)
    da.to_zarr(labels, str(path) + ".labels", overwrite=True)
    return int(count.compute())


PEERS: tuple[Callable[[Path], int], ...] = (
    scipy_label, cc3d_label, skimage_watershed, dask_image_label,
)  # fmt: skip


def _timed(peer: Callable[[Path], int], path: Path, results: Any) -> None:
    try:
        start = time.perf_counter()
        objects = peer(path)
        seconds = time.perf_counter() - start
        results.put({"objects": objects, "seconds": round(seconds, 1), "peak_mib": peak_mib()})
    except Exception as error:
        results.put({"failed": f"{type(error).__name__}: {error}"[:200]})


def beside(peer: Callable[[Path], int], path: Path) -> dict[str, Any]:
    """Run a peer in a separate process."""
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    process = context.Process(target=_timed, args=(peer, path, results))
    process.start()
    process.join()
    found = results.get() if not results.empty() else {"failed": f"exit code {process.exitcode}"}
    return {"peer": peer.__name__, **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sides", default="256,512")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--peers", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for side in map(int, options.sides.split(",")):
            path = make_scores(options.folder or Path(folder), side)
            for peer in PEERS if options.peers else ():
                print(json.dumps({"side": side, **beside(peer, path)}), flush=True)
            for method in ("components", "watershed"):
                for block in BLOCKS:
                    with (
                        LocalCluster(
                            n_workers=options.workers, threads_per_worker=1,
                            dashboard_address=None,
                        ) as cluster,
                        Client(cluster) as client,
                    ):  # fmt: skip
                        found = find(client, path, Path(folder) / "out.zarr", method, block)
                        print(json.dumps({"side": side, **found}), flush=True)


if __name__ == "__main__":
    main()
