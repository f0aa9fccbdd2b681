"""Peak memory of driver and workers on two volumes, one 8 times as large as the other.

    python -m benchmarks.peak_memory [--folder DIR]

Each volume is segmented in a separate process, with the demo's weights and the same blocks, on a
local cluster of two workers. Prints the peak resident memory of driver and worker.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import zarr

from .measuring import digits, keep

SHAPES = {"small": (64, 256, 256), "8 times": (128, 512, 512)}
BLOCK = (32, 128, 128)


def make_volume(path: Path, shape: tuple[int, int, int]) -> None:
    random = np.random.default_rng(0)
    array = zarr.create_array(path, shape=shape, chunks=(32, 128, 128), dtype="uint8")
    for z in range(0, shape[0], 32):
        array[z : z + 32] = random.integers(0, 256, (32, *shape[1:]), np.uint8)


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def segment(volume: str, output: str) -> None:
    from deploy import open_cluster
    from pipeline import segment_volume
    from unet import UNetPredictor

    with open_cluster("local", workers=2, dashboard=":0") as client:
        figures = segment_volume(
            volume, output, UNetPredictor("demo"), client=client, block=BLOCK,
            outputs=("classes", "scores"),
        )  # fmt: skip
        workers = sorted(client.run(peak_mib).values())
    print(
        json.dumps({"driver_mib": peak_mib(), "worker_mib": workers[-1], "blocks": figures.blocks})
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--segment", nargs=2, metavar=("VOLUME", "OUTPUT"))
    options = parser.parse_args()
    if options.segment:
        segment(*options.segment)
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        results = {}
        for name, shape in SHAPES.items():
            volume = Path(folder, f"{name}.zarr")
            make_volume(volume, shape)
            command = [sys.executable, "-m", "benchmarks.peak_memory", "--segment", str(volume)]
            done = subprocess.run(
                [*command, str(volume.with_suffix(".out.zarr"))],
                check=True, capture_output=True, text=True,
            )  # fmt: skip
            results[name] = json.loads(done.stdout.splitlines()[-1])
            print(name, "×".join(map(str, shape)), results[name], flush=True)
        times = {
            part: digits(results["8 times"][part] / results["small"][part])
            for part in ("driver_mib", "worker_mib")
        }
        for part, ratio in times.items():
            print(f"{part}: {ratio:.3f} times")
        print(keep("peak-memory", {"volumes": results, "times": times}))


if __name__ == "__main__":
    main()
