"""Checks that an array's chunks are where its metadata says, by the names of a few.

A chunk that is not found reads as the fill value, without an error. So a wrong separator in the
metadata, or a copy that lost its chunks, looks like a black volume (zarr-python#840,
ome-zarr-py#343). Absent chunks may also be right: many writers leave out those of fill values.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import re
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import zarr

from ....base.errors import VolumeError
from ....base.location import Location
from ....base.store_errors import ANSWER_WITHIN_S, explained, is_denied
from ....base.stores import list_names, open_store, wait_for

_PLACES: Final = (0.1, 0.5, 0.9)
_LOOKED_AT: Final = 64
_METADATA = re.compile(r"\.z\w+|zarr\.json")
_NAMES: Final = (
    (re.compile(r"\d+"), "", "/"),
    (re.compile(r"\d+(\.\d+)+"), "", "."),
    (re.compile(r"c"), "c", "/"),
    (re.compile(r"c(\.\d+)+"), "c", "."),
)
"""Pattern of what lies in an array's folder; prefix and separator of such chunk keys."""
_Index: TypeAlias = tuple[int, ...]


def missing_chunks(array: zarr.Array[Any], location: Location, axes: str) -> tuple[str, ...]:
    """Return a note if most chunks that were looked at are not stored.

    location: the array's own. axes: one letter each. Raises VolumeError if chunks lie under other
    names than the metadata says.
    """
    stored = array.shards or array.chunks
    grid = tuple(-(-n // c) for n, c in zip(array.shape, stored, strict=True))
    first = _found(array, location, _spread(grid))
    if 2 * sum(first.values()) >= len(first):
        return ()
    total = math.prod(grid)
    numbers = range(0, total, max(1, total // _LOOKED_AT))
    looked_at = first | _found(array, location, [_index(number, grid) for number in numbers])
    found = sum(looked_at.values())
    if 2 * found >= len(looked_at):
        return ()
    if not found:
        _check_names(array, location, axes)
    return (
        f"{found or 'none'} of {len(looked_at)} chunks that were looked at are stored, and the "
        f"others read as the fill value {array.fill_value}: is the copy of the input complete?",
    )


def _spread(grid: _Index) -> list[_Index]:
    """Return a chunk in the middle of the grid, and those near its corners."""
    middle = tuple(n // 2 for n in grid)
    ends = [sorted({int(n * place) for place in (_PLACES[0], _PLACES[-1])}) for n in grid]
    return sorted({middle, *itertools.islice(itertools.product(*ends), 32)})


def _index(number: int, grid: _Index) -> _Index:
    return tuple(map(int, np.unravel_index(number, grid)))


def _found(
    array: zarr.Array[Any], location: Location, indices: Sequence[_Index]
) -> dict[_Index, bool]:
    """Return for each chunk whether it is stored; one that cannot be asked for counts as stored.

    Its blocks will be set aside with the reason, and the others are computed.
    """
    store = open_store(location)
    keys = [array.metadata.encode_chunk_key(index) for index in indices]

    async def exists(key: str) -> bool:
        try:
            return await store.exists(key)
        except Exception as error:
            return not is_denied(error)  # denied: S3 without the right to list

    async def all_exist() -> list[bool]:
        return await asyncio.gather(*map(exists, keys))

    with explained(VolumeError, location):
        answers = wait_for(all_exist(), timeout_s=ANSWER_WITHIN_S)
    return dict(zip(indices, answers, strict=True))


def _check_names(array: zarr.Array[Any], location: Location, axes: str) -> None:
    """Raise VolumeError if the array's folder holds chunks under other names."""
    names = [name for name in list_names(location) or () if not _METADATA.fullmatch(name)]
    key = array.metadata.encode_chunk_key((0,) * array.ndim)
    said = key.translate({ord("0"): None}).strip("./")
    separator = "/" if "/" in key else "."
    for pattern, prefix, other in _NAMES:
        if any(map(pattern.fullmatch, names)) and (prefix, other) != (said[:1], separator):
            advice = '"chunk_key_encoding" in zarr.json'
            if array.metadata.zarr_format == 2:
                advice = f'"dimension_separator": "{other}" in .zarray'
            raise VolumeError(
                f"{location}: no chunk is where the metadata says: the files are named "
                f"{_shown(prefix, other, axes)}, the metadata says "
                f"{_shown(said[:1], separator, axes)}; correct {advice}"
            )


def _shown(prefix: str, separator: str, axes: str) -> str:
    return separator.join([*prefix, *axes])
