"""A Precomputed segmentation that is to be written, as Neuroglancer describes it: pure.

Boxes are in z y x and in voxels of their level, counted from the same corner for all levels: a
level's first voxel is at its ``offset``, and a voxel of a coarser level covers ``factor`` voxels
of the finest. Neuroglancer writes the same numbers in the order x y z.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..base.errors import LabelError, OutputError
from ..base.geometry import Box, Shape

CHUNK: Final = (64, 64, 64)
_BLOCK: Final = (8, 8, 8)
_SHARD_BITS_WITHIN: Final = 6
"""A shard holds 2**6 neighbouring chunks: 256³ voxels, as its file is written at once."""
PROPERTIES: Final = "segment_properties"


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerLevel:
    """One scale: its key, its box, the voxels of the finest level per voxel, and its size in nm."""

    key: str
    box: Box
    factor: Shape
    voxel_size_nm: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelLayer:
    """A segmentation with its levels, the finest first.

    class_names: of the labels 0, 1, 2 …; 0 is background. sharded: a few large files instead of one
    per chunk; a server of them must answer requests for ranges of bytes.
    """

    dtype: str
    levels: tuple[LayerLevel, ...]
    class_names: tuple[str, ...] = ()
    sharded: bool = True
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.dtype not in ("uint32", "uint64"):
            raise OutputError(f"a segmentation of {self.dtype}: expected uint32 or uint64")


def stored_dtype(dtype: str) -> str:
    """Return the dtype in which labels are stored: Neuroglancer compresses two of them.

    >>> stored_dtype("uint8"), stored_dtype("int64")
    ('uint32', 'uint64')
    """
    bits = {"uint8": 8, "uint16": 16, "uint32": 32, "uint64": 64,
            "int8": 8, "int16": 16, "int32": 32, "int64": 64}.get(dtype)  # fmt: skip
    if bits is None:
        raise LabelError(f"labels of {dtype}: expected integers (classes or object ids)")
    return "uint64" if bits == 64 else "uint32"


def coarser_box(box: Box, factor: Sequence[int]) -> Box:
    """Return the voxels of a coarser level that cover a box, each standing for ``factor`` voxels.

    >>> coarser_box(Box((3, -3), (8, 4)), (2, 2))
    Box(start=(1, -2), stop=(4, 2))
    """
    return Box(
        tuple(a // f for a, f in zip(box.start, factor, strict=True)),
        tuple(-(-b // f) for b, f in zip(box.stop, factor, strict=True)),
    )


def info(layer: LabelLayer) -> dict[str, Any]:
    """Return the layer's document ``info``."""
    document: dict[str, Any] = {
        "@type": "neuroglancer_multiscale_volume",
        "type": "segmentation",
        "data_type": layer.dtype,
        "num_channels": 1,
        "scales": [_scale(level, layer) for level in layer.levels],
    }
    return document | ({"segment_properties": PROPERTIES} if layer.class_names else {})


def segment_properties(class_names: Sequence[str]) -> Mapping[str, Any]:
    """Return the document with the names of all labels but the background."""
    return {
        "@type": "neuroglancer_segment_properties",
        "inline": {
            "ids": [str(value) for value in range(1, len(class_names))],
            "properties": [{"id": "label", "type": "label", "values": [*class_names[1:]]}],
        },
    }


def _scale(level: LayerLevel, layer: LabelLayer) -> dict[str, Any]:
    scale = {
        "key": level.key,
        "size": [*level.box.shape[::-1]],
        "voxel_offset": [*level.box.start[::-1]],
        "resolution": [*level.voxel_size_nm[::-1]],
        "chunk_sizes": [[*CHUNK[::-1]]],
        "encoding": "compressed_segmentation",
        "compressed_segmentation_block_size": [*_BLOCK],
    }
    return scale | ({"sharding": _sharding(level.box.shape)} if layer.sharded else {})


def _sharding(shape: Shape) -> dict[str, Any]:
    """Return the sharding: chunks in Morton order, of which a shard takes 64 in a row.

    They are a box of 4³ chunks (longer along the other axes where an axis has fewer).
    """
    grid = (-(-size // chunk) for size, chunk in zip(shape, CHUNK, strict=True))
    bits = sum((count - 1).bit_length() for count in grid)
    return {
        "@type": "neuroglancer_uint64_sharded_v1",
        "hash": "identity",
        "preshift_bits": _SHARD_BITS_WITHIN,
        "minishard_bits": 0,
        "shard_bits": max(0, bits - _SHARD_BITS_WITHIN),
        "minishard_index_encoding": "gzip",
        "data_encoding": "gzip",
    }
