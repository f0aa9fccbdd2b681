"""The images that a report's planes are cut from: input, scores, classes and objects, by level."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from time import monotonic
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..base.geometry import Box, Shape
from ..base.location import Location
from ..base.stores import open_array, read_node
from ..models.protocol import outputs_of
from ..output.image_spec import ImageSpec
from ..output.kinds import OBJECTS_PATH
from ..report.plane_pictures import PlaneLayers
from ..report.planes import Layer, Level
from ..volume.image_levels import levels_of
from ..volume.volume import VolumeSource, open_volume
from .summary import RunSummary

MOST_LEVELS = 16
_MOST_FAILING_S: Final = 30.0
"""Time that chunks which cannot be read may take: an unreachable store takes long for each."""


def plane_layers(run: RunSummary, *, with_objects: bool) -> PlaneLayers:
    """Return the layers of a run. with_objects: its objects have been found."""
    has_levels = run.progress.stage == "done" and not run.prepared.request.share
    stored = {
        image.name: _stored_layer(run.job.output, image, has_levels=has_levels)
        for image in run.prepared.images
    }
    return PlaneLayers(
        raw=_raw_layer(run.prepared.source, origin=run.prepared.plan.origin),
        scores=stored.get("scores"),
        classes=stored.get("classes"),
        objects=_objects_layer(run.job.output) if with_objects else None,
        has_classes=outputs_of(run.prepared.predictor).has_classes,
    )


def _raw_layer(source: VolumeSource, *, origin: Shape) -> Layer:
    """Return the input from the level that is segmented on."""
    found, is_coarser = [source], False
    for _, level in levels_of(source):
        if is_coarser and len(found) < MOST_LEVELS:
            found.append(level)
        is_coarser = is_coarser or level.path == source.path
    return Layer(levels=tuple(map(_raw_level, found)), origin=origin)


def _raw_level(source: VolumeSource) -> Level:
    return Level(
        shape=source.shape_zyx,
        chunk=source.chunk_shape_zyx,
        voxel_bytes=source.channel_count * np.dtype(source.dtype).itemsize,
        read=lambda box: _readable(source, box),
    )


def _readable(source: VolumeSource, box: Box) -> NDArray[Any]:
    """Return the voxels of a box; those of chunks that cannot be read are 0.

    A damaged chunk is why a block may have been set aside: the rest is worth a picture. The rest is
    0 too once failures have taken too long. Raises the reader's error where nothing was read.
    """
    volume, is_any, failing_s = open_volume(source), False, 0.0
    try:
        return volume.read(box)
    except Exception as error:  # codecs raise errors of their own kinds
        found, why = np.zeros((source.channel_count, *box.shape), source.read_dtype), error
    axes = [
        [(max(at, a), min(at + chunk, b)) for at in range(a // chunk * chunk, b, chunk)]
        for a, b, chunk in zip(box.start, box.stop, source.chunk_shape_zyx, strict=True)
    ]
    for ranges in itertools.product(*axes):
        part = Box(tuple(a for a, _ in ranges), tuple(b for _, b in ranges))
        began = monotonic()
        try:
            found[(slice(None), *part.relative_to(box.start).slices)] = volume.read(part)
            is_any = True
        except Exception:  # of any kind, as above
            failing_s += monotonic() - began
        if failing_s > _MOST_FAILING_S:
            break
    if not is_any:
        raise why
    return found


def _stored_layer(output: Location, image: ImageSpec, *, has_levels: bool) -> Layer:
    paths = [image.level_path(number) for number in range(len(image.shapes) if has_levels else 1)]
    channels = "c" in image.axes
    return Layer(levels=tuple(_stored_level(output, path, channels=channels) for path in paths))


def _objects_layer(output: Location) -> Layer:
    paths = (f"{OBJECTS_PATH}/{number}" for number in range(MOST_LEVELS))
    exist = itertools.takewhile(lambda path: read_node(output, path=path) is not None, paths)
    return Layer(levels=tuple(_stored_level(output, path, channels=False) for path in exist))


def _stored_level(output: Location, path: str, *, channels: bool) -> Level:
    """Return a level of an output. channels: its first axis is that of the classes."""
    array: Any = open_array(output, path)
    first = int(channels)
    count = array.shape[0] if channels else 1
    spatial, chunk = array.shape[first:], array.chunks[first:]

    def read(box: Box) -> NDArray[Any]:
        place = (slice(None),) * first + box.slices[3 - len(spatial) :]
        return np.asarray(array[place]).reshape(count, *box.shape)

    return Level(
        shape=_zyx(spatial), chunk=_zyx(chunk), read=read,
        voxel_bytes=array.dtype.itemsize * count,
    )  # fmt: skip


def _zyx(sizes: Sequence[int]) -> Shape:
    return (*(1,) * (3 - len(sizes)), *sizes)
