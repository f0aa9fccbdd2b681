"""The verdict of a run's report: what happened, in one or two sentences."""

from __future__ import annotations

from collections.abc import Sequence

from ..base.text import counted
from ..ledger.progress import Progress
from ..report.report import Verdict
from ..report.run_figures import seam_text
from ..report.seams import SeamStatistics
from ..report.sureness import percent

MOST_NAMED = 3
MOST_UNDECIDED = 0.4
"""Share of undecided voxels from which on a verdict mentions it."""


def verdict_of(
    progress: Progress,
    *,
    error: str | None,
    share: str | None,
    seams: Sequence[SeamStatistics],
    classes: Sequence[tuple[str, float]],
    objects: int | None,
    undecided: float | None = None,
    has_other_scale: bool = False,
) -> Verdict:
    """Return the verdict.

    error: why the run did not complete. share: the share of the volume that it did, like ``2/3``.
    seams: of the planes that were checked. classes: name and share of the voxels of each class.
    objects: how many were found, if they were looked for. undecided: share of the voxels in which
    the network was. has_other_scale: whether the voxels have another size than in the training.
    """
    if progress.left or error is not None:
        return Verdict(text=_incomplete(progress, error), state="bad")
    done = "Complete." if share is None else f"Share {share} of the volume is complete."
    sentences = [done, *_seam_sentences(seams), _class_sentence(classes)]
    if progress.skipped:
        sentences.append(f"{counted(progress.skipped, 'block')} skipped.")
    if objects is not None:
        sentences.append(f"{counted(objects, 'object')} found.")
    is_good = not any(one.is_visible for one in seams)
    if undecided is not None and undecided > MOST_UNDECIDED:
        is_good = False
        sentences.append(
            f"The network was undecided in {percent(undecided)} of the voxels: look at the "
            "pictures before you use the result."
        )
    if has_other_scale:
        is_good = False
        sentences.append("The voxels have another size than in the network's training.")
    text = " ".join(filter(None, sentences))
    return Verdict(text=text, state="good" if is_good else "attention")


def _incomplete(progress: Progress, error: str | None) -> str:
    of = f"{progress.computed:,} {'block' if progress.computed == 1 else 'blocks'}"
    parts = []
    if aside := len(progress.set_aside):
        were = "was" if aside == 1 else "were"
        parts.append(f"{aside:,} of {of} {were} set aside")
    if missing := progress.missing:
        parts.append(f"{missing:,} of {of} {'is' if missing == 1 else 'are'} not computed yet")
    if not parts:
        return f"Incomplete: all blocks are done, and the run ended before it was finished: {error}"
    return (
        f"Incomplete: {' and '.join(parts)}. What is done is kept: the same command again computes "
        "the rest."
    )


def _seam_sentences(seams: Sequence[SeamStatistics]) -> list[str]:
    checked = [one for one in seams if one.border_pairs]
    if not checked:
        return []
    return [seam_text(max(checked, key=lambda one: (one.is_visible, one.ratio)))]


def _class_sentence(classes: Sequence[tuple[str, float]]) -> str:
    """Return the shares of the classes but background, the largest first."""
    shown = sorted(classes[1:], key=lambda one: -one[1])
    named = [f"{percent(share)} {name}" for name, share in shown[:MOST_NAMED]]
    more = f" and {len(shown) - MOST_NAMED} more classes" if len(shown) > MOST_NAMED else ""
    return f"{', '.join(named)}{more}." if named else ""
