"""A measured plan as text: how long, how many core- or GPU-hours, what they cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.base.text import aligned_rows, counted, duration_text, size_text

if TYPE_CHECKING:
    from pipeline.segmentation.calibration import Calibration


def calibration_text(found: Calibration, *, price: float | None) -> str:
    """Return what was measured as aligned lines. price: of an hour of a core or GPU."""
    unit = "GPU" if found.gpus else "core"
    hours = found.device_hours
    rows = [
        (
            "measured",
            f"{counted(found.measured_blocks, 'block')} on {counted(found.workers, 'worker')}; the "
            f"run has {found.blocks:,} to compute",
        ),
        ("time", f"{duration_text(found.seconds)} ({_range(found)})"),
        ("", f"{duration_text(found.setup_s)} to start, {duration_text(found.blocks_s)} for blocks,"
         f" {duration_text(found.pyramid_s)} for coarser levels"),
        ("work", f"{hours:.3g} {unit}-hours"),
    ]  # fmt: skip
    if price is not None:
        low, high = (hours * price * s / found.seconds for s in (found.fastest_s, found.slowest_s))
        rows.append(("cost", f"{hours * price:.2f} ({low:.2f} to {high:.2f})"))
    rows.append(("worker memory", f"{size_text(found.worker_memory_bytes)} at its peak"))
    if found.bytes_written is not None:
        rows.append(("output", f"{size_text(found.bytes_written)} after compression"))
    return aligned_rows(rows)


def _range(found: Calibration) -> str:
    return f"{duration_text(found.fastest_s)} to {duration_text(found.slowest_s)}"
