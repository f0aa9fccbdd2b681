"""Time and peak memory of ``overtile plan``: a volume of 8 GiB, and one of 10^6 blocks.

    python -m benchmarks.plan_time [--folder DIR] [--fill]

Each plan runs in a separate process, five times; prints the median wall time and the peak memory.
--fill writes 8 GiB of noise into the first volume (a plan reads metadata only, so it is optional).
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import zarr

from .measuring import digits, keep, spread

SIZE, CHUNK = 2048, 256
MANY = (6400, 6400, 6400)
ROUNDS = 5


def make_volume(path: Path, *, fill: bool) -> None:
    array = zarr.create_array(
        path, shape=(SIZE,) * 3, chunks=(CHUNK,) * 3, dtype="uint8", compressors=None
    )
    noise = np.random.default_rng(0).integers(0, 256, (CHUNK, SIZE, SIZE), np.uint8)
    for z in range(0, SIZE if fill else 0, CHUNK):
        array[z : z + CHUNK] = np.roll(noise, z, axis=2)


def plan(volume: Path, *options: str) -> tuple[float, int, float]:
    """Return the wall seconds of one plan, its number of blocks, its peak memory in MiB."""
    command = [sys.executable, "-m", "flows.cli", "plan", str(volume), f"{volume}.out", *options]
    start = time.perf_counter()
    process = subprocess.Popen([*command, "--weights", "demo"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(process.returncode)
    blocks = next(line for line in text.splitlines() if line.startswith("blocks"))
    return seconds, int(blocks.split()[1].replace(",", "")), usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--fill", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        first, many = Path(folder, "8GiB.zarr"), Path(folder, "many.zarr")
        # In a separate process, because a child's peak memory starts from that of its parent.
        maker = multiprocessing.get_context("spawn").Process(
            target=make_volume, args=(first,), kwargs={"fill": options.fill}
        )
        maker.start()
        maker.join()
        if maker.exitcode:
            sys.exit(maker.exitcode)
        zarr.create_array(many, shape=MANY, chunks=(64,) * 3, dtype="uint8")
        plans = {}
        for volume, extra in ((first, ()), (many, ("--block", "64,64,64"))):
            runs = [plan(volume, *extra) for _ in range(ROUNDS)]
            median = statistics.median(seconds for seconds, _, _ in runs)
            peak = max(mebibytes for _, _, mebibytes in runs)
            print(
                f"{volume.name}: {runs[0][1]:,} blocks planned in {median:.2f} s "
                f"(median of {ROUNDS}), peak {peak:.0f} MiB",
                flush=True,
            )
            plans[volume.name] = {
                "blocks": runs[0][1],
                "seconds": spread([seconds for seconds, _, _ in runs]),
                "peak_mib": digits(peak),
            }
        print(keep("plan-time", {"plans": plans}))


if __name__ == "__main__":
    main()
