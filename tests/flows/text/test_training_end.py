"""The lines that state where a training ends, and which weights it writes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from flows.text.training_end import done_text, end_lines, schedule_lines
from unet.recipe.schedule import StepSchedule
from unet.recipe.training_config import Recipe, TrainingConfig
from unet.training.loop import TrainingEnd
from unet.training.progress import Progress
from unet.training.selection.selection import Selection

BEST = Selection(
    metric="mean_iou", best={"step": 300, "mean_iou": 0.8123}, validated_at=800, without_better=5
)


def prepared(*, cycles=((0, 2000),), selection=BEST, step=800, **training):
    recipe = Recipe(training=TrainingConfig(steps=cycles[-1][1], **training))
    progress = Progress(
        step=step, selection=selection, schedule=StepSchedule(cycles),
        patience=recipe.training.patience,
    )  # fmt: skip
    return SimpleNamespace(
        recipe=recipe, progress=progress, out=Path("w.safetensors"), directory=Path("w.training")
    )


@pytest.mark.parametrize(("cycles", "schedule", "said"), [
    (((0, 2000),), "one-cycle", []),
    (
        ((0, 2000), (2000, 3000)), "one-cycle",
        ["schedule: one-cycle with a peak learning rate of 0.001, over steps 0 to 2000, then anew "
         "over steps 2000 to 3000"],
    ),
    (
        ((0, 2000), (800, 3000)), "cosine",
        ["schedule: cosine with a peak learning rate of 0.001, over steps 0 to 800 (of 2000 "
         "planned), then anew over steps 800 to 3000"],
    ),
    (
        ((0, 2000), (2000, 3000)), "constant",
        ["schedule: constant learning rate of 0.001, over steps 0 to 2000, then anew over steps "
         "2000 to 3000"],
    ),
])  # fmt: skip
def test_a_longer_training_states_its_cycles(cycles, schedule, said):
    assert schedule_lines(prepared(cycles=cycles, schedule=schedule)) == said


def test_a_training_that_may_stop_early_states_when():
    said = "stops early after 5 validations without a better pixel error"
    selection = Selection(metric="pixel_error")
    assert schedule_lines(prepared(patience=5, selection=selection)) == [said]


STOPPED = (
    "stopped early at step 800: no better mean IoU for 5 validations, the best was that of step 300"
)


def test_a_finished_training_states_why_and_how_to_continue_it():
    whole = prepared(step=2000)
    assert done_text(whole) == "done already: 2,000 steps; weights: w.safetensors"
    assert done_text(prepared(patience=5)) == (
        f"done already: {STOPPED}; weights: w.safetensors; to continue, resume with a larger "
        "--patience, or with --steps above 2000"
    )


def test_the_end_states_which_weights_were_written():
    best = prepared()
    end = TrainingEnd(2000, True, {}, BEST)
    said = "weights of step 300, the best mean IoU, 0.8123; of the last step: "
    assert end_lines(end, best) == [f"{said}w.training/last.safetensors"]
    said = "weights of the last step; of step 300, the best mean IoU, 0.8123: "
    assert end_lines(end, prepared(kept_weights="last")) == [f"{said}w.training/best.safetensors"]
    assert end_lines(TrainingEnd(800, True, {}, BEST, True), best)[0] == STOPPED
    assert end_lines(TrainingEnd(2000, True, {}, Selection()), best) == []
