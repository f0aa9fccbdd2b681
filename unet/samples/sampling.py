"""Where training patches lie: a pure function of seed, step and number.

A patch's core holds the voxels whose classes are learnt. Cores lie anywhere in a volume, and up to
a quarter of their size beyond its edge, mirrored; otherwise voxels at the edge would be rare::

    |----------------------|          volume
      |--core--|
                     |--core--|       the last third is mirrored

Where less than half of the labels is known, cores are drawn by their known voxels: a known voxel is
drawn evenly, and it may lie anywhere in the core. So none is drawn that has nothing to learn. Such
a volume is drawn, beside others, as if it were as large as all places of cores with known voxels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import LabelError

from ..recipe.training_config import LabelConfig
from .cells import MOST_CELLS, SPARSE_CELLS, Cell, CellGrid
from .known_tiles import known_tiles
from .known_voxels import KEPT_OF_A_CLASS, packed
from .label_meaning import labels_of
from .rules.registry import counted_class_count, counted_classes
from .rules.rule import IGNORED

Shape: TypeAlias = tuple[int, int, int]

BEYOND_EDGE = 0.25
SPARSE = 0.5
"""Labels of a volume are sparse if less than this share of them is known."""


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
        """Return labels (z, y, x) of a box: as stored, or int64 with UNKNOWN where not labelled."""


MASK_VALUE: Final = 255
"""Of what is painted in a mask of 8 bits."""


@dataclass(frozen=True, slots=True)
class Survey:
    """The classes in the labels of one volume, by cell."""

    cells: tuple[Cell, ...]
    share: float | None = None
    """Known share of the cells that were chosen evenly; None: of all cells."""

    @property
    def counts(self) -> tuple[int, ...]:
        """Voxels of each class in the surveyed cells."""
        return tuple(map(sum, zip(*(cell.counts for cell in self.cells), strict=True)))

    @property
    def known_voxels(self) -> int:
        """Voxels of the surveyed cells whose class is known."""
        return sum(cell.known_voxels for cell in self.cells)

    @property
    def known_share(self) -> float:
        """Share of the volume's voxels whose class is known, as far as it was surveyed."""
        return _known_share(self.cells) if self.share is None else self.share

    @property
    def is_sparse(self) -> bool:
        """Whether patches are drawn by their known voxels."""
        return self.known_share < SPARSE


def survey(
    volume: LabelledVolume,
    labels: LabelConfig,
    *,
    classes: int,
    dims: int,
    may_be_unknown: bool = False,
) -> Survey:
    """Count the classes of a volume. Raises LabelError for a class that the network does not have.

    classes: of the network; where it learns none, inside and boundary are counted.
    Cells are read four at a time; of a volume with more than CELLS_PER_VOLUME, only a part is.
    may_be_unknown: whether labels that are all ignored are accepted; else LabelError.
    """
    grid = CellGrid(volume.shape_zyx)
    classes = counted_class_count(labels, classes)

    def count(number: int) -> Cell:
        start, stop = grid.box(number)
        found = classes_of(volume, start, stop, labels, dims=dims)
        is_known = found != IGNORED
        known = found[is_known]
        if known.size and known.max() >= classes:
            raise _unknown_class(volume.name, known, classes)
        counts = tuple(np.bincount(known, minlength=classes).tolist())
        places = tuple(
            packed(found == one, seed=number, kept=KEPT_OF_A_CLASS) if count else b""
            for one, count in enumerate(counts)
        )
        return Cell(start, stop, counts, packed(is_known, seed=number), places)

    found = _surveyed(grid, count)
    if may_be_unknown or any(found.counts):
        return found
    part = "" if len(found.cells) == len(grid) else f", in the {len(found.cells)} boxes surveyed"
    raise LabelError(
        f"all labels of {volume.name} are {labels.ignore}, the ignored label{part}: no voxel has "
        "a known class"
    )


def _unknown_class(name: str, known: NDArray[Any], classes: int) -> LabelError:
    """Return the error for labels beyond the classes of the network. known: some of the labels."""
    values = {int(value) for value in np.unique(known)}
    if values <= {0, MASK_VALUE}:
        return LabelError(
            f"labels of {name} have the values 0 and {MASK_VALUE}, as a mask of Fiji or ilastik "
            f"has: pass --rule foreground, which learns where the mask is {MASK_VALUE}; or "
            f"--ignore {MASK_VALUE} if the class of these voxels is unknown"
        )
    if max(values) == MASK_VALUE and max(values - {MASK_VALUE}) < classes:
        return LabelError(
            f"labels of {name} have {MASK_VALUE} besides the network's classes (0 to "
            f"{classes - 1}): pass --ignore {MASK_VALUE} if the class of these voxels is unknown"
        )
    return LabelError(
        f"labels of {name} have class {known.max()}, the network has {classes} classes (0 to "
        f"{classes - 1}): set more classes, or --rule foreground or boundary if labels are object "
        "ids, or --ignore"
    )


def _surveyed(grid: CellGrid, count: Callable[[int], Cell]) -> Survey:
    """Survey cells until labels are found.

    Where they are sparse, further cells are surveyed, and the neighbours of all that have labels:
    these are found as a whole, even if they are a small part of a huge volume.
    """
    cells: dict[int, Cell] = {}
    evenly: list[int] = []
    share = 0.0
    with ThreadPoolExecutor(4) as pool:

        def survey_new(numbers: Iterable[int]) -> list[int]:
            new = [number for number in numbers if number not in cells]
            cells.update(zip(new, pool.map(count, new), strict=True))
            return [number for number in new if any(cells[number].counts)]

        for chosen in grid.rounds():
            labelled = survey_new(chosen)
            evenly += chosen
            share = _known_share([cells[number] for number in evenly])
            if share >= SPARSE:
                break
            while labelled and len(cells) < MOST_CELLS:
                labelled = survey_new(grid.around(labelled))
            if share and len(cells) >= SPARSE_CELLS:
                break
    return Survey(tuple(cells.values()), share)


