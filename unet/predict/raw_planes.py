"""Raw planes in, stored planes out: a tile as a whole, image by image, or swept slab by slab."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.base.geometry import Shape
from pipeline.base.tile_request import (
    Orientation,
    StoredPlanes,
    TileRequest,
    View,
    divide_by_views,
)

from ..network.model import UNet
from .forward import scores_of_logits, within_memory
from .stored import normalised, stored
from .sweep.column import ColumnSweep
from .sweep.geometry import slab_planes
from .transfer import Arrays, Compute, Transfer, streamed, transfer_to
from .views import turned, turned_back

ReadRaw: TypeAlias = Callable[[int, int], NDArray[Any]]
"""From the first plane and the one after the last to raw planes (channel, z, y, x)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawTile:
    """One tile: its network, how its planes are read, what is asked, and two shapes (z, y, x)."""

    model: UNet
    read: ReadRaw
    request: TileRequest
    input_shape: Shape
    core_shape: Shape

    @property
    def like(self) -> Tensor:
        """A tensor of the network's device and dtype."""
        return next(self.model.parameters())

    @property
    def transfer(self) -> Transfer:
        """The way to the network's device."""
        return transfer_to(self.like.device)

    def input_of(self, raw_czyx: Tensor) -> Tensor:
        """Return images (n, channel, …) for the network: one volume, or one image per plane."""
        x_czyx = normalised(raw_czyx, self.request).to(self.like.dtype)
        return x_czyx[None] if self.model.config.dims == 3 else x_czyx.transpose(0, 1).contiguous()

    def scores(self, logits: Tensor) -> Tensor:
        """Return the scores of logits, float32."""
        return scores_of_logits(logits, self.model.outputs.activation)

    def stored(self, scores_czyx: Tensor) -> tuple[Tensor, ...]:
        """Return what is stored of scores whose first voxel is one of the core's."""
        _, y, x = self.core_shape
        return stored(scores_czyx[:, :, :y, :x], self.request.outputs)

    def streamed(self, raw: Iterable[NDArray[Any]], compute: Compute) -> Iterator[StoredPlanes]:
        """Yield what ``compute`` gives for raw planes."""
        for arrays in streamed(raw, compute, self.transfer, shape=self.input_shape):
            yield _planes(arrays)


