"""Where training patches lie: a pure function of seed, step and number.

A patch's core holds the voxels whose classes are learnt. Cores lie anywhere in a volume, and up to
a quarter of their size beyond its edge, mirrored; otherwise voxels at the edge would be rare::

    |----------------------|          volume
      |--core--|
                     |--core--|       the last third is mirrored
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import LabelError

from ..recipe.training_config import LabelConfig
from .label_meaning import labels_of
from .rules.registry import counted_classes
from .rules.rule import IGNORED

Shape: TypeAlias = tuple[int, int, int]

CELL: Shape = (16, 256, 256)
CELLS_PER_VOLUME = 256
"""Labels are surveyed in cells; in a larger volume, in this many, spread evenly."""
MORE_CELLS = 64 * CELLS_PER_VOLUME
"""Further cells at most, if all voxels of the first ones are ignored."""
BEYOND_EDGE = 0.25


class LabelledVolume(Protocol):
    """Grey values and labels of one volume (or a box of it), mirrored past its edges.

    Starts and stops are (z, y, x) voxels, anywhere. It travels to the ranks by pickle.
    """

    @property
    def name(self) -> str:
        """Its name in messages."""

    @property
    def shape_zyx(self) -> Shape:
        """Size in voxels."""

    @property
    def spacing_zyx(self) -> tuple[float, float, float]:
        """Size of a voxel, in any unit."""

    def read_raw(self, start: Sequence[int], stop: Sequence[int]) -> NDArray[np.float32]:
        """Return normalised grey values (c, z, y, x) of a box."""

    def read_labels(self, start: Sequence[int], stop: Sequence[int]) -> NDArray[Any]:
        """Return labels (z, y, x) of a box, as stored."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A box of a volume, and how many voxels of each class it holds."""

    start: Shape
    stop: Shape
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Survey:
    """The classes in the labels of one volume, by cell."""

    cells: tuple[Cell, ...]

    @property
    def counts(self) -> tuple[int, ...]:
        """Voxels of each class in the surveyed cells."""
        return tuple(map(sum, zip(*(cell.counts for cell in self.cells), strict=True)))


def survey(volume: LabelledVolume, labels: LabelConfig, *, classes: int, dims: int) -> Survey:
    """Count the classes of a volume. Raises LabelError for a class that the network does not have.

    classes: of the network; where it learns none, inside and boundary are counted.
    Cells are read four at a time; of a volume with more than CELLS_PER_VOLUME, only a part is.
    """
    boxes = list(_cells(volume.shape_zyx))
    classes = classes if labels.rule == "classes" else 2

    def count(number: int) -> Cell:
        start, stop = boxes[number]
        found = classes_of(volume, start, stop, labels, dims=dims)
        known = found[found != IGNORED]
        if known.size and known.max() >= classes:
            raise LabelError(
                f"labels of {volume.name} have class {known.max()}, the network has {classes} "
                f"classes (0 to {classes - 1}): set more classes, or --rule foreground or boundary "
                "if labels are object ids, or --ignore"
            )
        return Cell(start, stop, tuple(np.bincount(known, minlength=classes).tolist()))

    cells: list[Cell] = []
    with ThreadPoolExecutor(4) as pool:
        for chosen in _rounds(len(boxes)):
            cells += pool.map(count, chosen)
            if any(any(cell.counts) for cell in cells):
                return Survey(tuple(cells))
    part = "" if len(cells) == len(boxes) else f", in the {len(cells)} boxes surveyed"
    raise LabelError(
        f"all labels of {volume.name} are {labels.ignore}, the ignored label{part}: there is "
        "nothing to learn"
    )


