"""The same plan over a dask array: chunks exchange halos by ``dask.array.map_overlap``.

For volumes that are computed on the fly, and as the engine ``map_overlap``. For a volume in a
store, the engine ``store`` needs one task per block instead of about thirty.

The array is mirrored to whole chunks and cut into (halo+core, core, …, core+halo), so that every
chunk's neighbours hold its halo; each chunk's core is kept::

    |hhhh cccccccc|cccccccc|cccccc.. hhhh|     chunks of the mirrored array
    |hhhh cccccccc hhhh|                       what the first chunk sees

`dask.array` silently pads too little on short axes, so the mirroring is done here.
"""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
from dask.base import tokenize
from numpy.typing import NDArray

from ...base.errors import VolumeError
from ...base.geometry import Box, Halo, Shape, round_up
from ...models.protocol import Predictor
from ...planning.blocks import BlockPlan
from ...planning.make_plan import make_plan
from ...volume.intensity import Intensity, check_record, stated_intensity
from ...volume.mirror import mirror_index
from .tile import StageClock, tile_scores


def map_overlap(
    predictor: Predictor,
    x: Any,
    *,
    block: Shape | None = None,
    tile: Shape | None = None,
    intensity: Intensity | None = None,
    memory_bytes: int = 2**31,
) -> Any:
    """Return the lazy scores (c, z, y, x), float32, of a lazy dask array.

    x: a dask array with axes (y, x), (z, y, x) or (c, z, y, x), in any chunks: it is rechunked to
    the plan's blocks. block, tile: cores in voxels (z, y, x), chosen by default. intensity: how
    grey values become network input; by default, as the weights state. The scores of an array
    without z have no z. Raises PlanError, VolumeError, IntensityError.
    """
    x_czyx = _with_all_axes(x)
    if x_czyx.shape[0] != predictor.in_channels:
        raise VolumeError(
            f"the array has {x_czyx.shape[0]} channels: the weights expect {predictor.in_channels}"
        )
    if intensity is None:
        record = check_record(predictor.normalisation, str(x_czyx.dtype))
        intensity = stated_intensity(record, str(x_czyx.dtype))
        if intensity is None:
            raise VolumeError(
                f"the weights ask for {record['kind']} normalisation, which needs a pass over the "
                "array: measure it, then pass intensity="
            )
    shape = x_czyx.shape[1:]
    if any(np.isnan(size) for size in shape):
        raise VolumeError("the array's shape is unknown: call compute_chunk_sizes() first")
    plan = make_plan(shape, predictor, block=block, tile=tile, memory_bytes=memory_bytes)
    scores = overlapped_scores(x_czyx, Box.of_shape(plan.grid), predictor, plan, intensity)
    scores = scores[(slice(None), *Box.of_shape(shape).slices)]
    return scores[:, 0] if x.ndim == 2 else scores


def _with_all_axes(x: Any) -> Any:
    if x.ndim == 2:
        return x[None, None]
    if x.ndim == 3:
        return x[None]
    if x.ndim == 4:
        return x
    raise VolumeError(f"array with {x.ndim} axes: expected (y, x), (z, y, x) or (c, z, y, x)")


def overlapped_scores(
    x_czyx: Any, blocks: Box, predictor: Predictor, plan: BlockPlan, intensity: Intensity
) -> Any:
    """Return the lazy scores (c, z, y, x) of a box of blocks, past the volume's edge too.

    x_czyx: the whole volume as a dask array. A chunk of the graph is one block, or several where a
    block is smaller than the halo.
    """
    halo = graph_halo(predictor, plan)
    chunk = graph_chunk(plan, halo)
    core = graph_core(blocks, plan, chunk)
    mirrored = mirrored_array(x_czyx, halo.around(core))
    token = tokenize(mirrored.name, core, predictor.digest, predictor.settings(), plan, intensity)
    return da.map_overlap(
        _chunk_scores,
        mirrored.rechunk(_chunks(x_czyx.shape[0], core, chunk, halo)),
        depth=(0, *zip(halo.low, halo.high, strict=True)),
        boundary="none",
        trim=False,
        allow_rechunk=False,
        dtype=np.float32,
        chunks=((len(predictor.class_names),), *_core_chunks(core, chunk)),
        meta=np.empty((0,) * 4, np.float32),
        name=f"segment-block-{token}",
        predictor=predictor,
        plan=plan,
        intensity=intensity,
        halo=halo,
    )


