"""The header of a safetensors file, read without torch: list of tensors and metadata.

A file is eight bytes (little-endian length of the header), the header (JSON), then the tensors, one
after the other without a gap.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

from pipeline.base.checked import shown
from pipeline.base.errors import WeightsError
from pipeline.base.json_text import json_value

from .foreign_file import OTHER_MODEL, describe

LENGTH_BYTES = 8
LONGEST_HEADER = 2**24
"""Bytes; the library takes 100 MB, ours are some kilobytes. First bytes of others are more."""
METADATA = "__metadata__"
ITEM_BYTES: Final = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 8),
}
"""Bytes of one value by safetensors' name of its type."""
_DESCRIBED_BYTES: Final = 2**16
"""How much of a file of another format is read to name its format."""


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor of the header; ``start`` and ``stop`` count from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def read(uri: str, content: bytes) -> tuple[dict[str, TensorEntry], dict[str, str]]:
    """Return the tensors by name, and the metadata.

    Raises WeightsError, naming ``uri``, for a pickle, another format, a truncated file, and a
    header that does not describe what follows it.
    """
    length = int.from_bytes(content[:LENGTH_BYTES], "little")
    start = LENGTH_BYTES + length
    if not _may_be_header(content):
        raise _format_error(uri, content, None)
    if start > len(content):
        raise _truncated(uri, start, len(content))
    try:
        entries = json_value(content[LENGTH_BYTES:start])
        metadata = _metadata(entries.pop(METADATA, {}))
        tensors = {name: _entry(entry) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise WeightsError(
            f"weights {uri!r} are not a safetensors file: the header cannot be parsed"
        ) from error
    wanted = start + max((entry.stop for entry in tensors.values()), default=0)
    if wanted > len(content):
        raise _truncated(uri, wanted, len(content))
    _check_layout(uri, tensors, len(content) - start)
    return tensors, metadata


def check_format(uri: str, file: BinaryIO) -> None:
    """Raise WeightsError for a file of another format, or shorter than its header; reads little."""
    head = file.read(LENGTH_BYTES + 1)
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if not _may_be_header(head):
        raise _format_error(uri, file.read(_DESCRIBED_BYTES), file)
    if (start := LENGTH_BYTES + int.from_bytes(head[:LENGTH_BYTES], "little")) > size:
        raise _truncated(uri, start, size)


def with_sorted_metadata(content: bytes, **changes: str) -> bytes:
    """Return the same file with sorted metadata, and some of it changed.

    The library writes metadata in random order (safetensors 0.8.0); the digest must not depend on
    it.
    """
    start = LENGTH_BYTES + int.from_bytes(content[:LENGTH_BYTES], "little")
    header: dict[str, Any] = json.loads(content[LENGTH_BYTES:start])
    header[METADATA] = dict(sorted({**header[METADATA], **changes}.items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % LENGTH_BYTES)  # keeps the tensors aligned
    return len(text).to_bytes(LENGTH_BYTES, "little") + text + content[start:]


def _may_be_header(head: bytes) -> bool:
    length = int.from_bytes(head[:LENGTH_BYTES], "little")
    return head[LENGTH_BYTES : LENGTH_BYTES + 1] == b"{" and length <= LONGEST_HEADER


def _metadata(stated: Any) -> dict[str, str]:
    if not all(isinstance(text, str) for text in stated.values()):
        raise TypeError("metadata are texts")
    return dict(stated)


def _entry(entry: dict[str, Any]) -> TensorEntry:
    dtype, shape, (start, stop) = entry["dtype"], entry["shape"], entry["data_offsets"]
    numbers = [*shape, start, stop]
    if not isinstance(dtype, str) or not all(type(one) is int and one >= 0 for one in numbers):
        raise TypeError("a tensor has a type, sizes and offsets")
    return TensorEntry(dtype, tuple(shape), start, stop)


def _check_layout(uri: str, tensors: Mapping[str, TensorEntry], size: int) -> None:
    """Raise WeightsError unless tensors have the bytes of their shapes and fill the file.

    size: bytes of the file after its header.
    """
    end = 0
    for name, entry in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].stop)):
        stated, item_bytes = entry.stop - entry.start, ITEM_BYTES.get(entry.dtype)
        wanted = stated if item_bytes is None else math.prod(entry.shape) * item_bytes
        if stated != wanted:
            raise damaged(
                uri,
                f"tensor {shown(name)} of {entry.dtype} has {shown(stated)} bytes, its shape "
                f"{shown(list(entry.shape))} needs {shown(wanted)}",
            )
        if entry.start != end:
            raise damaged(uri, f"tensor {shown(name)} starts at byte {entry.start}, not {end}")
        end = entry.stop
    if end != size:
        raise damaged(uri, f"{size - end} bytes follow the last tensor")


def damaged(uri: str, problem: str) -> WeightsError:
    """Return the error for a file that contradicts its header."""
    return WeightsError(f"weights {uri!r} are damaged ({problem}): copy or download them again")


def _truncated(uri: str, wanted: int, found: int) -> WeightsError:
    return WeightsError(
        f"weights {uri!r} are truncated: {found} of {shown(wanted)} bytes; copy or download them "
        "again"
    )


def _format_error(uri: str, content: bytes, file: BinaryIO | None) -> WeightsError:
    return WeightsError(f"weights {uri!r} {_format_problem(uri, content, file)}")


def _format_problem(uri: str, content: bytes, file: BinaryIO | None) -> str:
    if len(content) <= LENGTH_BYTES:
        return f"are truncated: {len(content)} bytes; copy or download them again"
    if (found := describe(uri, content, file)) is not None:
        return f"are {found[0]}: {found[1]}"
    return (
        "are not a safetensors file: expected one of overtile train or unet.save_weights; "
        f"{OTHER_MODEL}"
    )
