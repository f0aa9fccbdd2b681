"""Where a training ends: its schedule once it is made longer, an early stop, the weights kept."""

from __future__ import annotations

from pipeline.base.text import counted
from unet.recipe.training_config import TrainingConfig
from unet.training.loop import TrainingEnd
from unet.training.prepare import PreparedTraining
from unet.training.selection.metric import METRICS
from unet.training.selection.selection import Selection
from unet.training.selection.weights_files import FILES, kept_of


def schedule_lines(prepared: PreparedTraining) -> list[str]:
    """Return the schedule of a training that was made longer, and when one stops early."""
    training, progress = prepared.recipe.training, prepared.progress
    cycles, lines = progress.schedule.cycles, []
    if training.patience is not None:
        validations = counted(training.patience, "validation")
        words = METRICS[progress.selection.metric].words
        lines = [f"stops early after {validations} without a better {words}"]
    if len(cycles) == 1:
        return lines
    starts = [start for start, _ in cycles]
    ends = [*starts[1:], cycles[-1][1]]
    parts = [
        f"steps {start} to {end}{_cut(stop - start, end - start)}"
        for (start, stop), end in zip(cycles, ends, strict=True)
    ]
    return [f"schedule: {_shape(training)}, over {', then anew over '.join(parts)}", *lines]


def _cut(planned: int, done: int) -> str:
    return f" (of {planned} planned)" if done < planned else ""


def _shape(training: TrainingConfig) -> str:
    if training.schedule == "constant":
        return f"constant learning rate of {training.learning_rate:g}"
    return f"{training.schedule} with a peak learning rate of {training.learning_rate:g}"


def done_text(prepared: PreparedTraining) -> str:
    """Return the line for a training that is resumed and has nothing left to do."""
    progress = prepared.progress
    if not progress.has_stopped_early:
        return f"done already: {counted(progress.step, 'step')}; weights: {prepared.out}"
    why = _stop_text(progress.step, progress.selection)
    return (
        f"done already: {why}; weights: {prepared.out}; to continue, resume with a larger "
        f"--patience, or with --steps above {progress.schedule.steps}"
    )


def end_lines(end: TrainingEnd, prepared: PreparedTraining) -> list[str]:
    """Return why a training stopped early, and which weights it wrote; nothing if it is obvious."""
    selection = end.selection
    lines = [_stop_text(end.step, selection)] if end.stopped_early else []
    if selection.best is None:
        return lines
    best = f"{METRICS[selection.metric].words}, {selection.score:.4f}"
    if kept_of(prepared.recipe, selection) == "best":
        other = prepared.directory / FILES["last"]
        whose = (
            f"weights of step {selection.step}, the best {best}"
            if selection.step
            else f"no validation was better than the weights that it started from ({best}): kept"
        )
        lines.append(f"{whose}; of the last step: {other}")
    else:
        other = prepared.directory / FILES["best"]
        lines.append(
            f"weights of the last step; of step {selection.step}, the best {best}: {other}"
        )
    return lines


def _stop_text(step: int, selection: Selection) -> str:
    validations = counted(selection.without_better, "validation")
    return (
        f"stopped early at step {step}: no better {METRICS[selection.metric].words} for "
        f"{validations}, the best was that of step {selection.step}"
    )
