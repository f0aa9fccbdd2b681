"""The machine's own limits: matrix rate, copy bandwidth, Zarr read and write rate.

    python -m benchmarks.limit [--threads N]

Matrix products of 2048 x 2048 in bfloat16 and float32, a copy of 256 MiB, and a Zarr array of
256 MiB (uint8 with the entropy of real grey values, shards of 16 MiB, zstd), written to and read
back from a local disk (reads come from the page cache).
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
import zarr

from .measuring import at_least_one, in_turn, keep, spread

SIZE = 2048
PRODUCTS = 8
COPY_BYTES = 2**28
SHAPE, SHARD, CHUNK = (256, 1024, 1024), (16, 1024, 1024), (16, 256, 256)


def matrix_rates() -> dict[str, list[float]]:
    """Return the FLOP/s of matrix products per precision, a value per round."""
    operands = {
        name: torch.randn(SIZE, SIZE).to(dtype)
        for name, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32))
    }

    def multiply(name: str) -> None:
        for _ in range(PRODUCTS):
            operands[name] @ operands[name]

    seconds = in_turn({name: partial(multiply, name) for name in operands})
    flops = 2 * SIZE**3 * PRODUCTS
    return {name: [flops / one for one in values] for name, values in seconds.items()}


def copy_rates() -> list[float]:
    """Return bytes copied per second (each is read once and written once)."""
    source = np.random.default_rng(0).integers(0, 256, COPY_BYTES, np.uint8)
    target = np.empty_like(source)
    seconds = in_turn({"copy": lambda: np.copyto(target, source)})
    return [COPY_BYTES / one for one in seconds["copy"]]


def zarr_rates(folder: Path) -> dict[str, list[float]]:
    """Return bytes of grey values per second, written and read."""
    rng = np.random.default_rng(0)
    values = np.clip(rng.normal(128, 12, SHAPE), 0, 255).astype(np.uint8)
    path = folder / "limit.zarr"

    def write() -> None:
        array = zarr.create_array(
            path, shape=SHAPE, dtype="uint8", chunks=CHUNK, shards=SHARD, overwrite=True
        )
        for z in range(0, SHAPE[0], SHARD[0]):
            array[z : z + SHARD[0]] = values[z : z + SHARD[0]]

    def read() -> None:
        array = zarr.open_array(path, mode="r")
        for z in range(0, SHAPE[0], SHARD[0]):
            array[z : z + SHARD[0]]

    write()
    seconds = in_turn({"write": write, "read": read})
    return {name: [values.nbytes / one for one in taken] for name, taken in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=at_least_one, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        matrix, stored = matrix_rates(), zarr_rates(Path(folder))
    figures = {
        "threads": options.threads,
        "matrix_flops_per_s": {name: spread(values) for name, values in matrix.items()},
        "copy_bytes_per_s": spread(copy_rates()),
        "zarr_bytes_per_s": {name: spread(values) for name, values in stored.items()},
    }
    for name, values in figures["matrix_flops_per_s"].items():
        print(f"matrix products, {name}: {values['median'] / 1e9:.0f} GFLOP/s")
    print(f"copy: {figures['copy_bytes_per_s']['median'] / 2**30:.1f} GiB/s")
    for name, values in figures["zarr_bytes_per_s"].items():
        print(f"Zarr {name}: {values['median'] / 2**20:.0f} MiB/s of grey values")
    print(keep("limit", figures))


if __name__ == "__main__":
    main()