def graph_halo(predictor: Predictor, plan: BlockPlan) -> Halo:
    """Return the halo, with the extra voxels at a tile's end that make its input size valid."""
    extra = [
        n - c - 2 * h
        for n, c, h in zip(
            predictor.input_shape(plan.divisor), plan.divisor, predictor.halo, strict=True
        )
    ]
    high = tuple(h + e for h, e in zip(predictor.halo, extra, strict=True))
    return Halo(tuple(predictor.halo), high)


def graph_chunk(plan: BlockPlan, halo: Halo) -> Shape:
    """Return the chunk shape of the graph: whole blocks, no axis shorter than the halo."""
    return tuple(
        round_up(max(c, low, high), c)
        for c, low, high in zip(plan.core, halo.low, halo.high, strict=True)
    )


def graph_core(blocks: Box, plan: BlockPlan, chunk: Shape) -> Box:
    """Return the voxels of a box of blocks, extended at its end to whole chunks of the graph."""
    start = tuple(i * c for i, c in zip(blocks.start, plan.core, strict=True))
    return Box(
        start,
        tuple(
            a + round_up((stop - first) * c, n)
            for a, first, stop, c, n in zip(
                start, blocks.start, blocks.stop, plan.core, chunk, strict=True
            )
        ),
    )


def _core_chunks(core: Box, chunk: Shape) -> tuple[Shape, ...]:
    return tuple((c,) * (n // c) for n, c in zip(core.shape, chunk, strict=True))


def _chunks(channels: int, core: Box, chunk: Shape, halo: Halo) -> tuple[Shape, ...]:
    axes = []
    for sizes, low, high in zip(_core_chunks(core, chunk), halo.low, halo.high, strict=True):
        grown = list(sizes)
        grown[0] += low
        grown[-1] += high
        axes.append(tuple(grown))
    return ((channels,), *axes)


def _chunk_scores(
    chunk_czyx: NDArray[Any],
    *,
    predictor: Predictor,
    plan: BlockPlan,
    intensity: Intensity,
    halo: Halo,
) -> NDArray[np.float32]:
    """Return the scores of one chunk's core, from the same tiles as in the other engine."""
    if not chunk_czyx.size:
        return np.empty((len(predictor.class_names), 0, 0, 0), np.float32)
    size = tuple(
        n - low - high
        for n, low, high in zip(chunk_czyx.shape[1:], halo.low, halo.high, strict=True)
    )
    clock = StageClock()
    scores = np.empty((len(predictor.class_names), *size), np.float32)
    for block in BlockPlan(
        shape=size, core=plan.core, tile=plan.tile, halo=plan.halo, divisor=plan.divisor
    ).blocks():
        for tile in plan.tiles(block.core):
            scores[(slice(None), *tile.slices)] = tile_scores(
                lambda box: chunk_czyx[(slice(None), *box.shifted(halo.low).slices)],
                tile,
                predictor=predictor,
                plan=plan,
                intensity=intensity,
                clock=clock,
            )
    return scores


def mirrored_array(x_czyx: Any, box: Box) -> Any:
    """Return ``box`` of a dask array (c, z, y, x), mirrored past the edges."""
    for axis, (start, stop) in enumerate(zip(box.start, box.stop, strict=True), start=1):
        size = x_czyx.shape[axis]
        inside = (min(max(start, 0), size), min(max(stop, 0), size))
        parts = []
        if start < inside[0]:
            parts.append(da.take(x_czyx, mirror_index(start, inside[0], size), axis=axis))
        if inside[0] < inside[1]:
            place = (slice(None),) * axis + (slice(*inside),)
            parts.append(x_czyx[place])
        if inside[1] < stop:
            parts.append(da.take(x_czyx, mirror_index(inside[1], stop, size), axis=axis))
        x_czyx = parts[0] if len(parts) == 1 else da.concatenate(parts, axis=axis)
    return x_czyx
