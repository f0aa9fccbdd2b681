"""What TLS costs a driver: CPU seconds to open a local cluster, and for small tasks.

    python -m benchmarks.tls [--rounds 5]

With and without TLS in turn, median, least and most. CPU time of the driver's process, in which the
scheduler and the nannies run too.
"""

from __future__ import annotations

import argparse
import statistics
import time

from deploy import open_cluster
from deploy.clusters.fork_server import start_fork_server

TASKS = 2000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    start_fork_server()
    cpu_s(tls="auto")  # imports
    seconds: dict[str, list[tuple[float, float]]] = {"auto": [], "off": []}
    for number in range(rounds):
        for tls in ("auto", "off") if number % 2 else ("off", "auto"):
            seconds[tls].append(cpu_s(tls=tls))
    for tls, measured in seconds.items():
        for what, values in zip(
            ("open", f"{TASKS} tasks"), zip(*measured, strict=True), strict=True
        ):
            print(
                f"tls {tls}, {what}: {statistics.median(values):.3f} s "
                f"({min(values):.3f} to {max(values):.3f})"
            )


def cpu_s(*, tls: str) -> tuple[float, float]:
    """Return the CPU seconds to open a cluster, and for the tasks."""
    began = time.process_time()
    with open_cluster("local", workers=2, tls=tls) as client:
        opened = time.process_time()
        client.gather(client.map(abs, range(100), pure=False))
        warm = time.process_time()
        client.gather(client.map(abs, range(TASKS), pure=False))
        return opened - began, time.process_time() - warm


if __name__ == "__main__":
    main()
