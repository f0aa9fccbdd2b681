"""Shared by all benchmarks: interleaved cases, medians and spreads, a record of the machine.

Other work runs on the machines too, so cases are interleaved in rounds and compared within a round.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import metadata
from numbers import Real
from pathlib import Path
from typing import Any

from deploy.clusters.machine import cores
from deploy.clusters.worker_environment import KEPT_MEMORY

RESULTS = Path(os.environ.get("BENCH_RESULTS") or Path(__file__).parent / "results")
"""`make bench` writes to another folder, so that a short run does not replace what docs/ quotes."""
ROUNDS = 5
PACKAGES = (
    "overtile", "torch", "numpy", "zarr", "tensorstore", "dask", "distributed", "prefect",
    "daisy", "monai",
)  # fmt: skip


def in_turn(
    cases: Mapping[str, Callable[[], Any]], *, rounds: int = ROUNDS, warm: int = 1
) -> dict[str, list[float]]:
    """Return the seconds of every case in each round; every second round runs in reverse order.

    A case may time itself and return its seconds; otherwise the call is timed.
    """
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(-warm, rounds):
        for name in list(cases)[:: -1 if number % 2 else 1]:
            start = time.perf_counter()
            own = cases[name]()
            took = float(own) if isinstance(own, Real) else time.perf_counter() - start
            if number >= 0:
                seconds[name].append(took)
    return seconds


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Return median, minimum and maximum, to four digits."""
    return {
        "median": digits(statistics.median(values)),
        "least": digits(min(values)),
        "most": digits(max(values)),
        "runs": len(values),
    }


def ratios(over: Sequence[float], under: Sequence[float]) -> dict[str, Any]:
    """Return the spread of the ratios of two cases, round by round."""
    return spread([a / b for a, b in zip(over, under, strict=True)])


def digits(value: float) -> float:
    """Return a number to four significant digits."""
    return float(f"{value:.4g}")


def keep(name: str, figures: Mapping[str, Any], *, folder: Path = RESULTS) -> Path:
    """Write ``NAME.json`` with machine, versions and commit; return its path."""
    path = folder / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {**run_record(), "load_at_end": digits(os.getloadavg()[0]), **figures}
    path.write_text(json.dumps(record, indent=2) + "\n")
    return path


def run_record() -> dict[str, Any]:
    """Return the command of this run, with machine, versions, commit and time.

    Of files and folders of this machine, the command has the last part.
    """
    words = (Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:])
    command = [Path(sys.argv[0]).stem, *words]
    return {
        "command": f"python -m benchmarks.{shlex.join(command)}",
        "machine": machine(),
        "versions": {"python": platform.python_version(), **versions()},
        "commit": commit(),
        "time": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
    }


def some_of(known: Iterable[str]) -> Callable[[str], list[str]]:
    """Return a parser for argparse that turns ``NAME,…`` into a list of known names."""
    names = list(known)

    def chosen(text: str) -> list[str]:
        found = text.split(",")
        for name in found:
            if name not in names:
                raise argparse.ArgumentTypeError(
                    f"unknown name {name!r}: expected some of {', '.join(names)}"
                )
        return found

    return chosen


def at_least(least: int) -> Callable[[str], int]:
    """Return a parser for argparse of integers from ``least`` on."""

    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r}: expected an integer of {least} or more")
        return int(text)

    return number


at_least_one = at_least(1)


def numbers(text: str) -> list[int]:
    """Return the integers of ``N,…``, for argparse."""
    return [at_least_one(part) for part in text.split(",")]


def restart_with_memory_kept() -> None:
    """Restart the benchmark with overtile's worker settings: freed memory is kept."""
    if KEPT_MEMORY.items() <= os.environ.items():
        return
    module = f"benchmarks.{Path(sys.argv[0]).stem}"
    command = [sys.executable, "-m", module, *sys.argv[1:]]
    os.execve(sys.executable, command, {**os.environ, **KEPT_MEMORY})


def peak_mib() -> int:
    """Return the peak of this process; ru_maxrss would be its parent's if that was larger."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) // 1024


def needs(*modules: str) -> None:
    """Exit with one line if a module of the extra ``bench`` is missing."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(f"{', '.join(missing)}: not installed; pip install 'overtile[bench]'")


def cases_kept(name: str, *, folder: Path = RESULTS) -> dict[str, Any]:
    """Return the cases of ``NAME.json``, each with its commit; {} if there is no file."""
    path = folder / f"{name}.json"
    return dict(json.loads(path.read_text()).get("cases", {})) if path.exists() else {}


def machine() -> dict[str, Any]:
    """Describe the machine."""
    return {
        "processor": _processor(),
        "cores": cores(),
        "memory_gib": digits(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": platform.system(),
    }


def _processor() -> str:
    """Return the processor's name, with the family and model of its generation."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts = {
        key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)
    }
    name = facts.get("model name", platform.machine())
    generation = [facts[key] for key in ("cpu family", "model") if key in facts]
    return f"{name}, family {' model '.join(generation)}" if len(generation) == 2 else name


def versions() -> dict[str, str]:
    """Return the versions of the packages that are measured."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """Return the commit of this checkout, with ``-dirty`` if anything but results has changed."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=here, capture_output=True, text=True).stdout

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ":/", ":!results")
    return git("describe", "--always").strip() + ("-dirty" if changed.strip() else "")
