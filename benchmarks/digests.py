"""What the digests of the ledger cost: seconds per 10⁹ voxels, beside those of the network.

    python -m benchmarks.digests [--rounds N]

One block of 64×256×256 with uint8 scores of two classes and classes, from the demo volume's kind of
smooth grey values. It is written with and without digests, to a local disk, in the page cache;
checked as ``overtile verify`` does; and a tile of it is computed with the bundled weights ``demo``.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from pipeline.base.geometry import Box
from pipeline.base.location import Location
from pipeline.base.shard_store import content_digest
from pipeline.base.stores import open_array, open_shards
from pipeline.output.cells import written_block
from unet import UNetPredictor

from .measuring import at_least_one, in_turn, keep, restart_with_memory_kept, spread

BLOCK, CHUNK, TILE = (64, 256, 256), (32, 64, 64), (32, 128, 128)
VOXELS = int(np.prod(BLOCK))
PATHS = ("0", "labels/classes/0")


def make_output(folder: Path) -> dict[str, Any]:
    """Create the arrays of one block; return what is stored in each."""
    rng = np.random.default_rng(0)
    z, y, x = np.ogrid[:64, :256, :256]
    smooth = 0.5 + 0.5 * np.sin(z / 23) * np.sin(y / 31) * np.sin(x / 17)
    score = (smooth + rng.normal(0, 0.02, BLOCK)).clip(0, 1)
    scores = np.rint(np.stack([1 - score, score]) * 255).astype(np.uint8)
    root = zarr.create_group(folder / "out.zarr")
    values = {"0": scores, "labels/classes/0": (score > 0.5).astype(np.uint8)}
    for path, array in values.items():
        channel = (1,) * (array.ndim - 3)
        root.create_array(
            path, shape=array.shape, dtype=array.dtype, shards=array.shape,
            chunks=(*channel, *CHUNK), compressors=[ZstdCodec(level=3)],
        )  # fmt: skip
    return values


def cases(folder: Path) -> dict[str, Callable[[], float]]:
    """Return what is timed: each call returns its seconds for the voxels of a block."""
    values, output = make_output(folder), Location.parse(folder / "out.zarr")
    whole = Box.of_shape(BLOCK)
    predictor = UNetPredictor("demo", device="cpu")
    tile = np.zeros((1, predictor.in_channels, *predictor.input_shape(TILE)), np.float32)

    def timed(call: Callable[[], Any], *, voxels: int = VOXELS) -> float:
        start = time.perf_counter()
        call()
        return (time.perf_counter() - start) * VOXELS / voxels

    def write() -> None:
        for path in PATHS:
            open_array(output, path, token="plain")[...] = values[path]

    def write_with_digests() -> None:
        for path in PATHS:
            array = open_shards(output, path, token="digests")
            array[...] = values[path]
            written_block(array, path, core=whole, block=BLOCK, channels=values[path].ndim == 4)

    files = [p for p in output.path.rglob("c/**/*") if p.is_file()] or _shards(output.path, write)
    buffer = zarr.core.buffer.default_buffer_prototype().buffer
    contents = [buffer.from_bytes(path.read_bytes()) for path in files]
    return {
        "network": lambda: timed(lambda: predictor(tile), voxels=int(np.prod(TILE))),
        "write, without digests": lambda: timed(write),
        "write, with digests": lambda: timed(write_with_digests),
        "digest alone": lambda: timed(lambda: [content_digest(one) for one in contents]),
        "read and compare": lambda: timed(
            lambda: [content_digest(buffer.from_bytes(path.read_bytes())) for path in files]
        ),
    }


def _shards(output: Path, write: Callable[[], None]) -> list[Path]:
    write()
    return [path for path in output.rglob("c/**/*") if path.is_file()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=at_least_one, default=7)
    options = parser.parse_args()
    restart_with_memory_kept()
    with tempfile.TemporaryDirectory() as folder:
        seconds = in_turn(cases(Path(folder)), rounds=options.rounds)
        per_gvoxel = {
            name: spread([one * 1e9 / VOXELS for one in values]) for name, values in seconds.items()
        }
        stored = sum(p.stat().st_size for p in Path(folder).rglob("c/**/*") if p.is_file())
    for name, figures in per_gvoxel.items():
        print(f"{name}: {figures['median']:.4g} s per 10⁹ voxels")
    bytes_per_voxel = round(stored / VOXELS, 3)
    print(f"stored: {bytes_per_voxel} bytes per voxel")
    print(keep("digests", {"seconds_per_gvoxel": per_gvoxel, "bytes_per_voxel": bytes_per_voxel}))


if __name__ == "__main__":
    main()
