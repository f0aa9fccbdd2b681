"""The header of a safetensors file, read without torch: which tensors it holds, and its metadata.

A file is eight bytes (little-endian length of the header), the header (JSON), then the tensors.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pipeline.base.errors import WeightsError

LENGTH_BYTES = 8
METADATA = "__metadata__"


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor as the header names it; ``stop`` counts from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    stop: int


def read(uri: str, content: bytes) -> tuple[dict[str, TensorEntry], dict[str, str]]:
    """Return the tensors by name, and the metadata.

    Raises WeightsError, naming ``uri``, for a pickle, another foreign file, or one that is cut off.
    """
    length = int.from_bytes(content[:LENGTH_BYTES], "little")
    start = LENGTH_BYTES + length
    if content[LENGTH_BYTES : LENGTH_BYTES + 1] != b"{":
        raise WeightsError(f"weights {uri!r} {_what_it_is(content)}")
    if start > len(content):
        raise _cut_off(uri, start, len(content))
    try:
        entries = json.loads(content[LENGTH_BYTES:start])
        metadata = entries.pop(METADATA, {})
        tensors = {name: _entry(entry) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"weights {uri!r} are no safetensors file: the header is broken") from (
            error
        )
    wanted = start + max((entry.stop for entry in tensors.values()), default=0)
    if wanted > len(content):
        raise _cut_off(uri, wanted, len(content))
    return tensors, metadata


def in_fixed_order(content: bytes) -> bytes:
    """Return the same file with sorted metadata.

    The library writes metadata in the random order of a hash table; the digest should not depend
    on it (safetensors 0.8.0).
    """
    start = LENGTH_BYTES + int.from_bytes(content[:LENGTH_BYTES], "little")
    header: dict[str, Any] = json.loads(content[LENGTH_BYTES:start])
    header[METADATA] = dict(sorted(header[METADATA].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % LENGTH_BYTES)  # tensors stay aligned, as the library has them
    return len(text).to_bytes(LENGTH_BYTES, "little") + text + content[start:]


def _entry(entry: dict[str, Any]) -> TensorEntry:
    return TensorEntry(entry["dtype"], tuple(entry["shape"]), int(entry["data_offsets"][1]))


def _cut_off(uri: str, wanted: int, found: int) -> WeightsError:
    return WeightsError(
        f"weights {uri!r} are cut off: {found} bytes of {wanted}; copy or download them again"
    )


def _what_it_is(content: bytes) -> str:
    if len(content) <= LENGTH_BYTES:
        return f"are cut off: only {len(content)} bytes; copy or download them again"
    if content.startswith(b"PK\x03\x04") or (content[0] == 0x80 and content[1] <= 5):
        return (
            "are a pickle (torch.save), which can run any code and is never opened here: "
            "load it where you trust it, and write it with unet.save_weights"
        )
    return "are no safetensors file: write them with unet.save_weights"
