"""Draw docs/soak.svg from faults/results/soak.json: memory of driver and scheduler over time.

python -m faults.plot          (pip install 'overtile[bench]')
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from .matrix import DOCS, SOAK

COLOURS = {"driver": "#1f6f8b", "scheduler": "#e0a458"}
MARKS = {"worker": "|", "nanny": "x", "driver": "v"}


def main() -> int:
    """Draw the plot."""
    try:
        import matplotlib
    except ImportError:
        sys.exit("matplotlib: not installed; pip install 'overtile[bench]'")
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "overtile"
    from matplotlib import pyplot

    soak = json.loads(SOAK.read_text())
    figure, axes = pyplot.subplots(figsize=(10, 2.6))
    minutes = [at / 60 for at, _, _ in soak["samples"]]
    for column, (name, colour) in enumerate(COLOURS.items(), 1):
        values = [sample[column] or float("nan") for sample in soak["samples"]]
        axes.plot(minutes, values, color=colour, linewidth=1, label=name)
    for victim, mark in MARKS.items():
        at = [when / 60 for when, what in soak["events"] if what == victim]
        axes.plot(at, [0] * len(at), mark, color="#444444", label=f"{victim} killed", markersize=4)
    axes.set_xlabel("minutes")
    axes.set_ylabel("MiB")
    axes.set_ylim(bottom=-10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(ncols=5, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, 1.2), frameon=False)
    figure.tight_layout()
    out = Path(DOCS, "soak.svg")
    figure.savefig(out, metadata={"Date": None})
    print(out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
