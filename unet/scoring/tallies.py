"""The tally that suits the outputs of a network."""

from __future__ import annotations

from pipeline.base.network_outputs import NetworkOutputs

from .channel_tally import ChannelTally
from .class_tally import ClassTally
from .scores import Tally


def tally_of(outputs: NetworkOutputs, channels: int) -> Tally:
    """Return an empty tally of a network with these outputs and so many channels."""
    return ClassTally(channels) if outputs.has_classes else ChannelTally(channels, outputs.kind)
