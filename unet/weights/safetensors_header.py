"""The header of a safetensors file, read without torch: list of tensors and metadata.

A file is eight bytes (little-endian length of the header), the header (JSON), then the tensors.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pipeline.base.errors import WeightsError

from .foreign_file import OTHER_MODEL, describe

LENGTH_BYTES = 8
LONGEST_HEADER = 100_000_000
"""Bytes; the limit of the safetensors library. The first bytes of other formats are more."""
METADATA = "__metadata__"


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor of the header; ``stop`` is the offset of its end from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    stop: int


def read(uri: str, content: bytes) -> tuple[dict[str, TensorEntry], dict[str, str]]:
    """Return the tensors by name, and the metadata.

    Raises WeightsError, naming ``uri``, for a pickle, another format, or a truncated file.
    """
    length = int.from_bytes(content[:LENGTH_BYTES], "little")
    start = LENGTH_BYTES + length
    if content[LENGTH_BYTES : LENGTH_BYTES + 1] != b"{" or length > LONGEST_HEADER:
        raise WeightsError(f"weights {uri!r} {_format_problem(uri, content)}")
    if start > len(content):
        raise _truncated(uri, start, len(content))
    try:
        entries = json.loads(content[LENGTH_BYTES:start])
        metadata = entries.pop(METADATA, {})
        tensors = {name: _entry(entry) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"weights {uri!r} are not a safetensors file: the header cannot be parsed"
        ) from error
    wanted = start + max((entry.stop for entry in tensors.values()), default=0)
    if wanted > len(content):
        raise _truncated(uri, wanted, len(content))
    return tensors, metadata


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


def _entry(entry: dict[str, Any]) -> TensorEntry:
    return TensorEntry(entry["dtype"], tuple(entry["shape"]), int(entry["data_offsets"][1]))


def _truncated(uri: str, wanted: int, found: int) -> WeightsError:
    return WeightsError(
        f"weights {uri!r} are truncated: {found} of {wanted} bytes; copy or download them again"
    )


def _format_problem(uri: str, content: bytes) -> str:
    if len(content) <= LENGTH_BYTES:
        return f"are truncated: {len(content)} bytes; copy or download them again"
    if (found := describe(uri, content)) is not None:
        return f"are {found[0]}: {found[1]}"
    return (
        "are not a safetensors file: expected one of overtile train or unet.save_weights; "
        f"{OTHER_MODEL}"
    )
