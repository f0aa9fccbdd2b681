"""How far a run is, as one line: blocks done, speed, time left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.base.text import counted, duration_text, rate_text, voxel_rate_text
from pipeline.ledger.run_time_left import RunTimeLeft

if TYPE_CHECKING:
    from pipeline.ledger.progress import Progress

_STAGES = {
    "pyramid": "building the pyramid",
    "merge": "merging objects across blocks",
    "table": "writing the table of objects",
}


class ProgressLine:
    """Returns lines about one run, whose time left does not jump. Any thread may call it."""

    def __init__(self, *, with_percent: bool = False) -> None:
        """with_percent: state the share of the work, for displays without a bar."""
        self._with_percent = with_percent
        self._time_left = RunTimeLeft()

    def __call__(self, progress: Progress) -> str:
        """Return the line of this moment."""
        left_s = self._time_left(progress)
        return _line(progress, left_s, percent=progress.percent if self._with_percent else None)


def _line(progress: Progress, left_s: float | None, *, percent: float | None) -> str:
    line = f"{progress.done:,}/{counted(progress.computed, 'block')}"
    line += {"label": " labelled", "write": " written"}.get(progress.stage, "")
    if progress.skipped:
        line += f", {progress.skipped:,} skipped"
    if progress.set_aside:
        line += f", {len(progress.set_aside)} set aside"
    if progress.stage == "done":
        return f"{line}, done"
    if progress.workers == 0:
        return f"{line}, no workers: waiting"
    if progress.stage in _STAGES:
        return f"{line}, {_STAGES[progress.stage]}"
    if percent is not None and progress.within:
        line += f" ({percent:.0f} %)"
    return line + _speed(progress, left_s)


def _speed(progress: Progress, left_s: float | None) -> str:
    figures, parts = progress.figures, []
    if (speed := progress.blocks_per_s) is not None:
        parts.append(f"{rate_text(speed)} blocks/s")
        parts.append(voxel_rate_text(figures.voxels / figures.seconds))
    if left_s is not None:
        parts.append(f"{duration_text(left_s)} left")
    elif not parts and not progress.within:
        parts.append("waiting for the first block")
    return "".join(f", {part}" for part in parts)
