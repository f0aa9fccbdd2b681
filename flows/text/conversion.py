"""What a conversion prints before and after it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline.base.text import counted, duration_text, printable, shape_text, voxel_rate_text
from pipeline.volume.size_text import size_line

if TYPE_CHECKING:
    from pipeline.conversion.prepare import PreparedConversion
    from pipeline.conversion.run import ConversionRun


def start_lines(prepared: PreparedConversion) -> Iterator[str]:
    """Yield what the conversion is about to do."""
    source, sizes = prepared.source, prepared.sizes
    channels = f"{counted(source.channel_count, 'channel')} of " if "c" in source.axes else ""
    yield (
        f"converting {channels}{shape_text(source.shape_zyx)} voxels {prepared.image.dtype} in "
        f"{counted(len(prepared.plan), 'block')} of {shape_text(sizes.block)}; shards of "
        f"{shape_text(sizes.shard)}, chunks of {shape_text(sizes.chunk)}"
    )
    yield size_line(source)
    for note in prepared.notes:
        yield f"note: {note}"


def result_lines(conversion: ConversionRun) -> Iterator[str]:
    """Yield what the conversion did, and where its output is."""
    progress = conversion.progress()
    figures = progress.figures
    if not figures.blocks:
        yield f"done: {counted(progress.blocks, 'block')}, all by earlier runs"
    else:
        speed = figures.voxels / max(figures.seconds, 1e-9)
        yield (
            f"done: {counted(figures.blocks, 'block')}; {figures.voxels:,} voxels in "
            f"{duration_text(figures.seconds)}, {voxel_rate_text(speed)}"
        )
    yield f"image: {printable(str(conversion.job.output))}"
