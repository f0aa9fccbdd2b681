"""How sure a network was: scores of each class and of the chosen ones, counted and in words."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .charts import Chart, bar_chart, bar_grid

SURE, FAIR = 0.9, 0.7
_FINE: Final = 256
_BARS: Final = 25
_CLASS_BARS: Final = 32
MOST_CLASSES: Final = 8
"""That have a histogram."""


@dataclass(frozen=True, slots=True, eq=False)
class ScoreCounts:
    """Voxels by the score of the class that was chosen, the highest of the voxel's scores."""

    counts: NDArray[np.int64]
    """In 256 equal steps of the score from 0 to 1."""
    by_class: NDArray[np.int64]
    """(class, step): voxels by the score of each class, in the same steps."""

    @classmethod
    def of(cls, scores_czyx: NDArray[Any]) -> ScoreCounts:
        """Count scores: uint8 (0 to 255) or floats (0 to 1). Voxels without a score are left out.

        Voxels outside the segmented part have no score: all of their classes have 0.
        """
        scores = scores_czyx.reshape(len(scores_czyx), -1)
        if scores.dtype != np.uint8:
            finite = np.nan_to_num(scores.astype(np.float32)).clip(0, 1)
            scores = np.rint(finite * (_FINE - 1)).astype(np.uint8)
        highest = scores.max(axis=0)
        if not highest.all():
            scores, highest = scores[:, highest > 0], highest[highest > 0]
        return cls(
            np.bincount(highest, minlength=_FINE),
            np.stack([np.bincount(one, minlength=_FINE) for one in scores]),
        )

    def __add__(self, other: ScoreCounts) -> ScoreCounts:
        return ScoreCounts(self.counts + other.counts, self.by_class + other.by_class)

    @property
    def voxels(self) -> int:
        """Number of voxels that were counted."""
        return int(self.counts.sum())

    def share(self, low: float, high: float = 2.0) -> float:
        """Return the share of voxels whose score is at least ``low`` and below ``high``."""
        scores = np.arange(_FINE) / (_FINE - 1)
        chosen = self.counts[(scores >= low - 1e-9) & (scores < high - 1e-9)].sum()
        return float(chosen) / max(1, self.voxels)


def sureness_text(scores: ScoreCounts) -> str:
    """Return how sure the network was, in words.

    >>> sureness_text(ScoreCounts.of(np.array([[[[255, 230, 190, 128]]]], np.uint8)))[:55]
    'The network was sure (score of 0.9 or more) in 50 % of '
    """
    sure, fair, rest = scores.share(SURE), scores.share(FAIR, SURE), scores.share(0, FAIR)
    return (
        f"The network was sure (score of {SURE} or more) in {percent(sure)} of the voxels, fairly "
        f"sure ({FAIR} to {SURE}) in {percent(fair)}, and undecided (below {FAIR}) in "
        f"{percent(rest)}."
    )


def percent(share: float) -> str:
    """Return a share in percent, so that little is not nothing.

    >>> percent(0.204), percent(0.004), percent(0.0), percent(0.9996)
    ('20 %', '0.4 %', '0 %', 'more than 99.9 %')
    """
    if 0.999 <= share < 1:
        return "more than 99.9 %"
    if 0 < share < 0.0005:
        return "less than 0.1 %"
    return (
        f"{share:.1%}".replace("%", " %")
        if 0 < share < 0.0095 or 0.99 < share < 1
        else (f"{share:.0%}".replace("%", " %"))
    )


def sureness_chart(scores: ScoreCounts, *, classes: int, is_sample: bool) -> Chart:
    """Return a histogram of the scores; the highest of n scores is at least 1/n."""
    lowest = 1 / max(2, classes)
    first = int(lowest * (_FINE - 1))
    edges = np.linspace(first, _FINE, _BARS + 1).astype(int)
    shares = [
        float(scores.counts[a:b].sum()) / max(1, scores.voxels)
        for a, b in itertools.pairwise(edges.tolist())
    ]
    ticks = [score for score in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9) if score > lowest + 0.03]
    labels = [(0.0, f"{lowest:.2g}")]
    labels += [((score - lowest) / (1 - lowest), f"{score:g}") for score in ticks]
    number = f"{scores.voxels:,} voxels" + (", a sample of the result" if is_sample else "")
    return bar_chart(
        shares, title="How sure the network was", alt=f"Histogram. {sureness_text(scores)}",
        caption=f"{sureness_text(scores)} The chart counts {number} by the score of their class, "
        "from undecided (left) to sure (right). Scores are the network's own opinion: sure is not "
        "the same as right.",
        x_labels=[*labels, (1.0, "1")], y_label=percent(max(shares)),
    )  # fmt: skip


def class_scores_chart(scores: ScoreCounts, names: Sequence[str], *, is_sample: bool) -> Chart:
    """Return a histogram of the scores of each class, of the first ones if there are many."""
    return _scores_chart(
        scores, names, is_sample=is_sample, of=("class", "classes"),
        meaning="A network that decides clearly has bars at both ends and few between.",
    )  # fmt: skip


def channel_scores_chart(scores: ScoreCounts, names: Sequence[str], *, is_sample: bool) -> Chart:
    """Return the same of channels that are not classes, such as affinities or a distance."""
    return _scores_chart(
        scores, names, is_sample=is_sample, of=("channel", "channels"),
        meaning="A distance has bars all along, affinities and centres at both ends.",
    )  # fmt: skip


def _scores_chart(
    scores: ScoreCounts, names: Sequence[str], *, is_sample: bool, of: tuple[str, str], meaning: str
) -> Chart:
    one, several = of
    width = _FINE // _CLASS_BARS
    shown = scores.by_class[:MOST_CLASSES].reshape(-1, _CLASS_BARS, width).sum(axis=2)
    shares = shown / max(1, scores.voxels)
    high = scores.by_class[:, _FINE // 2 :].sum(axis=1) / max(1, scores.voxels)
    described = [
        f"{name}: 0.5 or more in {percent(share)}"
        for name, share in zip(names, high.tolist(), strict=False)
    ][:MOST_CLASSES]
    left_out = len(names) - len(described)
    more = f" The first {MOST_CLASSES} of {len(names)} {several} are shown." if left_out > 0 else ""
    number = f"{scores.voxels:,} voxels" + (", a sample of the result" if is_sample else "")
    return bar_grid(
        list(zip(described, np.sqrt(shares).tolist(), strict=True)),
        title=f"Scores of each {one}", alt=f"Histograms of scores. {'; '.join(described)}",
        caption=f"{number} by their score of each {one}, from 0 (left) to 1 (right). {meaning} The "
        f"height of a bar is the square root of its share, so that rare scores show.{more}",
        x_labels=[(0.0, "0"), (0.5, "0.5"), (1.0, "1")],
    )  # fmt: skip
