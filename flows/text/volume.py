"""A volume as text: its channels."""

from __future__ import annotations

from pipeline.volume.volume import VolumeSource


def channels_text(source: VolumeSource) -> str:
    """Return which channels are read, in the order in which the network gets them."""
    if source.channels is None:
        return f"all, {source.channel_count}"
    return ", ".join(map(str, source.channels))
