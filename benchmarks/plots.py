"""Draw docs/performance-*.svg from the files in benchmarks/results/.

python -m benchmarks.plots          (pip install 'overtile[bench]')
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .measuring import RESULTS, needs

DOCS = Path(__file__).parents[1] / "docs"
SHARE_TOOLS = {
    "overtile": "overtile",
    "default": "overtile, default memory",
    "old": "version 0.1",
    "daisy": "daisy",
    "MONAI": "MONAI, exact",
}
"""What the tools of share.py are called."""
OURS, OTHERS, BARE = "#1f6f8b", "#b9c4c9", "#444444"


def found(name: str) -> dict[str, Any]:
    """Return the results of a benchmark."""
    figures: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return figures


def share() -> Any:
    """Draw the share of the ideal of each tool, per case."""
    from matplotlib import pyplot

    cases = found("share")["cases"]
    order = list(SHARE_TOOLS.values())[::-1]
    columns = -(-len(cases) // 2)
    figure, axes = pyplot.subplots(
        2, columns, figsize=(2.9 * columns, 4.2), sharey=True, sharex=True, squeeze=False
    )
    most = max(
        share["median"] for case in cases.values() for share in case["share_of_the_ideal"].values()
    )
    for unused in axes.flat[len(cases) :]:
        unused.set_axis_off()
    for plot, (name, case) in zip(axes.flat, cases.items(), strict=False):
        shares = {
            SHARE_TOOLS[tool]: case["share_of_the_ideal"][tool]["median"]
            for tool in list(SHARE_TOOLS)[::-1]
            if tool in case["share_of_the_ideal"]
        }
        colours = [OURS if tool.startswith("overtile") else OTHERS for tool in shares]
        plot.barh([order.index(tool) for tool in shares], list(shares.values()), color=colours)
        for tool, value in shares.items():
            plot.text(value, order.index(tool), f" {value:.2f}", va="center", fontsize=8)
        plot.set_yticks(range(len(order)), order)
        plot.set_title(name, fontsize=8)
        plot.set_xlim(0, max(1.2, 1.2 * most))
        plot.axvline(1, color=BARE, linewidth=1)
        plot.spines[["top", "right"]].set_visible(False)
    figure.supxlabel(
        "share of the ideal, Zarr to Zarr; 1: nothing but the network, nothing computed twice",
        fontsize=9,
    )
    figure.tight_layout()
    return figure


def peers() -> Any:
    """Draw each tool's time over overtile's, per case."""
    from matplotlib import pyplot

    cases = found("peers-long")["cases"]
    figure, axes = pyplot.subplots(1, len(cases), figsize=(10, 2.6), sharey=True, squeeze=False)
    for plot, (name, case) in zip(axes[0], cases.items(), strict=True):
        over = {tool: values["median"] for tool, values in case["over_overtile"].items()}
        equal = case["MONAI, padded"]["over_overtile_at_equal_flops"]
        over["MONAI, padded"] = equal
        tools = list(over)[::-1]
        plot.barh(
            [
                tool
                + {"MONAI, padded": "*", "map_overlap": "**", "map_overlap, memory kept": "**"}.get(
                    tool, ""
                )
                for tool in tools
            ],
            [over[tool] for tool in tools],
            color=[OURS if tool == "overtile" else OTHERS for tool in tools],
        )
        for number, tool in enumerate(tools):
            plot.text(over[tool], number, f" {over[tool]:.2f}", va="center", fontsize=8)
        plot.set_title(name, fontsize=10)
        plot.set_xlim(0, max(over.values()) * 1.2)
        plot.spines[["top", "right"]].set_visible(False)
    figure.supxlabel(
        "time over overtile's, Zarr to Zarr    * at equal operations, has seams    ** in float32",
        fontsize=9,
    )
    figure.tight_layout()
    return figure


def pipeline() -> Any:
    """Draw overtile's time over the bare loop's, and the workers' time per stage."""
    from matplotlib import pyplot

    cases = found("pipeline-long")["cases"]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 2.2), sharey=True)
    names = list(cases)[::-1]
    ratio = [cases[name]["over_bare"]["median"] for name in names]
    left.barh(names, ratio, color=OURS)
    left.axvline(1, color=BARE, linewidth=1)
    for number, value in enumerate(ratio):
        left.text(value, number, f" {value:.2f}", va="center", fontsize=8)
    left.set_xlim(0, 1.3)
    left.set_xlabel("time over the bare loop's", fontsize=9)
    start = [0.0] * len(names)
    for stage, colour in (("device", OURS), ("read", "#e0a458"), ("write", "#a23b72")):
        whole = [
            cases[name]["workers"] * cases[name]["seconds"]["overtile"]["median"] for name in names
        ]
        part = [
            cases[name]["stage_seconds"][stage] / all_of
            for name, all_of in zip(names, whole, strict=True)
        ]
        right.barh(names, part, left=start, color=colour, label=stage)
        start = [a + b for a, b in zip(start, part, strict=True)]
    right.axvline(1, color=BARE, linewidth=1)
    right.set_xlabel("share of the workers' time; beyond 1: hidden behind the device", fontsize=9)
    right.legend(fontsize=8, loc="lower left")
    for plot in (left, right):
        plot.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return figure


def workers() -> Any:
    """Draw the model of many GPUs behind one scheduler."""
    from matplotlib import pyplot

    model = found("workers")["model"]
    figure, plot = pyplot.subplots(figsize=(6, 3))
    for block, by_gpus in model["gvoxels_per_s"].items():
        plot.loglog([int(n) for n in by_gpus], list(by_gpus.values()), marker="o", label=block)
    plot.set_xlabel("GPUs behind one scheduler", fontsize=9)
    plot.set_ylabel("Gvoxel/s, modelled", fontsize=9)
    plot.legend(title="block", fontsize=8, title_fontsize=8)
    plot.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return figure


def main() -> None:
    needs("matplotlib")
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "overtile", "font.size": 9})
    for draw in (share, peers, pipeline, workers):
        path = DOCS / f"performance-{draw.__name__}.svg"
        draw().savefig(path, metadata={"Date": None}, facecolor="white")
        print(path)


if __name__ == "__main__":
    main()
