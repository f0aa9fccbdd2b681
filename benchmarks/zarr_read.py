"""Time to read one outer box of a Zarr volume: overtile's reader against tensorstore.

    python -m benchmarks.zarr_read [--rounds N]           (pip install 'overtile[bench]')

A volume of 512³ smooth grey values with noise, zstd, in chunks of 64³ (and in shards of 256³), on a
local disk, in the page cache. The boxes are blocks in the middle of the volume with a halo of 44
voxels; each is read by ``pipeline.volume.volume`` with the extra ``fast``, without it, and by
tensorstore alone, interleaved.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from pipeline.base.geometry import Box
from pipeline.volume.volume import Volume, find_volume, open_volume

from .measuring import at_least_one, in_turn, keep, needs, ratios, spread

SIDE, CHUNK, SHARD, HALO = 512, 64, 256, 44
BLOCKS = (64, 128, 256)


def make_volume(path: Path, *, sharded: bool) -> None:
    """Write the volume."""
    rng = np.random.default_rng(0)
    z, y, x = np.ogrid[:SIDE, :SIDE, :SIDE]
    smooth = 128 + 60 * np.sin(z / 23) * np.sin(y / 31) * np.sin(x / 17)
    raw = (smooth + rng.normal(0, 4, (SIDE,) * 3).astype(np.float32)).clip(0, 255).astype(np.uint8)
    zarr.create_array(
        path, data=raw, chunks=(CHUNK,) * 3, shards=(SHARD,) * 3 if sharded else None,
        dimension_names=("z", "y", "x"),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=at_least_one, default=25)
    options = parser.parse_args()
    needs("tensorstore")
    import tensorstore

    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, sharded in (("chunks", False), ("shards", True)):
            path = Path(folder, f"{name}.zarr")
            make_volume(path, sharded=sharded)
            source = find_volume(str(path))
            volume, by_zarr = open_volume(source), Volume(source, zarr.open_array(path, mode="r"))
            store = tensorstore.open(
                {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)}}
            ).result()
            for block in BLOCKS:
                start, stop = SIDE // 4 - HALO, SIDE // 4 + block + HALO
                box, place = Box((start,) * 3, (stop,) * 3), (slice(start, stop),) * 3

                def ours(volume: Any = volume, box: Box = box) -> float:
                    begun = time.perf_counter()
                    volume.read(box)
                    return time.perf_counter() - begun

                def plain(volume: Any = by_zarr, box: Box = box) -> float:
                    return ours(volume, box)

                def theirs(store: Any = store, place: Any = place) -> float:
                    begun = time.perf_counter()
                    store[place].read().result()
                    return time.perf_counter() - begun

                seconds = in_turn(
                    {"overtile": ours, "overtile, by zarr": plain, "tensorstore": theirs},
                    rounds=options.rounds,
                )
                figures[f"{name}, block {block}"] = found = {
                    **{who: spread(values) for who, values in seconds.items()},
                    "ratio": ratios(seconds["overtile"], seconds["tensorstore"]),
                    "ratio_by_zarr": ratios(seconds["overtile, by zarr"], seconds["tensorstore"]),
                }
                medians = {who: values["median"] for who, values in found.items()}
                print(
                    f"{name}, block {block}³: overtile {medians['overtile'] * 1e3:.1f} ms, "
                    f"tensorstore {medians['tensorstore'] * 1e3:.1f} ms, ratio "
                    f"{medians['ratio']:.2f}, by zarr {medians['ratio_by_zarr']:.2f}",
                    flush=True,
                )
    print(keep("zarr-read", {"cases": figures}))


if __name__ == "__main__":
    main()
