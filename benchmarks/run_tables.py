"""Tables of docs/performance-details.md about whole commands and their workers."""

from __future__ import annotations

from .plots import found
from .table import table

SECONDS = {
    "overtile": "`overtile segment`, whole command",
    "daisy": "daisy, whole script",
    "overtile plan": "`overtile plan`",
    "overtile --help": "`overtile --help`",
    "python": "Python alone",
}
FIRST_LINE = {
    "first line, terminal": "`overtile segment` in a terminal, to the first line",
    "first line, pipe": "the same into a pipe or a file",
    "first block, pipe": "the same, to the first block",
    "--help, processor": "`overtile --help`, processor time",
    "plan, processor": "`overtile plan`, processor time",
    "evaluate, processor": "`overtile evaluate`, processor time",
}


def start_up() -> str:
    """Return the table of the seconds and the memory of a small run, beside daisy."""
    results = found("start_up")
    first, memory = results["first_block_s"], results["memory_mib"]

    def figure(values: dict[str, dict[str, float]], name: str, digits: int) -> str:
        return f"{values[name]['median']:.{digits}f}" if name in values else "–"

    return table(
        ("command", "seconds", "seconds to the first block", "memory of all processes, MiB"),
        *(
            (what, figure(results["seconds"], name, 2), figure(first, name, 1),
             figure(memory, name, 0))
            for name, what in SECONDS.items()
        ),
    )  # fmt: skip


def worker_memory() -> str:
    """Return the table of a worker's memory as the plan states it, and as measured."""
    return table(
        ("input", "precision", "tile: limit, MiB", "planned, MiB", "worker: stated, MiB",
         "peak, MiB", "stated over peak"),
        *(
            (f"{case['dims']}-D, {'TIFF' if case['volume'].endswith('.tif') else 'Zarr'}",
             case["precision"], str(case["tile_budget_mib"]), str(case["tile_mib"]),
             str(case["stated_mib"]), str(case["peak_mib"]),
             f"{case['stated_mib'] / case['peak_mib']:.2f}")
            for case in found("worker-memory")["cases"]
        ),
    )  # fmt: skip


def first_line() -> str:
    """Return the table of what a command takes before its first line, beside an older commit."""
    results = found("first_line")
    old, new = (results["seconds"][name] for name in ("old", "new"))
    return table(
        ("seconds", "60b51c0", "now"),
        *(
            (words, f"{old[name]['median']:.2f}", f"{new[name]['median']:.2f}")
            for name, words in FIRST_LINE.items()
        ),
    )