def _known_share(cells: Sequence[Cell]) -> float:
    voxels = sum(math.prod(cell.shape) for cell in cells)
    return sum(cell.known_voxels for cell in cells) / voxels


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


@dataclass(frozen=True, slots=True)
class Place:
    """The core of one patch: which volume, and its first voxel (z, y, x)."""

    volume: int
    start: Shape


@dataclass(frozen=True, kw_only=True)  # no slots: tables are cached
class PatchSampler:
    """Chooses where patches lie: evenly over all known voxels, or at rare classes."""

    shapes: tuple[Shape, ...]
    surveys: tuple[Survey, ...]
    core: Shape
    seed: int
    rare_share: float = 0.0

    def place(self, step: int, number: int, *, attempt: int = 0) -> Place:
        """Return where patch ``number`` of a step lies; the same on every rank.

        attempt: how many places of this patch had nothing known: others lie at known voxels.
        """
        rng = np.random.default_rng([self.seed, step, number, 1, *_again(attempt)])
        if rng.random() < self.rare_share:
            return self._around_a_class(rng)
        volume = int(rng.choice(len(self.shapes), p=self._volume_shares))
        survey = self.surveys[volume]
        if survey.is_sparse or (attempt and any(cell.known for cell in survey.cells)):
            return Place(volume, self.at_a_known_voxel(rng, volume))
        return Place(volume, self._anywhere(rng, self.shapes[volume]))

    @cached_property
    def _volume_shares(self) -> NDArray[np.float64]:
        """Probability of each volume: by its voxels, or by those of cores with known voxels.

        The known voxels alone would give a few strokes, painted where a network was wrong, no patch
        beside a volume that is known as a whole.
        """
        if len(self.surveys) == 1:
            return np.ones(1)
        pairs = zip(self.shapes, self.surveys, strict=True)
        sizes = np.array([float(self._size(shape, s)) for shape, s in pairs])
        return sizes / sizes.sum()

    def _size(self, shape: Shape, survey: Survey) -> int:
        voxels = math.prod(shape)
        if not survey.is_sparse:
            return voxels
        return min(voxels, len(known_tiles(survey.cells, self.core)) * math.prod(self.core))

    @cached_property
    def _known_cells(self) -> tuple[tuple[Sequence[Cell], NDArray[np.float64]], ...]:
        """For each volume: the cells with known voxels, and the share of these in each."""
        cells = [[cell for cell in s.cells if cell.known_voxels] for s in self.surveys]
        known = [np.array([float(cell.known_voxels) for cell in some]) for some in cells]
        return tuple((some, n / max(1, n.sum())) for some, n in zip(cells, known, strict=True))

    def at_a_known_voxel(self, rng: np.random.Generator, volume: int) -> Shape:
        """Return a core with a known voxel of a volume; it may be any of the core's voxels.

        The known voxel is drawn evenly, then the core among those that hold it and that reach at
        most a quarter beyond the edge: away from edges, cores are drawn by their known voxels.
        """
        cells, known_shares = self._known_cells[volume]
        voxel = cells[int(rng.choice(len(cells), p=known_shares))].draw(rng)
        start = []
        for at, size, core in zip(voxel, self.shapes[volume], self.core, strict=True):
            beyond = int(BEYOND_EDGE * core)
            first, last = max(at - core + 1, -beyond), min(at, size - core + beyond)
            start.append(int(rng.integers(first, last + 1)))
        return tuple(start)  # type: ignore[return-value]

    def _anywhere(self, rng: np.random.Generator, shape: Shape) -> Shape:
        start = []
        for size, core in zip(shape, self.core, strict=True):
            beyond = int(BEYOND_EDGE * core)
            start.append(int(rng.integers(-beyond, size - core + beyond + 1)))
        return tuple(start)  # type: ignore[return-value]

    @cached_property
    def _class_counts(self) -> tuple[NDArray[np.float64], Sequence[tuple[int, Cell]]]:
        """Voxels of each class in every cell, and the cells with the numbers of their volumes."""
        owners = [(volume, cell) for volume, s in enumerate(self.surveys) for cell in s.cells]
        return np.array([cell.counts for _, cell in owners], float), owners

    def _around_a_class(self, rng: np.random.Generator) -> Place:
        """Return a core centred on a voxel of a class: classes are drawn evenly, so are voxels."""
        counts, owners = self._class_counts
        number = int(rng.choice(np.flatnonzero(counts.sum(axis=0))))
        shares = counts[:, number]
        volume, cell = owners[int(rng.choice(len(owners), p=shares / shares.sum()))]
        centre = cell.draw_of(number, rng)
        start = [at - core // 2 for at, core in zip(centre, self.core, strict=True)]
        return Place(volume, tuple(start))  # type: ignore[arg-type]


def seed_of(seed: int, step: int, number: int, *, attempt: int = 0) -> int:
    """Return the seed of a patch's augmentation, below 2**63; it depends on these only."""
    sequence = np.random.SeedSequence([seed, step, number, 2, *_again(attempt)])
    return int(sequence.generate_state(1, np.uint64)[0] >> 1)


def _again(attempt: int) -> list[int]:
    """Return what is added to the numbers of a patch that is drawn again."""
    return [attempt] if attempt else []


def shares(batch: int, *, rank: int, world_size: int) -> Sequence[int]:
    """Return the numbers of the patches of a batch that a rank takes: every world_size-th."""
    return range(rank, batch, world_size)
