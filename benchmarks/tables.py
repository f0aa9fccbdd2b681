"""Write the results of the benchmarks into the tables of the docs.

python -m benchmarks.tables

Comments in a page mark the place of each table; a test checks that page and files agree.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

from .pipeline import CASES
from .plots import DOCS, SHARE_TOOLS, found
from .run_tables import first_line, start_up, worker_memory
from .table import table
from .training_tables import corrections, fold_means, folds, from_weights, study

PAGES = tuple(
    DOCS / f"{name}.md"
    for name in (
        "performance", "performance-details", "training-study", "training-from-weights",
        "corrections", "objects-affinities",
    )
)  # fmt: skip
MARKED = re.compile(r"(<!-- table: (\w+) -->\n).*?(\n<!-- end of table -->)", re.DOTALL)
SIZES = {2: (572, 956), 3: (132, 172)}
"""Inputs of the network alone that are in the table."""


POWERS = {3: "10³", 4: "10⁴", 5: "10⁵", 6: "10⁶"}
GENERATIONS = {"Zen 5": "Zen 5", "family 25 model 17": "Zen 4", "family 25 model 1": "Zen 3"}
"""AMD EPYC processors by family and model, the longer ones first."""
POWER_OF = {2: "²", 3: "³"}


def shares() -> str:
    """Return the table of the share of the ideal that each tool reaches."""
    cases = found("share")["cases"]
    tools = [
        tool for tool in SHARE_TOOLS if any(tool in case["seconds"] for case in cases.values())
    ]

    def cell(case: Mapping[str, Any], tool: str) -> str:
        if tool not in case["share_of_the_ideal"]:
            return "–"
        share, over = (case[what][tool] for what in ("share_of_the_ideal", "over_overtile"))
        return _two(share) if tool == "overtile" else f"{_two(share)} ({_two(over)})"

    return table(
        ("network, precision, memory of a tile; volume", *(SHARE_TOOLS[tool] for tool in tools),
         "overtile: seconds", "Mvoxel/s", "peak memory of overtile; daisy; MONAI, GiB",
         "processor, 2 cores", "commit"),
        *(
            (_with_volume(name, case), *(cell(case, tool) for tool in tools),
             *_of_overtile(case), _peaks(case), _generation(case["machine"]["processor"]),
             case["commit"])
            for name, case in cases.items()
        ),
    )  # fmt: skip


def _of_overtile(case: Mapping[str, Any]) -> tuple[str, str]:
    """Return overtile's seconds and its Mvoxel/s."""
    median = case["seconds"]["overtile"]["median"]
    return f"{median:.0f}", f"{math.prod(case['shape']) / median / 1e6:.2f}"


def _peaks(case: Mapping[str, Any]) -> str:
    """Return the memory of the processes of each tool that computes, in the order of the title."""
    peaks = (case["peaks_mib"].get(tool) for tool in ("overtile", "daisy", "MONAI"))
    return "; ".join(f"{sum(mib) / 1024:.1f}" if mib else "–" for mib in peaks)


def _generation(processor: str) -> str:
    """Return the generation of an AMD EPYC processor, or what it is called."""
    return next((name for model, name in GENERATIONS.items() if model in processor), processor)


def _with_volume(name: str, case: Mapping[str, Any]) -> str:
    """Return the name of a case with the volume, which some names contain."""
    volume = "×".join(map(str, case["shape"]))
    return f"{name.removesuffix(f', {volume}')}; {volume}"


