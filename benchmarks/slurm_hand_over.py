"""The cost of short Slurm jobs: seconds to the first block, and worker time lost to hand-overs.

    python -m benchmarks.slurm_hand_over [--minutes 10] [--walltime "2 min"] [--jobs 2]

Starts a one-node Slurm, runs `overtile segment` on jobs of the given walltime for some minutes, and
stops it with SIGTERM. Worker time is the sum over all Slurm jobs, from start to end. A worker
has one thread here, so its time is either spent in a block (read, compute, write) or lost: starting
Python and torch, handing over, draining, waiting. Writes results/slurm-hand-over.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from pipeline.base.errors import OvertileError
from pipeline.base.location import Location
from pipeline.ledger.progress import blocks_done

from .measuring import keep

SLURM = Path(__file__).parent.parent / "tests/slurm_one_node.sh"
PROFILE = """
kind = "slurm"
jobs = {jobs}
partition = "main"
cpus_per_job = 1
memory_per_job = "3GiB"
interface = "lo"
threads_per_worker = 1
walltime = "{walltime}"
drain_s = {drain_s}
dashboard = "127.0.0.1:0"
"""
BLOCK = 64
_JOB = re.compile(r"JobId=(\d+) .*?StartTime=(\S+) EndTime=(\S+)")


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--walltime", default="2 min")
    parser.add_argument("--drain", type=float, default=20.0, metavar="SECONDS")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        os.environ["SLURM_CONF"] = str(place / "slurm/slurm.conf")
        os.environ["XDG_CONFIG_HOME"] = str(place / "config")
        os.environ["XDG_STATE_HOME"] = str(place / "state")
        profiles = place / "config/overtile"
        profiles.mkdir(parents=True)
        settings = {"jobs": options.jobs, "walltime": options.walltime, "drain_s": options.drain}
        (profiles / "bench.toml").write_text(PROFILE.format(**settings))
        grey = np.random.default_rng(0).integers(0, 255, (1024, 512, 512), np.uint8)
        zarr.create_array(place / "in.zarr", data=grey, chunks=(BLOCK,) * 3)
        cpus = str(max(options.jobs, 2))
        subprocess.run(["bash", SLURM, "start", place / "slurm", "--cpus", cpus], check=True)
        try:
            figures = measured(place, minutes=options.minutes)
        finally:
            subprocess.run(["bash", SLURM, "stop", place / "slurm"], check=True)
    keep("slurm-hand-over", {"settings": settings, **figures})
    print(json.dumps(figures, indent=2))


def measured(place: Path, *, minutes: float) -> dict[str, Any]:
    """Run for some minutes and return the figures."""
    out = place / "out.zarr"
    block = ",".join([str(BLOCK)] * 3)
    command = [
        sys.executable, "-m", "flows.cli", "segment", str(place / "in.zarr"), str(out),
        "--weights", "demo", "--axes", "zyx", "--block", block, "--tile", block,
        "--cluster", "bench", "--tta", "full",  # 16 times the arithmetic, to last long enough
    ]  # fmt: skip
    began = time.monotonic()
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as run:
        try:
            while not done(out):
                if run.poll() is not None:
                    raise SystemExit(run.stderr.read() if run.stderr else "the run ended")
                time.sleep(0.2)
            first_block_s = time.monotonic() - began
            while time.monotonic() - began < 60 * minutes and run.poll() is None:
                time.sleep(0.5)
        finally:
            run.send_signal(signal.SIGTERM)  # in the background of a shell, SIGINT is ignored
            said = run.stderr.read() if run.stderr else ""
    lasted_s = time.monotonic() - began
    time.sleep(5)  # until Slurm has recorded the completed jobs
    jobs = given_s(place / "slurm/log/jobcomp.txt")
    stages = zarr.open_group(out / "run").attrs["figures"]["stage_seconds"]
    in_blocks_s, worker_s = sum(stages.values()), sum(jobs)
    return {
        "first_block_s": round(first_block_s, 1),
        "lasted_s": round(lasted_s),
        "jobs": len(jobs),
        "blocks": done(out),
        "worker_s": round(worker_s),
        "in_blocks_s": round(in_blocks_s),
        "lost": round(1 - in_blocks_s / worker_s, 3),
        "last_words": said.splitlines()[-3:],
    }


def done(output: Path) -> int:
    """Return the number of done blocks in the ledger; 0 before it exists."""
    try:
        return blocks_done(Location.parse(output))
    except (OvertileError, OSError, KeyError):
        return 0


def given_s(completed: Path) -> list[float]:
    """Return the seconds of each job, from Slurm's log of completed jobs."""
    times = [match.groups()[1:] for match in _JOB.finditer(completed.read_text())]
    return [
        (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
        for start, end in times
        if "Unknown" not in (start, end)
    ]


if __name__ == "__main__":
    main()
