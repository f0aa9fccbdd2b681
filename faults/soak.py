"""A long run with a random kill every few seconds: a worker, a nanny, or the driver.

    python -m faults.soak --minutes 20 --every 10 --out soak.json

Segments a volume on a scheduler and two nannies that are separate processes. A driver that was
killed is started again with the same command; a nanny is replaced. Every output that is completed
is compared with that of an undisturbed run, and the next one is begun. Writes the memory of driver
and scheduler, the kills and the outputs as JSON; `python -m faults.plot` draws it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from .commands import Commands, Running
from .kill_and_resume import at_least_one
from .laws import check_words
from .separate_cluster import SeparateCluster
from .small import stored, textured, weights_in

BLOCK = (16, 32, 32)
VICTIMS = ("worker", "nanny", "driver")
SAMPLE_S = 1.0
LIMIT_S = 3600.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Do the soak; return 1 if an output differs or a run does not end."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--every", type=float, default=10, help="seconds between two kills")
    parser.add_argument("--seed", type=int, default=17)
    parser.add_argument("--grid", default="8,16,16", help="number of blocks per axis")
    parser.add_argument("--out", type=Path, default=Path("soak.json"))
    options = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    grid = tuple(at_least_one(part) for part in options.grid.split(","))
    with Commands(folder) as commands:
        soak = Soak(folder, commands, grid=grid, seed=options.seed)
        try:
            soak.run(minutes=options.minutes, every_s=options.every)
        finally:
            soak.cluster.close()
            options.out.write_text(json.dumps(soak.record()) + "\n")
    shutil.rmtree(folder)
    print(f"{options.out}: {soak.completed} outputs, all identical; kills: {dict(soak.kills)}")
    return 0


class Soak:
    """The runs of a soak, one after the other, on one cluster."""

    def __init__(self, folder: Path, commands: Commands, *, grid: tuple[int, ...], seed: int):
        self._folder, self._commands = folder, commands
        self._generator = random.Random(seed)
        self._seed, self._grid = seed, grid
        self._source = folder / "raw.zarr"
        self.completed, self._starts = 0, 0
        self.kills: Counter[str] = Counter()
        self._events: list[tuple[float, str]] = []
        self._samples: list[tuple[float, float, float]] = []
        inputs = folder / "inputs"
        inputs.mkdir()
        made = commands.start([str(inputs)], call="faults.small:make_inputs").ended()
        assert made.code == 0, made.text
        self._weights = weights_in(inputs)
        store_volume(self._source, tuple(n * b for n, b in zip(grid, BLOCK, strict=True)))
        self.cluster = SeparateCluster(commands, folder)
        ended = self._start("undisturbed").ended(within_s=LIMIT_S)
        check_words(ended)
        self._undisturbed_s = ended.seconds
        self._expected = digest(folder / "undisturbed.zarr")
        self._began = time.monotonic()

    def run(self, *, minutes: float, every_s: float) -> None:
        """Kill until the time is over, then let the last run end. Raises AssertionError."""
        self._began = time.monotonic()
        running, kill_at, sample_at = self._start("0"), every_s, 0.0
        while True:
            now = time.monotonic() - self._began
            is_over = now > minutes * 60
            if running.poll() is not None:
                check_words(running.ended())
                output = self._folder / f"{self.completed}.zarr"
                assert digest(output) == self._expected, f"{output} differs"
                shutil.rmtree(output)
                self.completed += 1
                print(f"{now:.0f} s: {self.completed} outputs are identical", flush=True)
                if is_over:
                    return
                running = self._start(str(self.completed))
            if now >= sample_at:
                self._samples.append((now, mib(running.pid), mib(self.cluster.scheduler.pid)))
                sample_at = now + SAMPLE_S
            if now >= kill_at and not is_over:
                running = self._kill(running, now)
                kill_at += every_s
            assert running.seconds < LIMIT_S, f"hangs: {running.text}"
            time.sleep(0.05)

    def _kill(self, running: Running, now: float) -> Running:
        """Kill one process; return the running driver."""
        victim = self._generator.choice(VICTIMS)
        workers = self.cluster.workers()
        if victim == "worker" and not workers:
            victim = "nanny"
        self.kills[victim] += 1
        self._events.append((round(now, 1), victim))
        if victim == "worker":
            self.cluster.kill_worker(self._generator.choice(workers))
        elif victim == "nanny":
            self.cluster.replace_nanny(self._generator.randrange(len(self.cluster.nannies)))
        elif running.poll() is None:
            running.signal(signal.SIGKILL)
            check_words(running.ended(within_s=LIMIT_S), codes=(-signal.SIGKILL, 0))
            return self._start(str(self.completed))
        return running

    def _start(self, name: str) -> Running:
        self._starts += 1
        return self._commands.start([
            "segment", str(self._source), str(self._folder / f"{name}.zarr"),
            "--weights", str(self._weights), "--precision", "fp32",
            "--block", ",".join(map(str, BLOCK)), "--cluster", str(self.cluster.file),
        ])  # fmt: skip

    def record(self) -> dict[str, Any]:
        """Return what happened, as JSON."""
        return {
            "seed": self._seed,
            "blocks": int(np.prod(self._grid)),
            "undisturbed_s": round(self._undisturbed_s, 1),
            "seconds": round(time.monotonic() - self._began, 1),
            "outputs": self.completed,
            "starts": self._starts,
            "kills": dict(self.kills),
            "events": self._events,
            "samples": [tuple(round(value, 1) for value in sample) for sample in self._samples],
        }


def store_volume(path: Path, shape: tuple[int, ...]) -> None:
    """Write a volume of this shape, from a smaller texture that repeats."""
    small = textured(tuple(min(n, 128) for n in shape), seed=3)
    repeats = [-(-n // m) for n, m in zip(shape, small.shape, strict=True)]
    raw = np.tile(small, repeats)[tuple(slice(0, n) for n in shape)]
    zarr.create_array(path, data=raw, chunks=(16, 64, 64), dimension_names=("z", "y", "x"))


def digest(output: Path) -> str:
    """Return one digest of all that an output promises."""
    found = hashlib.sha256()
    for name, content in sorted(stored(output).items()):
        found.update(f"{name} {len(content)} ".encode() + content)
    return found.hexdigest()


def mib(pid: int) -> float:
    """Return the resident memory of a process in MiB; 0 if it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * 4096 / 2**20


if __name__ == "__main__":
    sys.exit(main())
