"""Puts the rows of blocks together, layer by layer, and writes the table in the order of the ids.

Layers are those along the first axis with more than one block. An object hangs together, so one
that does not reach the last plane of a layer has ended. Rows of ended objects are stored by parts
of ids, as the table needs them, so that memory is that of one layer, and of one part. Each layer
states its parts: a listing that fails, or is that of a moment ago, would leave objects out.

::

    rows of layer 0 ──> ended in layer 0 ──> parts 0, 1      ┐
      │ not ended                                            ├─> objects.parquet, part by part
    rows of layer 1 ──> ended in layer 1 ──> parts 0, 1, 2   ┘
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...base.geometry import Shape
from ...ledger.ownership import check_owner
from ..table.rows import ObjectRows
from ..table.table import TABLES, TableWriter
from ..table.table_spec import TableSpec
from .intermediates import file_name
from .tasks import ROWS, ObjectsJob

CARRIED: Final = "rows-carried"
ROWS_ENDED: Final = "rows-ended"
SWEPT: Final = "rows-swept"
IDS_PER_PART: Final = 2**16


@dataclass(frozen=True, slots=True)
class EndedParts:
    """The parts of ids that have rows which end in a layer, in ascending order."""

    numbers: NDArray[np.uint64]


def sweep_axis(grid: Shape) -> int:
    """Return the axis whose layers are swept.

    >>> sweep_axis((4, 3, 3)), sweep_axis((1, 3, 3)), sweep_axis((1, 1, 1))
    (0, 1, 0)
    """
    return next((axis for axis in range(3) if grid[axis] > 1), 0)


def sweep_layer(job: ObjectsJob, layer: int) -> int:
    """Store the rows of the objects that end in a layer; return how many there are."""
    files, axis = job.files, sweep_axis(job.plan.grid)
    parts = [files.get(ROWS, file_name(index), ObjectRows) for index in _blocks(job, layer)]
    if layer:
        parts.append(files.get(CARRIED, str(layer - 1), ObjectRows))
    rows = ObjectRows.merged(parts)
    is_last = layer + 1 == job.plan.grid[axis]
    stop = job.plan.shape[axis] if is_last else (layer + 1) * job.plan.core[axis]
    goes_on = (rows.last[:, axis] == stop - 1) & (not is_last)
    ended = rows.taken(~goes_on)
    check_owner(job.output, job.run_token)
    part = (ended.ids - np.uint64(1)) // np.uint64(IDS_PER_PART)
    numbers = np.unique(part)
    for number in numbers.tolist():
        files.put(ROWS_ENDED, f"{number}.{layer}", ended.taken(part == number))
    files.put(CARRIED, str(layer), rows.taken(goes_on))
    files.put(SWEPT, str(layer), EndedParts(numbers))  # last: it states that all is written
    return len(ended)


def _blocks(job: ObjectsJob, layer: int) -> Iterator[Shape]:
    axis = sweep_axis(job.plan.grid)
    ranges = [range(n) for n in job.plan.grid]
    ranges[axis] = range(layer, layer + 1)
    return itertools.product(*ranges)


def write_table(job: ObjectsJob, spec: TableSpec, with_csv: bool) -> int:
    """Write the table of all objects; return their number."""
    files = job.files
    stored = sorted(
        (number, layer)
        for layer in range(job.plan.grid[sweep_axis(job.plan.grid)])
        for number in files.get(SWEPT, str(layer), EndedParts).numbers.tolist()
    )
    check_owner(job.output, job.run_token)
    with TableWriter(job.output / TABLES, spec, with_csv=with_csv) as writer:
        for _, names in itertools.groupby(stored, key=lambda name: name[0]):
            rows = [files.get(ROWS_ENDED, file_name(name), ObjectRows) for name in names]
            writer.add(ObjectRows.merged(rows))
        return writer.objects
