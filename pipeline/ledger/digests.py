"""The digests of what blocks and coarser levels have written: arrays in the group ``digests``.

One number per cell: a block of level 0, a shard of a coarser level. 0: none is recorded, because
the cell is not written yet, or was written by a version without digests.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store

from ..base.geometry import Shape
from ..base.location import Location
from ..output.cells import CellDigest
from ..output.documents import built_in_memory, put_missing
from ..output.guard import RUN_GROUP
from .chunkwise import raise_if_unreachable, read_chunkwise

GROUP: Final = "digests"
PATHS: Final = "paths"
"""Attribute of the group: paths of the arrays of the output. A store need not be able to list."""
SIZE: Final = "size"
"""Attribute of an array of digests: voxels of a cell per axis."""
CHUNK: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDigests:
    """The digests of an array of the output, as they are stored."""

    path: str
    size: Shape
    values: NDArray[np.uint64]
    is_damaged: bool = False
    """Some of them cannot be read: these are 0."""


class Digests:
    """The digests of one ledger: read when the first one is put. Not thread-safe."""

    def __init__(self, output: Location, ledger: zarr.Group) -> None:
        self._output = output
        self._ledger = ledger
        self._open: dict[str, tuple[Any, NDArray[np.uint64]]] = {}

    def put(self, cells: Iterable[CellDigest]) -> None:
        """Write the digests of some cells."""
        touched: dict[str, set[Shape]] = {}
        for cell in cells:
            _, values = self._array(cell)
            values[cell.index] = cell.value
            chunks = touched.setdefault(cell.path, set())
            chunks.add(tuple(i // CHUNK for i in cell.index))
        for path, chunks in touched.items():
            array, values = self._open[path]
            for chunk in chunks:
                place = tuple(slice(c * CHUNK, (c + 1) * CHUNK) for c in chunk)
                array[place] = values[place]

    def _array(self, cell: CellDigest) -> tuple[Any, NDArray[np.uint64]]:
        if cell.path not in self._open:
            array = _require(
                self._output, self._ledger, cell.path, cells=cell.cells, size=cell.size
            )
            self._open[cell.path] = array, read_chunkwise(array)[0]
        return self._open[cell.path]


def read_digests(ledger: zarr.Group) -> list[StoredDigests]:
    """Return all digests of a ledger; none if a version without digests has written it.

    Arrays of digests that are missing, or whose document is torn, are left out.
    """
    found = []
    for path in digested_paths(ledger):
        try:
            array: Any = ledger[node_path(path)]
            values, lost = read_chunkwise(array)
            size = tuple(array.attrs[SIZE])
        except Exception as error:
            raise_if_unreachable(error)
            continue
        found.append(
            StoredDigests(path=path, size=size, values=values, is_damaged=bool(lost.any()))
        )
    return found


def digested_paths(ledger: zarr.Group) -> list[str]:
    """Return the paths of the arrays of the output that have digests."""
    try:
        group: Any = ledger[GROUP]
    except Exception as error:  # a version without digests, or a torn document
        raise_if_unreachable(error)
        return []
    return list(group.attrs.get(PATHS) or ())


def node_path(path: str) -> str:
    """Return the path, in a ledger, of the digests of an array of the output."""
    return f"{GROUP}/{_name(path)}"


def forget_digests(ledger: zarr.Group, path: str) -> None:
    """Remove an array of digests from the list of a ledger: the next digest creates it again."""
    group: Any = ledger[GROUP]
    group.attrs[PATHS] = [one for one in group.attrs.get(PATHS) or () if one != path]


def merge_digests(output: Location, ledger: zarr.Group, parts: Sequence[zarr.Group]) -> None:
    """Add the digests of the parts of a ledger to those of the whole."""
    for part in parts:
        for found in read_digests(part):
            cells = found.values.shape
            array = _require(output, ledger, found.path, cells=cells, size=found.size)
            whole, _ = read_chunkwise(array)
            array[...] = np.where(found.values, found.values, whole)


def _require(output: Location, ledger: zarr.Group, path: str, *, cells: Shape, size: Shape) -> Any:
    """Return the array of digests of an array of the output, created if missing.

    Only its own documents are written: Zarr would also write those above it, and so bring back the
    ledger of an output that was deleted.
    """
    folder, name = f"{ledger.path}/{GROUP}".lstrip("/"), _name(path)

    def build(store: Store) -> None:
        group = zarr.open_group(
            store, path=folder, mode="a", zarr_format=ledger.metadata.zarr_format
        )
        chunks = tuple(min(n, CHUNK) for n in cells)
        array = group.create_array(name, shape=cells, chunks=chunks, dtype="uint64", fill_value=0)
        array.attrs[SIZE] = list(size)

    documents = built_in_memory(build)
    own = {key: text for key, text in documents.items() if key.startswith(f"{folder}/")}
    put_missing(output / RUN_GROUP, own)  # the store in which a ledger is opened
    group: Any = ledger[GROUP]
    paths: Any = group.attrs.get(PATHS) or []
    if path not in paths:
        group.attrs[PATHS] = [*paths, path]
    return group[name]


def _name(path: str) -> str:
    return path.replace("/", ".")
