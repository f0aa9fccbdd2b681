"""From the command to the first block and to the end, and all memory of a run, beside daisy.

    python -m benchmarks.start_up [--rounds N]              (pip install 'overtile[bench]')

A small volume (3-D, base 8, three levels, 64×256×256), Zarr to Zarr, two workers of one thread,
float32, every process new. daisy runs from a script that imports what it needs, in the tiles that
overtile would plan; overtile sweeps two blocks. The first block is there when the first chunk of
the output is on the disk. Of all
processes of a command, the memory that is not shared and their part of what is (PSS) is added up
four times a second. Also prints the seconds of ``overtile --help``, ``overtile plan`` and Python.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from unet import UNetConfig

from .measuring import at_least_one, commit, in_turn, keep, needs, ratios, spread
from .peer_tools import THREADS, Peers
from .pipeline import Case, Place

CASE = Case(UNetConfig(dims=3, base_channels=8, levels=3), (64, 256, 256), None, 1)
DAISY = """
import sys
import daisy
from benchmarks.daisy_block import DaisyBlock

if __name__ == "__main__":
    raw, out, weights, clock = sys.argv[1:5]
    shape, core, halo, above, size = (tuple(map(int, text.split(","))) for text in sys.argv[5:10])
    total, block = daisy.Roi((0, 0, 0), shape), daisy.Roi((0, 0, 0), core)
    low, high = daisy.Coordinate(halo), daisy.Coordinate(above)
    task = daisy.Task(
        "segment", total.grow(low, high), block.grow(low, high), block,
        process_function=DaisyBlock(
            raw, out, weights, size, clock, precision="fp32", warms_up=False
        ),
        read_write_conflict=False, fit="overhang", max_workers=int(sys.argv[10]),
    )
    daisy.run_blockwise([task], progress=False, summary=False)
"""


@dataclass(slots=True)
class Watched:
    """What was seen of the commands of one tool."""

    first_block_s: list[float] = field(default_factory=list)
    memory_mib: list[float] = field(default_factory=list)
    processes: list[int] = field(default_factory=list)

    def run(self, command: Sequence[str], output: Path) -> float:
        """Run a command; return its seconds. Nothing of the output is on the disk yet."""
        first, most, processes, measure_at = 0.0, 0.0, 0, 0.0
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None:
            now = time.perf_counter() - start
            if not first and any(path.is_file() for path in output.rglob("c/*/*/*")):
                first = now
            if now >= measure_at:
                used = pss_mib(process.pid)
                most, processes = max(most, sum(used)), max(processes, len(used))
                measure_at = now + 0.25
            time.sleep(0.02)
        seconds = time.perf_counter() - start
        if process.returncode:
            sys.exit(f"{command[0]} ended with {process.returncode}")
        self.first_block_s.append(first or seconds)
        self.memory_mib.append(most)
        self.processes.append(processes)
        return seconds


def pss_mib(pid: int) -> list[float]:
    """Return the memory of a process and of each of its descendants."""
    found = []
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                found.append(process.memory_full_info().pss / 2**20)
    return found


class Commands:
    """The commands on one volume; each returns its seconds."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.place = folder, Place(folder, CASE, repeat=1)
        self.peers = Peers(self.place, self.place.prepared("tiles").plan.tile, precision="fp32")
        self.script = folder / "run_daisy.py"
        self.script.write_text(DAISY)
        self.tools = {"overtile": Watched(), "daisy": Watched()}
        raw, self.out = str(folder / "raw.zarr"), folder / "out.zarr"
        self.arguments = [raw, str(self.out), "--weights", self.place.weights]

    def overtile(self) -> float:
        shutil.rmtree(self.out, ignore_errors=True)
        words = ("segment", *self.arguments, "--precision", "fp32", "--workers", str(THREADS))
        return self.tools["overtile"].run(overtile(*words), self.out)

    def daisy(self) -> float:
        clock, peers = self.folder / "clock", self.peers
        shutil.rmtree(clock, ignore_errors=True)
        clock.mkdir()
        shapes = (self.place.shape, peers.core, peers.halo, peers.above(peers.core), peers.size)
        words = [",".join(map(str, shape)) for shape in shapes]
        output = peers.output("daisy")
        command = [sys.executable, str(self.script), peers.raw, output, self.place.weights]
        command += [str(clock), *words, str(THREADS)]
        return self.tools["daisy"].run(command, Path(output))

    def help(self) -> float:
        return _seconds(overtile("--help"))

    def plan(self) -> float:
        shutil.rmtree(self.out, ignore_errors=True)
        return _seconds(overtile("plan", *self.arguments))

    def python(self) -> float:
        return _seconds([sys.executable, "-c", "pass"])


def overtile(*words: str) -> list[str]:
    return [sys.executable, "-P", "-m", "flows.cli", *words]


def _seconds(command: Sequence[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def measured(folder: Path, rounds: int) -> dict[str, Any]:
    """Return the figures."""
    commands = Commands(folder)
    cases = {
        "overtile": commands.overtile, "daisy": commands.daisy, "overtile --help": commands.help,
        "overtile plan": commands.plan, "python": commands.python,
    }  # fmt: skip
    seconds = in_turn(cases, rounds=rounds)
    tools = commands.tools
    for tool in tools.values():  # the first round warms up
        del tool.first_block_s[0], tool.memory_mib[0], tool.processes[0]
    ours, theirs = tools["overtile"], tools["daisy"]
    return {
        "shape": list(commands.place.shape),
        "seconds": {name: spread(values) for name, values in seconds.items()},
        "first_block_s": {name: spread(tool.first_block_s) for name, tool in tools.items()},
        "memory_mib": {name: spread(tool.memory_mib) for name, tool in tools.items()},
        "processes": {name: max(tool.processes) for name, tool in tools.items()},
        "over_daisy": {
            "first block": ratios(ours.first_block_s, theirs.first_block_s),
            "memory": ratios(ours.memory_mib, theirs.memory_mib),
            "whole command": ratios(seconds["overtile"], seconds["daisy"]),
        },
        "commit": commit(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=at_least_one, default=5)
    options = parser.parse_args()
    needs("daisy")
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])
    with tempfile.TemporaryDirectory() as folder:
        figures = measured(Path(folder), options.rounds)
    for name in ("seconds", "first_block_s", "memory_mib", "over_daisy"):
        print(name, {tool: values["median"] for tool, values in figures[name].items()})
    print(keep("start_up", figures))


if __name__ == "__main__":
    main()
