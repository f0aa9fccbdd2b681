"""What is stored of a tile: from raw voxels, on the device where the predictor can."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager

from ..base.tile_request import StoredPlanes, TileRequest
from ..planning.network import takes_raw_planes
from .host_path import planes_on_host
from .protocol import Predictor, ReadRaw, StoresPlanes


def stored_planes(
    predictor: Predictor,
    read: ReadRaw,
    request: TileRequest,
    *,
    input_shape: Sequence[int],
    core_shape: Sequence[int],
    turn: Callable[[], AbstractContextManager[None]],
) -> Generator[StoredPlanes, None, None]:
    """Yield what is stored of a tile's core, some planes at a time, in order.

    read: returns raw planes of the tile's input, which is ``input_shape``; the core starts one halo
    inside it. turn: is entered while the device is in use. Raises MemoryError where the tile does
    not fit the device.
    """
    if not (isinstance(predictor, StoresPlanes) and takes_raw_planes(predictor)):
        yield from planes_on_host(
            predictor, read, request, input_shape=input_shape, core_shape=core_shape, turn=turn
        )
        return
    with turn():
        yield from predictor.stored_planes(
            read, request, input_shape=input_shape, core_shape=core_shape
        )
