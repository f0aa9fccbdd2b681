"""The memory that `overtile plan` states for a worker, and the peak that a worker reaches.

    python -m benchmarks.worker_memory [--folder DIR]

Cases: 2-D and 3-D networks, float32 and bfloat16, small and large tiles, Zarr and TIFF. For each,
some blocks are computed on a local cluster of one worker. Prints stated and measured MiB.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr

from .measuring import keep

MIB = 2**20
CASES = (
    ("stack.zarr", 3, "bf16", 2**31),
    ("stack.zarr", 3, "fp32", 2**31),
    ("stack.zarr", 3, "bf16", 2**29),
    ("planes.zarr", 2, "bf16", 2**31),
    ("planes.zarr", 2, "fp32", 2**30),
    ("slide.tif", 2, "fp32", 2**28),
)
"""(volume, dimensions of the network, precision, bytes for a tile)."""


def make_volumes(folder: Path) -> None:
    random = np.random.default_rng(0)
    for name, shape, chunk in (
        ("stack.zarr", (184, 500, 500), (64, 64, 64)), ("planes.zarr", (12, 1024, 1024), None)
    ):  # fmt: skip
        values = random.integers(0, 256, shape, np.uint8)
        zarr.create_array(folder / name, data=values, chunks=chunk or (1, 512, 512))
    plane = random.integers(0, 256, (12000, 12000), np.uint8)
    tifffile.imwrite(folder / "slide.tif", plane, tile=(512, 512), compression="zlib")


def measure(
    folder: Path, volume: str, dims: int, precision: str, tile_bytes: int
) -> dict[str, Any]:
    from deploy import open_cluster
    from pipeline.segmentation.calibration import calibrate
    from pipeline.segmentation.prepare import prepare
    from pipeline.segmentation.request import SegmentRequest
    from unet import UNet, UNetConfig, UNetPredictor, save_weights

    weights = folder / f"{dims}.safetensors"
    config = UNetConfig(
        dims=dims, base_channels=32 if dims == 2 else 16, levels=4 if dims == 2 else 3
    )
    record = {"kind": "range", "low": 0, "high": 255}
    save_weights(UNet(config), str(weights), normalisation=record)
    request = SegmentRequest(
        input=str(folder / volume), output=str(folder / "out.zarr"), tile_memory_bytes=tile_bytes,
        axes="yx" if volume.endswith("tif") else "zyx",
    )  # fmt: skip
    prepared = prepare(request, UNetPredictor(str(weights), precision=precision))
    with open_cluster("local", workers=1, dashboard=":0") as client:
        found = calibrate(prepared, client, started_s=0, measure_s=20)
    return {
        "volume": volume, "dims": dims, "precision": precision,
        "tile_budget_mib": tile_bytes // MIB,
        "tile_mib": prepared.budget.tile_memory_bytes // MIB,
        "stated_mib": prepared.budget.worker_memory_bytes // MIB,
        "peak_mib": found.worker_memory_bytes // MIB, "blocks": found.measured_blocks,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        make_volumes(Path(name))
        rows = []
        for case in CASES:
            rows.append(measure(Path(name), *case))
            print(rows[-1], flush=True)
        print(keep("worker-memory", {"cases": rows}))


if __name__ == "__main__":
    main()
