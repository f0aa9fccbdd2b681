"""Finished objects: their labels, and the rows of their table, a part at a time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ...base.errors import VolumeError
from ...base.geometry import Box
from ...base.json_text import inner_object, json_value
from ...base.location import Location
from ...base.similar_path import similar_text
from ...base.stores import read_node
from ...output.guard import RUN_GROUP
from ...output.kinds import OBJECTS_PATH
from ...volume.volume import VolumeSource, find_volume
from .table import PARQUET, TABLES
from .table_file import exists, opened_table

_CORNERS: Final = tuple(f"box_{axis}{end}" for end in (0, 1) for axis in "zyx")


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedObjects:
    """The objects of one output. Small."""

    output: Location
    """Has the table; the labels are this image, or inside it."""
    labels: VolumeSource
    table: Location
    is_flat: bool
    """Whether every object lies in one z: the volume has one, or ``--per-slice``."""
    name: str
    """What an object is: the class that objects consist of; ``object`` without a name, and between
    boundaries."""
    count: int
    identity: str
    """Of the run that made them."""

    def rows(self, ids: NDArray[np.uint64] | None, *, most: int) -> Iterator[TableRows]:
        """Yield the rows of all objects, or of some, in the order of their ids.

        most: rows at once. Raises OutputError where the table cannot be read.
        """
        with opened_table(self.table) as file:
            for batch in file.iter_batches(batch_size=most):
                columns = {name: batch.column(name) for name in batch.schema.names}
                found: NDArray[np.uint64] = columns["id"].to_numpy()
                rows = np.arange(len(found)) if ids is None else np.flatnonzero(np.isin(found, ids))
                if len(rows):
                    yield TableRows(
                        columns={name: one.take(rows) for name, one in columns.items()},
                    )


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TableRows:
    """Some rows of a table, column by column, as pyarrow arrays."""

    columns: dict[str, Any]

    @property
    def ids(self) -> NDArray[np.uint64]:
        """The objects, ascending."""
        return np.asarray(self.columns["id"].to_numpy())

    @property
    def voxels(self) -> NDArray[np.int64]:
        """Voxels of each object."""
        return np.asarray(self.columns["voxels"].to_numpy())

    @property
    def corners(self) -> NDArray[np.int64]:
        """First voxel and the one after the last of each object (n, 2, 3), in the labels."""
        columns = [self.columns[name].to_numpy() for name in _CORNERS]
        return np.stack(columns, axis=1).reshape(-1, 2, 3)

    def box(self, row: int) -> Box:
        """Return the box of an object in the labels."""
        start, stop = self.corners[row].tolist()
        return Box(tuple(start), tuple(stop))


def find_finished(location: Location) -> FinishedObjects:
    """Return the objects of an output; reads metadata only.

    location: an output of ``overtile objects`` or ``overtile segment --objects``, or its labels.
    Raises VolumeError where there are none.
    """
    for output in _outputs(location):
        if exists(output / TABLES / PARQUET) and _is_complete(output):
            return _finished(output)
    if location.is_local and not location.path.exists():
        raise VolumeError(f"{location} does not exist{similar_text(location.path)}")
    unfinished = any(_is_run(output) for output in _outputs(location))
    raise VolumeError(
        f"{location} holds no {'finished objects' if unfinished else 'objects'}: expected an "
        "output of overtile objects, or of overtile segment --objects"
        + (", whose run is complete" if unfinished else "")
    )


def _outputs(location: Location) -> Iterator[Location]:
    """Yield where the table of an output may be."""
    yield location
    yield location / OBJECTS_PATH
    if location.uri.endswith(f"/{OBJECTS_PATH}"):
        yield Location(location.uri.removesuffix(f"/{OBJECTS_PATH}"))


def _is_run(output: Location) -> bool:
    run = read_node(output, path=RUN_GROUP)
    return run is not None and inner_object(run.attributes, "job").get("kind") == "objects"


def _is_complete(output: Location) -> bool:
    """Return whether a run's objects are all there; verify --repair takes some back."""
    run = read_node(output, path=RUN_GROUP)
    return run is None or run.attributes.get("pyramid") == "complete"


def _finished(output: Location) -> FinishedObjects:
    inside = read_node(output, path=OBJECTS_PATH) is not None
    table = output / TABLES / PARQUET
    with opened_table(table) as file:
        stated = json_value(file.schema_arrow.metadata[b"overtile.objects"])
        is_flat = bool(stated["is_flat"])
        count = file.metadata.num_rows
    run = read_node(output, path=RUN_GROUP)
    made = run.attributes if run else {}
    return FinishedObjects(
        output=output,
        labels=find_volume(output / OBJECTS_PATH if inside else output),
        table=table,
        is_flat=is_flat,
        name=_name(made),
        count=count,
        identity=_digest([made.get("job"), made.get("provenance"), count]),
    )


def _name(stated: Mapping[str, Any]) -> str:
    name = str(inner_object(stated, "provenance").get("class", ""))
    is_foreground = inner_object(stated, "job").get("role") == "foreground"
    return name if is_foreground and name and not name.isdecimal() else "object"


def _digest(values: Any) -> str:
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
