"""overtile and other tools on the same volume and weights, Zarr to Zarr, two threads each, one run.

    python -m benchmarks.peers [--cases NAME,…] [--rounds N] [--long]
                                                            (pip install 'overtile[bench]')

Each tool segments a Zarr volume of noise into a Zarr array of classes, with its best fair settings:

- overtile: the shell's command on a warm local cluster, as in pipeline.py
- daisy: its scheduler and two worker processes of one thread; its blocks are the tiles of
  overtile's plan, read with their context; bfloat16, channels-last
- MONAI: sliding windows over planes (3-D: the volume) read from Zarr and mirrored in memory; a
  window is the same tile with its context, with weight 1 in the core and 0 in the context, so that
  its output is exact; one process of two threads; bfloat16, channels-last
- MONAI, padded: the same weights in padded convolutions, windows of 512² (3-D: 128³) without
  overlap. It computes fewer operations per voxel, so its time is also scaled to overtile's
  operations. Its seam is the largest difference from the same padded network over the whole plane
  (3-D: volume)
- map_overlap: dask.array as commonly written: a block per chunk, the model loaded once, float32,
  threads, in a process with the system's memory settings; and the same with freed memory kept. It
  computes a part of the volume, and its time is extrapolated

All others keep freed memory as overtile's workers do (KEPT_MEMORY of
``deploy.clusters.worker_environment``). Times are those of the work alone, after processes have
started, models are loaded and a first pass is done: overtile's workers have segmented the volume
once before; daisy starts new processes, and its time begins with its first block.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from deploy import open_cluster
from pipeline.base.location import Location
from pipeline.ledger.status import read_status

from .measuring import (
    at_least_one,
    cases_kept,
    commit,
    digits,
    in_turn,
    keep,
    needs,
    ratios,
    restart_with_memory_kept,
    some_of,
    spread,
)
from .peer_tools import DEPTH, THREADS, Peers
from .pipeline import CASES, SAME_MEMORY, Case, Place


def measured(case: Case, *, rounds: int, repeat: int) -> dict[str, Any]:
    """Return the figures of one case."""
    with (
        tempfile.TemporaryDirectory() as name,
        open_cluster("local", workers=THREADS, tls="off") as client,
    ):
        place = Place(Path(name), case, repeat=repeat)
        prepared = place.prepared()
        tile = place.prepared("tiles").plan.tile
        peers = Peers(place, tile)
        address = client.scheduler.address
        place.segment(address, *SAME_MEMORY)

        def ours() -> float:
            return read_status(Location.parse(place.segment(address, *SAME_MEMORY))).figures.seconds

        cases: dict[str, Callable[[], float]] = {
            "overtile": ours,
            "daisy": peers.daisy,
            "MONAI, exact": peers.monai,
            "MONAI, padded": peers.monai_padded,
            "map_overlap, memory kept": partial(peers.map_overlap, keeps=True),
            "map_overlap": partial(peers.map_overlap, keeps=False),
        }
        seconds = in_turn(cases, rounds=rounds, warm=0)
        agreement = {
            name: agree(place, peers.place.folder / f"{file}.zarr", depth)
            for name, file, depth in (
                ("daisy", "daisy", None), ("MONAI, exact", "monai", None),
                ("map_overlap", "map_overlap", DEPTH[case.network.dims] - peers.halo[0]),
            )
        }  # fmt: skip
    over = {name: ratios(values, seconds["overtile"]) for name, values in seconds.items()}
    less = peers.padded_flops() / prepared.budget.flops
    return {
        "shape": list(place.shape),
        "tile": list(tile),
        "seconds": {name: spread(values) for name, values in seconds.items()},
        "over_overtile": over,
        "commit": commit(),
        "voxels_of_our_class": agreement,
        "MONAI, padded": {
            "flops_over_ours": digits(less),
            "over_overtile_at_equal_flops": digits(over["MONAI, padded"]["median"] / less),
            "largest_seam": digits(peers.seam),
        },
    }


def agree(place: Place, path: Path, depth: int | None) -> float:
    """Return the share of voxels, in the first planes, with the same class as overtile's."""
    ours: Any = zarr.open_array(place.folder / f"out{place.runs}.zarr" / "labels/classes/0")
    return float(np.mean(np.asarray(ours[:depth]) == np.asarray(zarr.open_array(path)[:depth])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=some_of(CASES), default=list(CASES))
    parser.add_argument("--rounds", type=at_least_one, default=5)
    parser.add_argument("--long", action="store_true", help="volumes with about 20 s of work")
    options = parser.parse_args()
    needs("daisy", "monai")
    restart_with_memory_kept()
    os.environ["OVERTILE_TORCH_THREADS"] = "1"
    file = "peers-long" if options.long else "peers"
    figures = cases_kept(file)
    for name in options.cases:
        repeat = CASES[name].long // 3 if options.long else 1
        figures[name] = found = measured(CASES[name], rounds=options.rounds, repeat=repeat)
        medians = {peer: values["median"] for peer, values in found["seconds"].items()}
        over = {peer: values["median"] for peer, values in found["over_overtile"].items()}
        print(f"{name}: seconds {medians}\n  over overtile {over}", flush=True)
        print(f"  voxels of our class {found['voxels_of_our_class']}", flush=True)
        print(f"  padded {found['MONAI, padded']}", flush=True)
        cases = {case: figures[case] for case in CASES if case in figures}
        kept = keep(file, {"threads": THREADS, "cases": cases})
    print(kept)


if __name__ == "__main__":
    main()
