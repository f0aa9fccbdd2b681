"""What a training takes over from the weights that it starts from, as one line."""

from __future__ import annotations

from pipeline.base.text import counted
from unet.training.prepare import PreparedTraining
from unet.training.start.weights import SHOWN_DIGITS, StartWeights


def start_text(prepared: PreparedTraining, start: StartWeights) -> str:
    """Return which layers are taken over, adapted and frozen."""
    recipe, info = prepared.recipe, start.info
    parts = ["all layers"]
    if not start.takes_head(recipe):
        ours, theirs = ", ".join(recipe.class_names or ()), ", ".join(info.class_names)
        parts = [
            "contracting and expanding path",
            f"a fresh head, as the classes are {ours}, those of the weights {theirs}",
        ]
    before, now = info.config.in_channels, recipe.network.in_channels
    if before != now:
        parts.append(f"the first layer spread from {counted(before, 'channel')} to {now}")
    if recipe.training.freeze == "contracting":
        parts.append("the contracting path is frozen")
    verb = "started" if prepared.done_steps else "starting"
    return f"{verb} from {start.name} (sha256 {info.digest[:SHOWN_DIGITS]}…): {'; '.join(parts)}"
