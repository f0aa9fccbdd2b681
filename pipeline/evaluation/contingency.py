"""Overlap of two labellings, as a sparse table of counts that adds up exactly over blocks.

Every figure of objects is a function of this table, so a volume of any size is counted block by
block, and only tables are combined: one row per pair of ids that overlap.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from ..base.errors import GeometryError, LabelError
from .confusion import ConfusionMatrix

Ids: TypeAlias = NDArray[np.uint64]
Counts: TypeAlias = NDArray[np.int64]

CLASSES_AT_MOST = 256
"""More labels than this are the ids of objects, not classes."""
NEVER_PREDICTED_AT_MOST = 16
"""Most labels of a truth that a prediction may lack; more are not classes."""
NEVER_IN_BLOCK_AT_MOST = 64
"""The same for one block, where the prediction may lack labels that it has elsewhere."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ContingencyTable:
    """Row k: ``counts[k]`` voxels have id ``truth_ids[k]`` in the truth and
    ``predicted_ids[k]`` in the prediction.

    Rows are sorted by (truth, predicted), each pair occurs once, and no count is 0, so two tables
    of the same voxels are equal, whichever parts they were summed from.
    """

    truth_ids: Ids
    predicted_ids: Ids
    counts: Counts

    @classmethod
    def empty(cls) -> ContingencyTable:
        """Return an empty table, the start of a sum over blocks."""
        return cls(
            truth_ids=np.empty(0, np.uint64),
            predicted_ids=np.empty(0, np.uint64),
            counts=np.empty(0, np.int64),
        )

    @classmethod
    def total(cls, tables: Iterable[ContingencyTable]) -> ContingencyTable:
        """Return the sum of tables."""
        parts = [cls.empty(), *tables]
        return _reduced(
            np.concatenate([part.truth_ids for part in parts]),
            np.concatenate([part.predicted_ids for part in parts]),
            np.concatenate([part.counts for part in parts]),
        )

    def __add__(self, other: ContingencyTable) -> ContingencyTable:
        """Return the table of both volumes."""
        return ContingencyTable.total((self, other))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ContingencyTable):
            return NotImplemented
        return (
            np.array_equal(self.truth_ids, other.truth_ids)
            and np.array_equal(self.predicted_ids, other.predicted_ids)
            and np.array_equal(self.counts, other.counts)
        )

    __hash__ = None  # type: ignore[assignment]  # arrays are compared, not hashed

    @property
    def voxels(self) -> int:
        """Number of voxels that were counted."""
        return int(self.counts.sum())

    @cached_property
    def truth_sizes(self) -> tuple[Ids, Counts]:
        """Ids of the truth, ascending, and the voxels of each."""
        return _sizes(self.truth_ids, self.counts)

    @cached_property
    def predicted_sizes(self) -> tuple[Ids, Counts]:
        """Ids of the prediction, ascending, and the voxels of each."""
        return _sizes(self.predicted_ids, self.counts)

    @property
    def first_true_ids(self) -> frozenset[int]:
        """The two lowest ids of the truth, or fewer, without the background."""
        ids = self.truth_sizes[0]
        return frozenset(map(int, ids[ids != 0][:2]))

    def foreground(self) -> ContingencyTable:
        """Return the rows whose true id is not 0: the truth's foreground."""
        return self._rows(self.truth_ids != 0)

    def objects(self) -> ContingencyTable:
        """Return the rows in which neither id is 0: objects in both."""
        return self._rows((self.truth_ids != 0) & (self.predicted_ids != 0))

    def _rows(self, chosen: NDArray[np.bool_]) -> ContingencyTable:
        return ContingencyTable(
            truth_ids=self.truth_ids[chosen],
            predicted_ids=self.predicted_ids[chosen],
            counts=self.counts[chosen],
        )

    def matrix(self) -> csr_array[np.float64, tuple[int, int]]:
        """Return the counts as a matrix (truth id, predicted id); ids are numbered as in sizes."""
        truth, predicted = self.truth_sizes[0], self.predicted_sizes[0]
        places = (
            np.searchsorted(truth, self.truth_ids),
            np.searchsorted(predicted, self.predicted_ids),
        )
        return csr_array((self.counts.astype(np.float64), places), (len(truth), len(predicted)))

    def confusion(self) -> ConfusionMatrix:
        """Return the counts as a matrix of classes, up to the largest id.

        Raises LabelError for more than 256 classes, which are object ids, and for a truth with many
        classes that are never predicted, which is an image.
        """
        largest = max((int(ids.max()) for ids in self._both() if ids.size), default=0)
        if largest >= CLASSES_AT_MOST:
            raise LabelError(
                f"label {largest} is not a class (0 to {CLASSES_AT_MOST - 1}): if prediction and "
                "truth are object ids, pass --objects ids; if only the truth is, make objects from "
                "the prediction's scores with --scores CLASS --objects watershed; if the truth is "
                "an image, pass its labels"
            )
        never = np.setdiff1d(self.truth_ids, self.predicted_ids)
        if len(never) > NEVER_IN_BLOCK_AT_MOST:
            raise too_many_labels(never.tolist())
        counts = np.zeros((largest + 1, largest + 1), np.int64)
        counts[self.truth_ids.astype(np.intp), self.predicted_ids.astype(np.intp)] = self.counts
        return ConfusionMatrix(counts=tuple(tuple(row) for row in counts.tolist()))

    def _both(self) -> tuple[Ids, Ids]:
        return self.truth_ids, self.predicted_ids