def _rounds(cells: int) -> Iterator[list[int]]:
    """Yield the cells to survey: spread evenly, then as many others, until a label is found.

    If only a small part of a huge volume is labelled, the first round may miss it.
    """
    first = sorted({round(i) for i in np.linspace(0, cells - 1, CELLS_PER_VOLUME)})
    yield first
    others = np.setdiff1d(np.arange(cells), first)
    np.random.default_rng(0).shuffle(others)
    for start in range(0, min(len(others), MORE_CELLS), CELLS_PER_VOLUME):
        yield others[start : start + CELLS_PER_VOLUME].tolist()


def classes_of(
    volume: LabelledVolume,
    start: Sequence[int],
    stop: Sequence[int],
    labels: LabelConfig,
    *,
    dims: int,
) -> NDArray[np.int64]:
    """Return the classes (z, y, x) of a box that are counted, IGNORED where they are unknown."""
    grown = tuple(a - 1 for a in start), tuple(b + 1 for b in stop)  # a boundary has two sides
    stored, labels = volume.read_labels(*grown), labels_of(volume, labels)
    return counted_classes(stored, labels, dims=dims)[1:-1, 1:-1, 1:-1]


def _cells(shape: Shape) -> Iterator[tuple[Shape, Shape]]:
    counts = tuple(-(-size // cell) for size, cell in zip(shape, CELL, strict=True))
    for place in np.ndindex(*counts):
        start = tuple(p * cell for p, cell in zip(place, CELL, strict=True))
        stop = tuple(min(a + c, n) for a, c, n in zip(start, CELL, shape, strict=True))
        yield start, stop


@dataclass(frozen=True, slots=True)
class Place:
    """The core of one patch: which volume, and its first voxel (z, y, x)."""

    volume: int
    start: Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchSampler:
    """Chooses where patches lie: evenly over the voxels of all volumes, or at rare classes."""

    shapes: tuple[Shape, ...]
    surveys: tuple[Survey, ...]
    core: Shape
    seed: int
    rare_share: float = 0.0

    def place(self, step: int, number: int) -> Place:
        """Return where patch ``number`` of a step lies; the same on every rank."""
        rng = np.random.default_rng([self.seed, step, number, 1])
        if rng.random() < self.rare_share:
            return self._around_a_class(rng)
        sizes = np.array([float(np.prod(shape)) for shape in self.shapes])
        volume = int(rng.choice(len(sizes), p=sizes / sizes.sum()))
        return Place(volume, self._anywhere(rng, self.shapes[volume]))

    def _anywhere(self, rng: np.random.Generator, shape: Shape) -> Shape:
        start = []
        for size, core in zip(shape, self.core, strict=True):
            beyond = int(BEYOND_EDGE * core)
            start.append(int(rng.integers(-beyond, size - core + beyond + 1)))
        return tuple(start)  # type: ignore[return-value]

    def _around_a_class(self, rng: np.random.Generator) -> Place:
        """Return a core centred in a cell with a class; cells are drawn by their voxels of it."""
        counts = np.array([c.counts for s in self.surveys for c in s.cells], float)
        owners = [(volume, cell) for volume, s in enumerate(self.surveys) for cell in s.cells]
        present = np.flatnonzero(counts.sum(axis=0))
        shares = counts[:, rng.choice(present)]
        volume, cell = owners[int(rng.choice(len(owners), p=shares / shares.sum()))]
        centre = [int(rng.integers(a, b)) for a, b in zip(cell.start, cell.stop, strict=True)]
        start = [c - core // 2 for c, core in zip(centre, self.core, strict=True)]
        return Place(volume, tuple(start))  # type: ignore[arg-type]


def seed_of(seed: int, step: int, number: int) -> int:
    """Return the seed of a patch's augmentation, below 2**63; it depends on these three only."""
    return int(np.random.SeedSequence([seed, step, number, 2]).generate_state(1, np.uint64)[0] >> 1)


def shares(batch: int, *, rank: int, world_size: int) -> Sequence[int]:
    """Return the numbers of the patches of a batch that a rank takes: every world_size-th."""
    return range(rank, batch, world_size)
