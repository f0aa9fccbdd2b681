"""What is counted of every object, in integers: rows of blocks add up to the rows of the volume."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ...base.errors import OutputError
from .exact import INTEGER_LIMBS, Integers, Limbs, sums_of_groups

FLOAT_LIMBS: Final = 11
"""Limbs of a sum of float32: 277 bits from the smallest to the largest, and 63 of voxels."""
FLOAT_UNIT_EXPONENT: Final = -149
"""Sums of float32 count the smallest float32, 2**-149; every float32 is a multiple of it."""

MOMENTS: Final = ("z", "y", "x", "zz", "yy", "xx", "zy", "zx", "yx")
"""The sums of coordinates and of their products, in the order of ``ObjectRows.moments``."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ObjectRows:
    """One row per object, ids ascending. Coordinates are voxels of the labelled volume.

    Every column is an integer, an exact sum (:mod:`.exact`), a minimum or a maximum. So rows of
    blocks are merged in any order and equal the rows of the whole volume, bit for bit, also where
    the intensities are floats. Nothing overflows: a volume has fewer than 2**63 voxels and fewer
    than 2**31 along an axis.
    """

    ids: NDArray[np.uint64]
    """(objects,)"""
    voxels: Integers
    """(objects,)"""
    moments: Limbs
    """(objects, 9, 4): sums over the voxels, in the order of :data:`MOMENTS`."""
    score_sums: Limbs
    """(objects, 4): of stored integer scores; 0 where none were given."""
    first: Integers
    """(objects, 3): lowest z, y, x."""
    last: Integers
    """(objects, 3): highest z, y, x, inclusive."""
    inner_faces: Integers
    """(objects, 3): voxel faces across z, y, x to another object or background, in the volume."""
    outer_faces: Integers
    """(objects, 3): voxel faces across z, y, x at the volume's edge; not in ``inner_faces``."""
    intensity_sums: Limbs
    """(objects, channels, 4) of integers; (…, 11) of floats, in units of 2**-149."""
    intensity_voxels: Integers
    """(objects, channels): voxels in the sums; NaN and values infinite in float32 are left out."""
    intensity_min: NDArray[Any]
    """(objects, channels), in the image's dtype; +inf where no value is finite."""
    intensity_max: NDArray[Any]
    """(objects, channels), in the image's dtype; -inf where no value is finite."""

    @classmethod
    def empty(cls, channels: int = 0, *, dtype: Any = np.uint8) -> ObjectRows:
        """Return rows of no object; channels: of the intensities, of this dtype."""
        kept = kept_dtype(dtype)
        limbs = FLOAT_LIMBS if kept.kind == "f" else INTEGER_LIMBS
        return cls(
            ids=np.empty(0, np.uint64),
            voxels=np.empty(0, np.int64),
            moments=np.empty((0, len(MOMENTS), INTEGER_LIMBS), np.uint32),
            score_sums=np.empty((0, INTEGER_LIMBS), np.uint32),
            first=np.empty((0, 3), np.int64),
            last=np.empty((0, 3), np.int64),
            inner_faces=np.empty((0, 3), np.int64),
            outer_faces=np.empty((0, 3), np.int64),
            intensity_sums=np.empty((0, channels, limbs), np.uint32),
            intensity_voxels=np.empty((0, channels), np.int64),
            intensity_min=np.empty((0, channels), kept),
            intensity_max=np.empty((0, channels), kept),
        )

    @classmethod
    def merged(cls, parts: Iterable[ObjectRows]) -> ObjectRows:
        """Return the rows of all parts, at least one: rows of the same id become one.

        The parts have the same channels in the same dtype; their voxels do not overlap.
        """
        every = list(parts)
        assert len({(part.channels, part.intensity_min.dtype) for part in every}) == 1
        joined = {
            column.name: np.concatenate([getattr(part, column.name) for part in every])
            for column in fields(cls)
        }
        order = np.argsort(joined["ids"], kind="stable")
        ids = joined.pop("ids")[order]
        if not len(ids):
            return every[0]
        starts = np.flatnonzero(np.concatenate(([True], ids[1:] != ids[:-1])))
        merged = {
            name: _merged_column(name, column[order], starts) for name, column in joined.items()
        }
        return cls(ids=ids[starts], **merged)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def channels(self) -> int:
        """Number of channels of the intensities."""
        return self.intensity_min.shape[1]

    def taken(self, rows: NDArray[np.bool_] | NDArray[np.intp] | slice) -> ObjectRows:
        """Return some of the rows, which stay ascending."""
        return ObjectRows(
            **{column.name: getattr(self, column.name)[rows] for column in fields(self)}
        )

    def renamed(self, ids: NDArray[np.uint64]) -> ObjectRows:
        """Return the rows with other ids, one per row and ascending."""
        columns = {column.name: getattr(self, column.name) for column in fields(self)}
        return ObjectRows(**(columns | {"ids": ids}))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ObjectRows):
            return NotImplemented
        pairs = ((getattr(self, c.name), getattr(other, c.name)) for c in fields(self))
        return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)

    __hash__ = None  # type: ignore[assignment]  # arrays are compared, not hashed

    def to_bytes(self) -> bytes:
        """Return the content of an .npz file: the same bytes for the same rows, no pickle."""
        file = io.BytesIO()
        columns = {column.name: getattr(self, column.name) for column in fields(self)}
        np.savez_compressed(file, allow_pickle=False, **columns)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> ObjectRows:
        """Return the rows of :meth:`to_bytes`. Raises OutputError for any other content."""
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                return cls(**{column.name: file[column.name] for column in fields(cls)})
        except Exception as error:  # zipfile, zlib and numpy raise a dozen kinds for damaged files
            raise OutputError(
                f"rows of objects are damaged ({len(content)} bytes): expected the .npz of a run; "
                "delete the file and start the run again"
            ) from error


def kept_dtype(dtype: Any) -> np.dtype[Any]:
    """Return the dtype in which intensities of a dtype are kept: integers stay, floats are float32.

    float64 is rounded to float32, whose sums are exact in 11 limbs; float64 would take 68.
    """
    given = np.dtype(dtype)
    if given.kind == "b":
        return np.dtype(np.uint8)
    return np.dtype(np.float32) if given.kind == "f" else given.newbyteorder("=")


def _merged_column(name: str, column: NDArray[Any], starts: NDArray[np.intp]) -> NDArray[Any]:
    """Return one row per group of rows that starts at ``starts``."""
    if name in ("moments", "score_sums", "intensity_sums"):
        return sums_of_groups(column, starts)
    if name in ("first", "intensity_min"):
        return np.minimum.reduceat(column, starts, axis=0)
    if name in ("last", "intensity_max"):
        return np.maximum.reduceat(column, starts, axis=0)
    if name in ("voxels", "inner_faces", "outer_faces", "intensity_voxels"):
        return np.add.reduceat(column, starts, axis=0)
    raise AssertionError(f"how rows of {name} are put together is not stated")