def cases() -> str:
    """Return the table of each case: the pipeline, and the other tools."""
    network, ours, others = (found(n)["cases"] for n in ("network", "pipeline-long", "peers-long"))

    def alone(case: str) -> str:
        shares = (
            network[f"{case}, {size}, bf16, channels-last"]["share"]
            for size in SIZES[CASES[case].network.dims]
        )
        return ", ".join(_two(share) for share in shares)

    def over(peer: str) -> Callable[[str], str]:
        return lambda case: _two(others[case]["over_overtile"][peer])

    def padded(case: str) -> str:
        more = others[case]["MONAI, padded"]
        equal, seam = more["over_overtile_at_equal_flops"], more["largest_seam"]
        return f"{equal:.2f}; {over('MONAI, padded')(case)}; {seam:.2f}"

    def line(what: str, figure: Callable[[str], str], command: str = "") -> tuple[str, ...]:
        return (what, *map(figure, CASES), command and f"`python -m benchmarks.{command}`")

    return table(
        ("what", *map(_titled, CASES), "command"),
        line(
            "network alone, share of the matrix rate (bf16, one thread), smaller and larger tile",
            alone, "network",
        ),
        line(
            "`overtile segment`, Zarr to Zarr, over the bare loop",
            lambda case: _two(ours[case]["over_bare"]), "pipeline --long",
        ),
        line("… seconds of work; Mvoxel; Mvoxel per second", lambda case: _speed(ours[case])),
        line(
            "… seconds of the whole command, on a running cluster",
            lambda case: f"{ours[case]['command_seconds']['median']:.1f}",
        ),
        line(
            "… over the same tiles in memory",
            lambda case: _two(ours[case]["over_bare_of_our_tiles"]),
        ),
        line(
            "… share of the workers' time on the device (the rest: start, end, scheduling)",
            lambda case: f"{ours[case]['device_share']['median']:.0%}",
        ),
        line("daisy, over overtile", over("daisy"), "peers --long"),
        line("MONAI, exact, over overtile", over("MONAI, exact")),
        line("MONAI, padded, at equal operations; unscaled; largest seam", padded),
        line("naive `map_overlap`, float32, over overtile", over("map_overlap")),
        line("… with freed memory kept, as by overtile", over("map_overlap, memory kept")),
        line("… seconds of work of overtile in the same run", lambda case: _seconds(others[case])),
    )  # fmt: skip


def figures() -> str:
    """Return the table of the other figures."""
    limit, training = found("limit"), found("training")["over_learner"]
    million = found("scale-million")["runs"][0]
    plans = found("plan-time")["plans"]
    read = found("zarr-read")["cases"].values()
    rounds = min(case["ratio"]["runs"] for case in read)
    fast, by_zarr = (
        [case[ratio]["median"] for case in read] for ratio in ("ratio", "ratio_by_zarr")
    )
    tiles = list(found("tile-choice")["cases"].values())
    picked = [one["picked_over_best"] for by_memory in tiles for one in by_memory.values()]
    flops, disk = limit["matrix_flops_per_s"], limit["zarr_bytes_per_s"]
    return table(
        ("what", "figure", "command"),
        (
            "matrix rate of two threads, bf16 and fp32; copy; Zarr written and read",
            f"{flops['bf16']['median'] / 1e9:.0f} and {flops['fp32']['median'] / 1e9:.0f} GFLOP/s; "
            f"{limit['copy_bytes_per_s']['median'] / 2**30:.1f} GiB/s; "
            f"{disk['write']['median'] / 2**20:.0f} and {disk['read']['median'] / 2**20:.0f} MiB/s",
            "`python -m benchmarks.limit`",
        ),
        *_scales(),
        (
            "`store`, 10⁶, on a machine that was busy with other work",
            f"{_scaled(million)}; halfway {million['half_way_mib']['driver']:.0f} "
            f"and {million['half_way_mib']['scheduler']:.0f} MiB",
            "`python -m benchmarks.scale --blocks 1000000 --name scale-million`",
        ),
        (
            "a run of 10⁶ blocks of which all are done",
            f"{million['all_done_already_s']:.0f} s", "",
        ),
        (
            "plan of a volume of 8 GiB; of one with 10⁶ blocks of a given size",
            "; ".join(f"{plan['seconds']['median']:.1f} s" for plan in plans.values()),
            "`python -m benchmarks.plan_time`",
        ),
        (
            "reading one outer box, time over tensorstore alone: with the extra `fast`, without it",
            f"{min(fast):.2f} to {max(fast):.2f} (median of {len(fast)} boxes "
            f"{statistics.median(fast):.2f}, {rounds} rounds); "
            f"{min(by_zarr):.1f} to {max(by_zarr):.1f}",
            "`python -m benchmarks.zarr_read`",
        ),
        (
            "tile that the budget chooses for one worker, time over the best tried, 2-D and 3-D: "
            f"{_listed(tiles)}",
            f"{min(picked):.3f} to {max(picked):.3f}", "`python -m benchmarks.tile_choice`",
        ),
        (
            "training, patches/s over the learner alone: augmented, not augmented",
            ", ".join(map(_two, training.values())), "`python -m benchmarks.training`",
        ),
        ("two workers over one", _two(found("workers")["two_over_one"]),
         "`python -m benchmarks.workers`"),
    )  # fmt: skip


