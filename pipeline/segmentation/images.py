"""The images that a run writes: their pyramids, dtypes and chunks."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from ..base.choices import OutputName
from ..base.network_outputs import CLASSES, NetworkOutputs
from ..output.image_spec import ImageSpec
from ..output.kinds import OUTPUT_KINDS, SCORES
from ..planning.blocks import BlockPlan
from ..planning.budget import Layout
from ..planning.chunk_fit import InputLayout
from ..planning.levels import Grid, level_grids, voxels_of_levels
from ..planning.tile_choice import choose_chunk
from ..volume.volume import VolumeSource
from .request import SegmentRequest


def image_specs(
    request: SegmentRequest,
    source: VolumeSource,
    plan: BlockPlan,
    class_names: tuple[str, ...],
    outputs: NetworkOutputs = CLASSES,
) -> tuple[ImageSpec, ...]:
    """Return the images that are requested; in each, the shard of level 0 is a block's core.

    class_names, outputs: of the network's channels, and what these are.
    """
    grids = level_grids(plan.shape, source.voxel_size)
    return tuple(
        _image_spec(request, name, source, plan, (class_names, outputs), grids)
        for name in request.outputs
    )


def _image_spec(
    request: SegmentRequest,
    name: OutputName,
    source: VolumeSource,
    plan: BlockPlan,
    channels_of: tuple[tuple[str, ...], NetworkOutputs],
    grids: Sequence[Grid],
) -> ImageSpec:
    kind, (class_names, outputs) = OUTPUT_KINDS[name], channels_of
    channels = kind.channels(len(class_names))
    first = 3 - len(source.spatial_axes)
    voxel_sizes, translations = voxels_of_levels(
        grids, source.step, source.translation, origin=plan.origin
    )
    return ImageSpec(
        name=name,
        is_label=kind.is_label,
        path="" if request.into_input else kind.path,
        is_inside=request.into_input,
        axes=("c" if kind.per_class else "") + source.spatial_axes,
        dtype=request.scores_dtype if kind is SCORES else kind.dtypes[0],
        class_names=class_names,
        outputs=outputs,
        shapes=tuple((*channels, *shape[first:]) for _, shape in grids),
        shards=((*channels, *plan.core[first:]),) * len(grids),
        chunks=((*kind.channels(1), *choose_chunk(plan.core)[first:]),) * len(grids),
        voxel_sizes=voxel_sizes,
        translations=translations,
        unit=source.unit,
    )


def storage_layout(
    source: VolumeSource, images: Sequence[ImageSpec], request: SegmentRequest
) -> Layout:
    """Return how input and output are stored, for the budget."""
    output_bytes = files = 0
    for image in images:
        channels = image.shapes[0][0] if "c" in image.axes else 1
        output_bytes += channels * np.dtype(image.dtype).itemsize
        chunks = prod(s // c for s, c in zip(image.shards[0], image.chunks[0], strict=True))
        files += 1 if request.format == "0.5" else chunks
    return Layout(
        channels=source.channel_count,
        itemsize=np.dtype(source.dtype).itemsize,
        chunk_zyx=source.chunk_shape_zyx,
        output_bytes_per_voxel=output_bytes,
        files_per_block=files,
        volume_zyx=source.shape_zyx,
    )


def input_layout(source: VolumeSource) -> InputLayout:
    """Return how the input is stored, for the choice of blocks."""
    return InputLayout(
        chunk_zyx=source.chunk_shape_zyx,
        voxel_bytes=source.channel_count * np.dtype(source.dtype).itemsize,
    )
