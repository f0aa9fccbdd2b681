"""The border between volumes and image formats: what a format states, and how it is read.

A format is one module with an object that satisfies ``ImageFormat``, and an entry in
``known_formats.py``.
Nothing outside this folder depends on which format a volume has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np

from ...base.location import Location

ZYX: TypeAlias = tuple[float, float, float]
Units: TypeAlias = tuple[str | None, str | None, str | None]
Selection: TypeAlias = tuple[slice | int, ...]


class Readable(Protocol):
    """An opened array. Reading is thread-safe."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of each stored axis."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of what is read; its byte order may differ from the machine's."""

    def __getitem__(self, selection: Selection) -> Any:
        """Return the voxels of slices (step 1, inside the array) and of single indices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredImage:
    """One array of one image, as its format states it; no voxel was read.

    Sizes follow ``axes``, the stored axes (of ``tczyx``, in any order).
    """

    store: Location
    path: str  # of the array inside the store: a Zarr path, or series and level of a file
    axes: str
    shape: tuple[int, ...]
    dtype: str  # name, without byte order
    chunks: tuple[int, ...]  # the unit of a read
    channel_names: tuple[str, ...] = ()
    voxel_size: ZYX = (1.0, 1.0, 1.0)  # negative along axes that are stored backwards
    unit: Units = (None, None, None)
    translation: ZYX = (0.0, 0.0, 0.0)
    image: Location | None = None  # to be described with another level; None: it has one only
    level_names: tuple[str, ...] = ()  # of the image, the finest first
    name: str | None = None
    axes_are_stated: bool = True  # False: assumed from the number of axes
    painted_classes: tuple[str, ...] = ()  # names, of labels where 0 is unknown and k + 1 class k
    description: Mapping[str, Any]  # JSON values; with the location, they identify the input
    notes: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """The array's location, for messages."""
        return str(self.store / self.path)


class ImageFormat(Protocol):
    """A format that overtile reads."""

    name: str

    def recognises(self, location: Location) -> bool:
        """Return whether the location holds an image of this format; reads little, never raises."""

    def describe(
        self, location: Location, *, level: int | str | None, axes: str | None
    ) -> StoredImage:
        """Return the array at a level; None is the finest. ``axes`` override those of the image.

        Raises VolumeError, one line, for whatever cannot be read as requested.
        """

    def open(self, store: Location, path: str) -> Readable:
        """Open the array of a StoredImage for reading, in any process."""