def whole_tile(tile: RawTile, *, together: int) -> Iterator[StoredPlanes]:
    """Yield what is stored of a tile's core; of a 2-D network so many planes at once."""
    planes = tile.input_shape[0]
    step = planes if tile.model.config.dims == 3 else together
    raw = (tile.read(start, min(start + step, planes)) for start in range(0, planes, step))
    count, begun = -(-planes // step), itertools.count()

    def compute(raw_czyx: Tensor) -> tuple[Tensor, ...]:
        number = next(begun)
        scores = _mean_scores(tile, tile.input_of(raw_czyx), lambda share: (number + share) / count)
        scores_czyx = scores[0] if tile.model.config.dims == 3 else scores.transpose(0, 1)
        return tile.stored(scores_czyx[:, : tile.core_shape[0]])

    return tile.streamed(raw, compute)


def _mean_scores(tile: RawTile, images: Tensor, share_of: Callable[[float], float]) -> Tensor:
    """Return the mean over all views (n, class, …), float32.

    share_of: from the share of these images that is done to that of the tile.
    """
    first, *others = tile.request.views

    def scores(view: View) -> Tensor:
        logits = tile.model(turned(images, view.orientation))
        return turned_back(tile.scores(logits), view.orientation)

    total = scores(first)
    for number, view in enumerate(others, start=1):
        tile.request.on_share(share_of(number / (1 + len(others))))
        view.add(scores(view).transpose(0, 1), total.transpose(0, 1))
    if others:
        divide_by_views(total.transpose(0, 1), tile.request.views)
    return total


def swept_tile(tile: RawTile) -> Iterator[StoredPlanes]:
    """Yield what is stored of a tile's core, slab by slab; of a mean after the last sweep."""
    if tile.request.views != (View(),):
        return _mean_of_sweeps(tile)
    sweep = _Sweep(tile, Orientation())

    def compute(raw_czyx: Tensor) -> tuple[Tensor, ...] | None:
        found = sweep.scores(raw_czyx)
        return None if found is None else tile.stored(found[0])

    return tile.streamed(sweep.raw(), compute)


def _mean_of_sweeps(tile: RawTile) -> Iterator[StoredPlanes]:
    shape = (tile.model.config.classes, *tile.core_shape)
    within = partial(within_memory, shape=tile.input_shape, device=tile.like.device)
    total = within(partial(torch.zeros, shape, device=tile.like.device))
    _, y, x = tile.core_shape

    def add_sweep(view: View, number: int) -> None:
        sweep = _Sweep(tile, view.orientation)  # its room is free before the next one's

        def add(raw_czyx: Tensor) -> None:
            found = sweep.scores(raw_czyx)
            if found is not None:
                scores_czyx, planes = found
                view.add(scores_czyx[:, :, :y, :x], total[:, planes])
            tile.request.on_share((number + sweep.share) / len(tile.request.views))

        given = list(tile.streamed(sweep.raw(), add))
        assert not given, "sums stay on the device"

    for number, view in enumerate(tile.request.views):
        add_sweep(view, number)

    def mean(planes: slice) -> Any:
        scores_czyx = total[:, planes]
        divide_by_views(scores_czyx, tile.request.views)
        return tile.transfer.download(tile.stored(scores_czyx))

    slab = slab_planes(tile.model.config)
    for start in range(0, tile.core_shape[0], slab):
        yield _planes(tile.transfer.arrays(within(partial(mean, slice(start, start + slab)))))


class _Sweep:
    """One sweep over a tile in one orientation."""

    def __init__(self, tile: RawTile, orientation: Orientation) -> None:
        self._tile, self._orientation = tile, orientation
        config = tile.model.config
        self._slab = slab_planes(config)
        self._planes = config.output_shape(tile.input_shape)[0]
        """Planes of scores in all."""
        self._given = 0
        """Planes of scores so far, in the order of the sweep."""
        column = orientation.shape_of(tile.input_shape)[1:]
        make = partial(ColumnSweep, tile.model, column, slab=self._slab)
        self._sweep = within_memory(make, shape=tile.input_shape, device=tile.like.device)

    @property
    def share(self) -> float:
        """The share of the scores that is given."""
        return min(1.0, self._given / self._planes)

    def raw(self) -> Iterator[NDArray[Any]]:
        """Yield the slabs of the input, until all planes of the core are given."""
        planes = self._tile.input_shape[0]
        for start in range(0, planes, self._slab):
            if self._given >= self._tile.core_shape[0] and not self._orientation.mirrored_z:
                return
            stop = min(start + self._slab, planes)
            yield self._tile.read(*self._orientation.planes_of(start, stop, planes=planes))

    def scores(self, raw_czyx: Tensor) -> tuple[Tensor, slice] | None:
        """Return the scores (class, z, y, x) that more planes give, and which planes they are.

        Turned back, and only those of the core; None if there are none.
        """
        logits = self._sweep.push(turned(self._tile.input_of(raw_czyx), self._orientation))
        if logits is None:
            return None
        given = self._given
        self._given += logits.shape[2]
        start, stop = self._orientation.planes_of(given, self._given, planes=self._planes)
        stop = min(stop, self._tile.core_shape[0])
        if start >= stop:
            return None
        scores_czyx = turned_back(self._tile.scores(logits), self._orientation)[0]
        return scores_czyx[:, : stop - start], slice(start, stop)


def _planes(arrays: Arrays) -> StoredPlanes:
    classes_zyx, *outputs = arrays
    return StoredPlanes(classes_zyx, tuple(outputs))
