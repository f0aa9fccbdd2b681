"""When a command first says something, and what commands cost, beside an older commit.

    python -m benchmarks.first_line --old FOLDER [--rounds N]     (pip install 'overtile[bench]')

FOLDER: a checkout of the older commit. The volume is that of start_up.py, on two workers; every
process is new. The first line is the first byte that ``overtile segment`` writes, to a terminal or
into a pipe. The first block is there when the first chunk of the output is on the disk. The seconds
of ``--help``, ``plan`` and ``evaluate`` are of the processor, all processes added up.
"""

from __future__ import annotations

import argparse
import os
import pty
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from .measuring import at_least_one, commit, in_turn, keep, ratios, spread
from .peer_tools import THREADS
from .pipeline import Place
from .start_up import CASE, overtile

HERE = Path(__file__).parents[1]
LOOK_S = 0.02


class Version:
    """The commands of one checkout. seconds: of each figure, a value per round."""

    def __init__(self, code: Path, output: Path, weights: str) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self._folder, self._out = output.parent, output
        self._environment = {**os.environ, "PYTHONPATH": str(code)}
        self._weights = weights

    def round(self) -> None:
        """Run every command once."""
        self._measure_processor("--help", "--help")
        planned = str(self._folder / "planned.zarr")
        self._measure_processor("plan", "plan", "raw.zarr", planned, "--weights", self._weights)
        for place, streams in (("terminal", pty.openpty()), ("pipe", os.pipe())):
            self._segment(place, *streams)
        classes = str(self._out / "labels/classes/0")
        self._measure_processor("evaluate", "evaluate", classes, "truth.zarr")

    def _segment(self, place: str, reads: int, writes: int) -> None:
        """Segment the volume and read what it writes to a terminal or a pipe."""
        shutil.rmtree(self._out, ignore_errors=True)
        first: dict[str, float] = {}
        start = time.perf_counter()
        process = subprocess.Popen(
            overtile(
                "segment", "raw.zarr", str(self._out), "--weights", self._weights,
                "--precision", "fp32", "--workers", str(THREADS),
            ),
            stdin=subprocess.DEVNULL, stdout=writes, stderr=writes, env=self._environment,
            cwd=self._folder,
        )  # fmt: skip
        while process.poll() is None:
            if select.select([reads], [], [], LOOK_S)[0]:
                os.read(reads, 1 << 16)
                first.setdefault(f"first line, {place}", time.perf_counter() - start)
            if any(path.is_file() for path in self._out.rglob("c/*/*/*")):
                first.setdefault(f"first block, {place}", time.perf_counter() - start)
        os.close(reads)
        os.close(writes)
        if process.returncode:
            sys.exit(f"segment ended with {process.returncode}")
        for name, seconds in first.items():
            self.seconds[name].append(seconds)

    def _measure_processor(self, name: str, *words: str) -> None:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            overtile(*words), check=True, stdin=subprocess.DEVNULL, capture_output=True,
            env=self._environment, cwd=self._folder,
        )  # fmt: skip
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        self.seconds[f"{name}, processor"].append(used)


def measured(folder: Path, old: Path, rounds: int) -> dict[str, Any]:
    """Return the figures of both commits."""
    place = Place(folder, CASE, repeat=1)
    truth = np.random.default_rng(0).integers(0, 2, place.shape, np.uint8)
    zarr.create_array(folder / "truth.zarr", data=truth, chunks=(32, 128, 128))
    versions = {
        "old": Version(old, folder / "old.zarr", place.weights),
        "new": Version(HERE, folder / "new.zarr", place.weights),
    }
    in_turn({name: version.round for name, version in versions.items()}, rounds=rounds)
    seconds = {name: dict(version.seconds) for name, version in versions.items()}
    for values in (values for figures in seconds.values() for values in figures.values()):
        del values[0]  # the first round warms up
    return {
        "shape": list(place.shape),
        "seconds": {
            name: {what: spread(values) for what, values in figures.items()}
            for name, figures in seconds.items()
        },
        "old_over_new": {
            what: ratios(seconds["old"][what], values) for what, values in seconds["new"].items()
        },
        "commit": commit(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--old", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--rounds", type=at_least_one, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measured(Path(folder), options.old.resolve(), options.rounds)
    for name, values in figures["seconds"].items():
        print(name, {what: value["median"] for what, value in values.items()})
    print(keep("first_line", figures))


if __name__ == "__main__":
    main()
