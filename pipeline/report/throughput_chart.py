"""The speed of a run over its time, as a chart."""

from __future__ import annotations

from collections.abc import Sequence

from ..base.text import duration_text, voxel_rate_text
from .charts import Chart, bar_chart


def throughput_chart(voxels: Sequence[float], *, interval_s: float, seconds: float) -> Chart | None:
    """Return voxels per second over time; None for a run that is too short to show.

    voxels: in each interval from the start. seconds: of the whole run.
    """
    if len(voxels) < 3 or not any(voxels):
        return None
    rates = [count / interval_s for count in voxels]
    lengths = len(voxels) * interval_s
    last = seconds - (len(voxels) - 1) * interval_s
    if 0 < last < interval_s:  # the run ended in it
        rates[-1] = voxels[-1] / max(last, 0.2 * interval_s)
    middle = sorted(rate for rate in rates if rate)[len([r for r in rates if r]) // 2]
    text = f"Half of the time the run was faster than {voxel_rate_text(middle)}."
    return bar_chart(
        rates, title="Speed over time", alt=f"Speed over time. {text}",
        caption=f"{text} It starts slowly, while workers load the network, and ends slowly, while "
        "the last blocks end; a gap in between is a time without workers or data.",
        x_labels=[(0.0, "start"), (0.5, duration_text(lengths / 2)), (1.0, duration_text(lengths))],
        y_label=voxel_rate_text(max(rates)).replace(" Mvoxel/s", " M/s"),
    )  # fmt: skip
