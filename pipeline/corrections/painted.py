"""What is painted in corrections: read chunk by chunk, of those that exist."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from ..base.errors import LabelError, VolumeError
from ..base.geometry import Box, Shape
from ..base.store_errors import ANSWER_WITHIN_S, explained
from ..base.stores import open_store, wait_for
from ..volume.label_mapping import LabelMapping
from ..volume.volume import VolumeSource, read_box
from .segmented import Segmented

OnChunk = Callable[[int, int], None]
"""Called after each chunk with the number of chunks that are read, and of all that exist."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Painted:
    """Counts of painted voxels.

    voxels, changed: per class; changed ones are of another class in the output. blocks: painted
    voxels by block of the output. digest: of all painted voxels and where they lie.
    """

    voxels: tuple[int, ...]
    changed: tuple[int, ...]
    blocks: Mapping[Shape, int] = field(default_factory=dict)
    digest: str = ""

    @property
    def total(self) -> int:
        """Painted voxels of all classes."""
        return sum(self.voxels)


def count_painted(
    corrections: VolumeSource, segmented: Segmented, *, on_chunk: OnChunk = lambda *_: None
) -> Painted:
    """Count what is painted in the corrections of an output.

    Raises LabelError for a value that stands for no class, VolumeError where a chunk of the
    corrections or of the classes cannot be read.
    """
    classes = len(segmented.class_names)
    voxels, changed = np.zeros(classes, np.int64), np.zeros(classes, np.int64)
    blocks: dict[Shape, int] = {}
    digest = hashlib.blake2b(digest_size=16)
    for box, stored in painted_chunks(corrections, segmented, on_chunk=on_chunk):
        known = stored > 0
        new = stored[known].astype(np.int64) - 1
        old = read_box(segmented.classes, box)[0][known]
        voxels += np.bincount(new, minlength=classes)
        changed += np.bincount(new[new != old], minlength=classes)
        digest.update(f"{box.start}{box.shape}".encode() + np.ascontiguousarray(stored).tobytes())
        places = (np.argwhere(known) + box.start) // segmented.block
        for place, count in zip(*np.unique(places, axis=0, return_counts=True), strict=True):
            index = tuple(map(int, place))
            blocks[index] = blocks.get(index, 0) + int(count)
    return Painted(
        voxels=tuple(voxels.tolist()), changed=tuple(changed.tolist()), blocks=blocks,
        digest=digest.hexdigest(),
    )  # fmt: skip


def painted_chunks(
    corrections: VolumeSource, segmented: Segmented, *, on_chunk: OnChunk = lambda *_: None
) -> Iterator[tuple[Box, NDArray[Any]]]:
    """Yield the boxes (z, y, x) of the chunks with a painted voxel, and their stored values."""
    boxes = list(_stored_boxes(corrections))
    for number, box in enumerate(boxes, start=1):
        stored = read_box(corrections, box)[0]
        _check_values(stored, box, corrections, segmented)
        on_chunk(number, len(boxes))
        if stored.any():
            yield box, stored


def _check_values(
    stored: NDArray[Any], box: Box, corrections: VolumeSource, segmented: Segmented
) -> None:
    """Raise LabelError for the first value that stands for no class."""
    wrong = (stored > len(segmented.class_names)) | (stored < 0)
    if wrong.any():
        place = np.argwhere(wrong)[0]
        z, y, x = (place + box.start).tolist()
        raise LabelError(
            f"{corrections.location} holds the value {stored[tuple(place)]} at z {z}, y {y}, "
            f"x {x}: expected {LabelMapping(segmented.class_names).text}; erase it, or paint one "
            "of these"
        )


def _stored_boxes(corrections: VolumeSource) -> Iterator[Box]:
    """Yield the boxes of the chunks that exist; of all chunks where a store cannot list them."""
    whole, location = corrections.shape_zyx, corrections.location
    with explained(VolumeError, location):
        array: Any = zarr.open_array(open_store(location), mode="r")
    names, first = _names(corrections), 3 - array.ndim
    chunk = (1,) * first + tuple(array.shards or array.chunks)
    for place in itertools.product(*(range(-(-n // c)) for n, c in zip(whole, chunk, strict=True))):
        if names is None or array.metadata.encode_chunk_key(place[first:]) in names:
            start = tuple(p * c for p, c in zip(place, chunk, strict=True))
            stop = tuple(a + c for a, c in zip(start, chunk, strict=True))
            yield Box(start, stop).clipped_to(Box.of_shape(whole))


def _names(corrections: VolumeSource) -> frozenset[str] | None:
    """Return the names of the files below the array; None where they cannot be listed."""

    async def listed() -> list[str]:
        return [name async for name in open_store(corrections.location).list()]

    try:
        return frozenset(wait_for(listed(), timeout_s=ANSWER_WITHIN_S))
    except Exception:  # many HTTP servers cannot list
        return None