def too_many_labels(never: Sequence[int]) -> LabelError:
    """Return the error for a truth with many labels that the prediction never has."""
    return LabelError(
        f"the truth has {len(never)} values that the prediction never has ({never[0]} to "
        f"{never[-1]}): expected the same classes in both; if they are ids of objects, make "
        "objects of the prediction too (--objects ids where overtile found them, --objects "
        "components, or --scores CLASS --objects watershed); if they are grey values, pass labels, "
        "not the image"
    )


class RunningTotal:
    """A sum of many tables, merged in batches so that no table is sorted too often."""

    def __init__(self) -> None:
        self._total = ContingencyTable.empty()
        self._waiting: list[ContingencyTable] = []
        self._rows = 0

    def add(self, table: ContingencyTable) -> None:
        """Add a table."""
        self._waiting.append(table)
        self._rows += len(table.counts)
        if self._rows > max(len(self._total.counts), 4096):
            self.table()

    def table(self) -> ContingencyTable:
        """Return the sum of all tables so far."""
        self._total = ContingencyTable.total((self._total, *self._waiting))
        self._waiting, self._rows = [], 0
        return self._total


def count_pairs(
    truth: NDArray[Any], prediction: NDArray[Any], *, ignore: int | None = None
) -> ContingencyTable:
    """Count the voxels of one block by their id in ``truth`` and in ``prediction``.

    Both are integers (or bool) of one shape, from 0. Voxels with the true label ``ignore``, which
    may be any integer, are left out. Neighbours along the last axis mostly have the same ids, so
    runs are counted first and sorted afterwards.
    Raises GeometryError for different shapes, LabelError for other values or types.
    """
    if truth.shape != prediction.shape:
        raise GeometryError(f"truth of shape {truth.shape}, prediction of {prediction.shape}")
    check_integers(truth.dtype, name="the truth")
    check_integers(prediction.dtype, name="the prediction")
    truth, prediction = truth.ravel(), prediction.ravel()
    if ignore is not None:
        kept = truth != ignore
        truth, prediction = truth[kept], prediction[kept]
    if not truth.size:
        return ContingencyTable.empty()
    change = (truth[1:] != truth[:-1]) | (prediction[1:] != prediction[:-1])
    starts = np.concatenate(([0], np.flatnonzero(change) + 1))
    lengths = np.diff(starts, append=truth.size)
    return _reduced(
        _ids(truth[starts], name="the truth"), _ids(prediction[starts], name="the prediction"),
        lengths.astype(np.int64),
    )  # fmt: skip


def check_integers(dtype: np.dtype[Any], *, name: str) -> None:
    """Raise LabelError for a type that cannot hold classes or ids."""
    if dtype.kind not in "biu":
        raise LabelError(f"{name} is {dtype}: expected integers (classes or ids)")


def _ids(labels: NDArray[Any], *, name: str) -> Ids:
    if labels.dtype.kind == "i" and (least := int(labels.min())) < 0:
        raise LabelError(
            f"{name} has the label {least}: classes and ids start at 0; if it marks unlabelled "
            f"voxels, pass --ignore {least}"
        )
    return labels.astype(np.uint64)


def _sizes(ids: Ids, counts: Counts) -> tuple[Ids, Counts]:
    order = np.argsort(ids, kind="stable")
    return _summed((ids[order],), counts[order])


def _reduced(truth_ids: Ids, predicted_ids: Ids, counts: Counts) -> ContingencyTable:
    """Return the table with equal pairs summed, sorted."""
    order = np.lexsort((predicted_ids, truth_ids))
    truth, predicted, summed = _summed((truth_ids[order], predicted_ids[order]), counts[order])
    return ContingencyTable(truth_ids=truth, predicted_ids=predicted, counts=summed)


def _summed(keys: tuple[Ids, ...], counts: Counts) -> Any:
    """Return sorted keys once each, and the sum of their counts."""
    if not counts.size:
        return (*keys, counts)
    change = np.zeros(counts.size, np.bool_)
    change[0] = True
    for key in keys:
        change[1:] |= key[1:] != key[:-1]
    starts = np.flatnonzero(change)
    return (*(key[starts] for key in keys), np.add.reduceat(counts, starts))
