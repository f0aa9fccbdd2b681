"""Takes over the fragments of a block from an earlier output where its scores are the same.

Fragments are a function of a block's scores, halo included, and of the definition of objects. So a
digest of these scores says whether the files of the earlier output are those of this block.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ...base.geometry import Box, Shape
from .intermediates import Intermediates, file_name, pack, unpack

INPUTS: Final = "inputs"
"""The stage of the digests of what blocks are labelled from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockInput:
    """What a block was labelled from: 16 bytes of a digest."""

    digest: NDArray[np.uint8]


def input_of(
    scores: NDArray[Any], within: NDArray[np.bool_] | None, *, core: Box, shape: Shape
) -> BlockInput:
    """Return the digest of a block's scores, of where objects can be, and of the block's place.

    core: the block's box in the volume of ``shape``; fragments are named by their place.
    """
    whole = hashlib.blake2b(f"{core}{shape}".encode(), digest_size=16)
    for values in (scores, within):
        if values is not None:
            whole.update(f"{values.dtype.str}{values.shape}".encode())
            whole.update(np.ascontiguousarray(values).data)
    return BlockInput(digest=np.frombuffer(whole.digest(), np.uint8))


def is_taken_over(
    earlier: Intermediates, index: Shape, given: BlockInput, *, to: Intermediates,
    stages: tuple[str, ...],
) -> bool:  # fmt: skip
    """Copy a block's files of some stages from the earlier output, the last one at the end.

    Return whether that was possible: False where the scores differ, or a file is missing.
    """
    name = file_name(index)
    stored = earlier.find(INPUTS, name)
    if stored is None or not _is_same(stored, given):
        return False
    contents = [(stage, earlier.find(stage, name)) for stage in stages]
    if any(content is None for _, content in contents):
        return False
    to.put_packed(INPUTS, name, pack(given))
    for stage, content in contents:
        to.put_packed(stage, name, content or b"")
    return True


def _is_same(stored: bytes, given: BlockInput) -> bool:
    try:
        return bool(np.array_equal(unpack(stored, BlockInput).digest, given.digest))
    except Exception:  # damaged bytes raise errors of any kind
        return False