def networks() -> str:
    """Return the table of the network alone, in each precision and memory format."""
    cases = found("network")["cases"]
    kinds = list(product(("bf16", "fp32"), ("channels-last", "contiguous")))

    def figure(name: str) -> str:
        rate = cases[name]["network_flops_per_s"]["median"] / 1e9
        return f"{rate:.0f} ({_two(cases[name]['share'])})"

    return table(
        ("input", *map(", ".join, kinds)),
        *(
            (f"{_titled(case)}, {size}{POWER_OF[CASES[case].network.dims]}",
             *(figure(f"{case}, {size}, {kind}, {layout}") for kind, layout in kinds))
            for case in ("2-D base 32", "2-D base 64", "3-D base 32")
            for size in SIZES[CASES[case].network.dims]
        ),
    )  # fmt: skip


def workers() -> str:
    """Return the table of the model of many GPUs."""
    modelled = found("workers")["model"]["gvoxels_per_s"]
    gpus = list(next(iter(modelled.values())))
    return table(
        ("block", f"{gpus[0]} GPU", *gpus[1:]),
        *((block, *(f"{v:.3g}" for v in rates.values())) for block, rates in modelled.items()),
    )


TABLES: Mapping[str, Callable[[], str]] = {
    "shares": shares,
    "cases": cases,
    "figures": figures,
    "networks": networks,
    "workers": workers,
    "study": study,
    "from_weights": from_weights,
    "corrections": corrections,
    "folds": folds,
    "fold_means": fold_means,
    "start_up": start_up,
    "first_line": first_line,
    "worker_memory": worker_memory,
}


def written(page: str) -> str:
    """Return the page with its marked tables rewritten."""
    return MARKED.sub(lambda match: match[1] + TABLES[match[2]]() + match[3], page)


def _titled(case: str) -> str:
    return case.replace(" base", ", base")


def _listed(tiles: list[Mapping[str, Any]]) -> str:
    """Return the memories of every network, as text."""
    return ", ".join(dict.fromkeys(memory for by_memory in tiles for memory in by_memory))


def _two(values: Mapping[str, Any]) -> str:
    return f"{values['median']:.2f}"


def _seconds(case: Mapping[str, Any]) -> str:
    return f"{case['seconds']['overtile']['median']:.1f}"


def _speed(case: Mapping[str, Any]) -> str:
    mvoxels = math.prod(case["shape"]) / 1e6
    seconds = case["seconds"]["overtile"]["median"]
    return f"{_seconds(case)}; {mvoxels:.1f}; {mvoxels / seconds:.2f}"


def _scales() -> list[tuple[str, str, str]]:
    """Return a row for each engine and number of blocks."""
    rows = []
    for name, more in (
        ("scale", ""),
        ("scale-map-overlap", " --blocks 1000 --engines map_overlap --name scale-map-overlap"),
    ):
        for run in found(name)["runs"]:
            blocks = POWERS[round(math.log10(run["blocks"]))]  # the nearest cube
            what = f"driver and scheduler alone, empty blocks: `{run['engine']}`, {blocks}"
            rows.append((what, _scaled(run), f"`python -m benchmarks.scale{more}`"))
    return rows


def _scaled(run: Mapping[str, Any]) -> str:
    return (
        f"{run['blocks_per_s']:.0f} blocks/s; driver {run['driver_mib']['peak']:.0f} MiB, "
        f"scheduler {run['scheduler_mib']['peak']:.0f} MiB at most"
    )


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(written(page.read_text()))
