"""The memory that a sweep is stated to take, and what a process takes for it.

    python -m benchmarks.sweep_memory

Each case in a new process, one thread, with the allocator's settings of overtile's workers:
the growth of the peak resident memory (VmHWM, Linux) over three sweeps in a row, after a small one
of the same network. Prints measured over stated, from which ``OUTPUTS_KEPT`` of
unet/predict/sweep/memory.py was chosen.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from deploy.clusters.worker_environment import KEPT_MEMORY
from unet import UNet, UNetConfig, save_weights

from .measuring import digits, keep

DEEP = 48
CASES: dict[str, tuple[UNetConfig, str, int]] = {
    f"{name}, {precision}, {side}²": (UNetConfig(dims=3, **settings), precision, side)  # type: ignore[arg-type]
    for name, settings, precision, side in (
        ("base 8, 3 levels", {"base_channels": 8, "levels": 3}, "fp32", 160),
        ("base 8, 4 levels", {"base_channels": 8, "levels": 4}, "fp32", 192),
        ("base 8, 5 levels", {"base_channels": 8, "levels": 5}, "fp32", 128),
        ("base 16, 3 levels", {"base_channels": 16, "levels": 3}, "fp32", 120),
        ("base 16, 3 levels", {"base_channels": 16, "levels": 3}, "bf16", 200),
        ("base 16, 4 levels", {"base_channels": 16, "levels": 4}, "fp32", 128),
        ("base 16, 4 levels", {"base_channels": 16, "levels": 4}, "bf16", 200),
        ("base 16, 5 levels", {"base_channels": 16, "levels": 5}, "bf16", 96),
        ("base 32, 4 levels", {"base_channels": 32, "levels": 4}, "fp32", 96),
        ("base 32, 4 levels", {"base_channels": 32, "levels": 4}, "bf16", 160),
        ("base 8, 3 levels, batch norm",
         {"base_channels": 8, "levels": 3, "norm": "batch"}, "fp32", 160),
        ("base 16, 3 levels, batch norm",
         {"base_channels": 16, "levels": 3, "norm": "batch"}, "fp32", 160),
        ("base 16, 4 levels, batch norm",
         {"base_channels": 16, "levels": 4, "norm": "batch"}, "fp32", 128),
        ("base 16, 4 levels, batch norm",
         {"base_channels": 16, "levels": 4, "norm": "batch"}, "bf16", 192),
        ("base 8, pooling 3×2×2",
         {"base_channels": 8, "levels": 3, "pooling": ((3, 2, 2), (3, 2, 2))}, "fp32", 200),
        ("base 16, pooling 3×2×2",
         {"base_channels": 16, "levels": 3, "pooling": ((3, 2, 2), (3, 2, 2))}, "fp32", 128),
        ("base 16, pooling 1×2×2 first",
         {"base_channels": 16, "levels": 4, "pooling": ((1, 2, 2), 2, 2),
          "kernels": ((1, 3, 3), 3, 3, 3)}, "bf16", 192),
    )
}  # fmt: skip
"""Network, precision, and the side of the core; all cores are DEEP planes deep."""
SWEEPS = """
import ctypes, json, sys
import numpy as np
from unet import UNetPredictor

def kilobytes(key):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if key in line)

weights, precision, core = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
predictor = UNetPredictor(weights, precision=precision, device="cpu")

def sweep(core):
    shape = predictor.input_shape(core)
    read = lambda start, stop: np.full((1, stop - start, *shape[1:]), 0.5, np.float32)
    for scores in predictor.sweep(read, shape):
        pass

sweep((1, 1, 1))
ctypes.CDLL(None).malloc_trim(0)
before = kilobytes("VmRSS")
open("/proc/self/clear_refs", "w").write("5")
for _ in range(3):
    sweep(core)
print(json.dumps([(kilobytes("VmHWM") - before) * 1024, predictor.sweep_memory_bytes(core)]))
"""


def measured(config: UNetConfig, precision: str, side: int) -> dict[str, Any]:
    """Return the measured and the stated memory of sweeps over a core."""
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder, "weights.safetensors")
        save_weights(UNet(config).eval(), weights)
        core = json.dumps([DEEP, side, side])
        done = subprocess.run(
            [sys.executable, "-c", SWEEPS, str(weights), precision, core],
            env={**os.environ, **KEPT_MEMORY, "OVERTILE_TORCH_THREADS": "1"},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    peak, stated = json.loads(done.stdout)
    return {"measured": peak, "stated": stated, "measured_over_stated": digits(peak / stated)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.parse_args()
    figures = {}
    for name, case in CASES.items():
        figures[name] = found = measured(*case)
        mib = [round(found[what] / 2**20) for what in ("measured", "stated")]
        print(f"{name}: {mib[0]} of {mib[1]} MiB, {found['measured_over_stated']}", flush=True)
    ratios = sorted(found["measured_over_stated"] for found in figures.values())
    print(f"from {ratios[0]} to {ratios[-1]}")
    print(keep("sweep-memory", {"cases": figures}))


if __name__ == "__main__":
    main()
