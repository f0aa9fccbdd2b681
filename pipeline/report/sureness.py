"""How sure a network was: the scores of the classes that it chose, counted and in words."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .charts import Chart, bar_chart

SURE, FAIR = 0.9, 0.7
_FINE: Final = 256
_BARS: Final = 25


@dataclass(frozen=True, slots=True, eq=False)
class ScoreCounts:
    """Voxels by the score of the class that was chosen, the highest of the voxel's scores."""

    counts: NDArray[np.int64]
    """In 256 equal steps of the score from 0 to 1."""

    @classmethod
    def of(cls, scores_czyx: NDArray[Any]) -> ScoreCounts:
        """Count scores: uint8 (0 to 255) or floats (0 to 1). Voxels without a score are left out.

        Voxels outside the segmented part have no score: all of their classes have 0.
        """
        highest = scores_czyx.max(axis=0).ravel()
        if highest.dtype == np.uint8:
            steps = highest.astype(np.int64)
        else:
            finite = np.nan_to_num(highest.astype(np.float32)).clip(0, 1)
            steps = np.rint(finite * (_FINE - 1)).astype(np.int64)
        return cls(np.bincount(steps[steps > 0], minlength=_FINE))

    def __add__(self, other: ScoreCounts) -> ScoreCounts:
        return ScoreCounts(self.counts + other.counts)

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
