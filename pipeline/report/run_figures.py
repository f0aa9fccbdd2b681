"""The figures of a run for engineers, in tables, with what they mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..base.geometry import Shape
from ..base.text import duration_text, rate_text, shape_text, size_text, voxel_rate_text
from .report import Table
from .seams import SeamStatistics

MOST_NAMED: Final = 20
BUSY: Final = 0.8
"""From this share of the time on, the network is what limits the speed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFigures:
    """Figures of a run. Times of phases are summed over all threads of all workers.

    Voxels, bytes and times are those of the ``blocks_timed`` blocks: the ones that this run did, or
    those of earlier runs if it had none to do.
    """

    shape: Shape
    """Of the volume, without channels."""
    voxels: int
    """Written; fewer than the volume's if the run was resumed."""
    blocks: int
    """To compute, done or not."""
    blocks_done: int
    """By this run and earlier ones."""
    blocks_skipped: int = 0
    """Outside the part that is segmented, or with constant input."""
    blocks_done_before: int = 0
    blocks_timed: int = 0
    failed_blocks: tuple[str, ...] = ()
    seconds: float
    """From the first block's start to the last one's end."""
    read_s: float = 0.0
    wait_s: float = 0.0
    """Time that blocks waited for the device after they were read."""
    device_s: float = 0.0
    write_s: float = 0.0
    bytes_read: int = 0
    bytes_written: int = 0
    nan_voxels: int = 0
    workers: int = 0
    """Processes, each with a device; 0 where it is unknown."""

    @property
    def busy(self) -> float | None:
        """Share of the run's time in which the workers' networks computed; None if unknown."""
        time_s = self.seconds * self.workers
        return min(1.0, self.device_s / time_s) if time_s > 0 else None

    @property
    def voxels_per_s(self) -> float:
        """Output voxels per second; 0 for a run that took no time."""
        return self.voxels / self.seconds if self.seconds > 0 else 0.0

    @property
    def blocks_per_s(self) -> float:
        """Blocks per second; 0 for a run that took no time."""
        return self.blocks_timed / self.seconds if self.seconds > 0 else 0.0

    def tables(self) -> tuple[Table, ...]:
        """Return the figures as two tables: the run, and the time per phase."""
        done = [
            ("volume", f"{shape_text(self.shape)} voxels"),
            ("voxels written", f"{self.voxels:,}"),
            ("blocks done", f"{self.blocks_done:,} of {self.blocks:,}"),
            ("of these by an earlier run", f"{self.blocks_done_before:,}"),
            *([("blocks skipped", f"{self.blocks_skipped:,}")] if self.blocks_skipped else []),
            ("blocks failed", self._failed_text()),
            ("time", duration_text(self.seconds)),
            (
                "speed",
                f"{voxel_rate_text(self.voxels_per_s)}, {rate_text(self.blocks_per_s)} blocks/s",
            ),
            ("read, written", f"{size_text(self.bytes_read)}, {size_text(self.bytes_written)}"),
            ("NaN voxels in the input", f"{self.nan_voxels:,}"),
        ]
        return (Table(title="Run", rows=tuple(done)), self._time_table())

    def _failed_text(self) -> str:
        named = ", ".join(self.failed_blocks[:MOST_NAMED])
        more = len(self.failed_blocks) - MOST_NAMED
        return f"{named} and {more:,} more" if more > 0 else named or "none"

    def _time_table(self) -> Table:
        phases = {
            "reading the input": self.read_s,
            "read, in the queue for the network": self.wait_s,
            "computing": self.device_s,
            "writing the result": self.write_s,
        }
        total = sum(phases.values())
        rows = [
            (name, f"{duration_text(s)} ({s / total if total else 0:.0%})")
            for name, s in phases.items()
        ]
        return Table(
            title="Where the time went", rows=tuple(rows), note=f"{self._busy_text()}{_QUEUE}"
        )

    def _busy_text(self) -> str:
        if self.busy is None or not self.device_s:
            return ""
        if self.busy >= BUSY:
            meaning = "good: the network sets the speed, and more or faster devices would raise it"
        else:
            meaning = (
                "usual for a short run, which pays for its start and its end; in a long run, "
                "reading or writing is what is slow"
            )
        return f"The networks computed during {self.busy:.0%} of the run, {meaning}. "


_QUEUE: Final = (
    "Seconds are summed over all blocks, of which each worker has a few at once. A worker reads "
    "blocks ahead, so that its network never waits: time in the queue is normal and costs nothing."
)


def seam_text(seams: SeamStatistics) -> str:
    """Return whether a seam is visible, in a sentence."""
    if not seams.border_pairs:
        return "No border between blocks lies in the planes that were checked."
    if seams.is_visible:
        return "A seam is visible between blocks: the result changes there as nowhere else."
    return "No seam is visible between blocks."


def seam_table(seams: SeamStatistics, *, plane: str) -> Table:
    """Return the seam statistics of a plane as a table."""
    rows = [("in short", seam_text(seams))]
    if seams.border_pairs:
        rows += [
            ("change from voxel to voxel across borders", f"{seams.across_borders:.4f}"),
            ("change from voxel to voxel elsewhere", f"{seams.elsewhere:.4f}"),
            ("ratio of the two", f"{seams.ratio:.2f}"),
            (
                "lines elsewhere that change as much as the worst border",
                f"{seams.lines_like_worst:.0%}",
            ),
        ]
    return Table(title=f"Check for seams in {plane}", rows=tuple(rows), note=_SEAMS)


_SEAMS: Final = (
    "Blocks are computed apart from each other, and must not show in the result. Neighbouring "
    "voxels across block borders are compared with neighbours elsewhere. The ratio is about 1, and "
    "is above or below it where borders happen to lie on objects; it is a defect only where the "
    "worst border changes more than every other line."
)
