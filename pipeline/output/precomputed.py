"""Writes labels as a Neuroglancer Precomputed segmentation, through tensorstore.

``info`` is written last: a folder without it is not a volume, so that an interrupted writing never
looks like a complete one. A box that one call writes holds whole files, so calls may run at once.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..base.errors import LabelError, OutputError
from ..base.geometry import Box, Shape
from ..base.location import Location
from ..base.stores import list_names
from ..base.tensorstore_use import context_settings, kvstore, reason, required
from .guard import check_apart, check_place
from .label_layer import CHUNK, PROPERTIES, LabelLayer, info, segment_properties
from .pyramid import majority

_INFO: Final = "info"
_CACHE_BYTES: Final = 2**27
_WRITTEN_AT_ONCE: Final = (256, 256, 256)
"""Voxels of a box if the layer is not sharded."""


def check_target(target: Location, layer: LabelLayer, *, source: Location) -> None:
    """Raise OutputError unless the target is empty, or holds an interrupted writing.

    Writes nothing.
    """
    check_place(target)
    check_apart(target, source)
    names = list_names(target) or ()
    known = {*(level.key for level in layer.levels), PROPERTIES}
    if _INFO in names or LayerWriter(target, layer).has_info():
        raise OutputError(f"{target} exists already: choose another output, or delete it")
    if target.is_local and (foreign := sorted(set(names) - known)):
        raise OutputError(
            f"{target} contains other files, e.g. {foreign[0]}: choose another output"
        )


class LayerWriter:
    """Writes the levels of one layer. Thread-safe; make one per process."""

    def __init__(self, target: Location, layer: LabelLayer) -> None:
        self._target, self._layer = target, layer
        self._tensorstore = required(OutputError, target)
        self._folder = kvstore(target, OutputError)
        cache = {"cache_pool": {"total_bytes_limit": _CACHE_BYTES}}
        self._context = self._tensorstore.Context({**context_settings(), **cache})

    def has_info(self) -> bool:
        """Return whether the target is a volume already."""
        return self._called(lambda: self._kvstore().read(_INFO).result().state) == "value"

    def begin(self) -> None:
        """Delete what an interrupted writing left."""
        for level in self._layer.levels:
            prefix = f"{level.key}/"
            span = self._tensorstore.KvStore.KeyRange(prefix, f"{level.key}0")  # "0" follows "/"
            self._called(lambda span=span: self._kvstore().delete_range(span).result())

    def finish(self) -> None:
        """Write the documents, ``info`` last."""
        names = self._layer.class_names
        if names:
            self._put(f"{PROPERTIES}/{_INFO}", segment_properties(names))
        self._put(_INFO, info(self._layer))

    def boxes(self, number: int) -> Iterator[Box]:
        """Yield the boxes of a level; no file holds voxels of two."""
        whole = self._layer.levels[number].box
        steps = self._step(number)
        starts = (range(a, b, s) for a, b, s in zip(whole.start, whole.stop, steps, strict=True))
        for start in itertools.product(*starts):
            stop = tuple(a + s for a, s in zip(start, steps, strict=True))
            yield Box(start, stop).clipped_to(whole)

    def write(self, number: int, box: Box, labels_zyx: NDArray[Any]) -> None:
        """Write one box of a level. Raises LabelError for negative labels."""
        if labels_zyx.dtype.kind == "i" and labels_zyx.size and labels_zyx.min() < 0:
            raise LabelError(f"labels below 0 ({labels_zyx.min()}): expected ids from 0 on")
        values = labels_zyx.astype(self._layer.dtype, copy=False)
        self._called(lambda: self._store(number)[_place(box)].write(values).result())

    def read(self, number: int, box: Box) -> NDArray[Any]:
        """Return the voxels of a box of a level that was written."""
        read = self._called(lambda: self._store(number)[_place(box)].read().result())
        return np.asarray(read)

    def coarsen(self, number: int, box: Box) -> None:
        """Write one box of a coarser level from the next finer one, chunk by chunk."""
        values = np.zeros(box.shape, self._layer.dtype)
        for chunk in _cut(box, CHUNK):
            values[chunk.relative_to(box.start).slices] = self._coarser(number, chunk)
        self.write(number, box, values)

    def _coarser(self, number: int, box: Box) -> NDArray[Any]:
        finer, level = self._layer.levels[number - 1 : number + 1]
        factor = tuple(a // b for a, b in zip(level.factor, finer.factor, strict=True))
        asked = Box(
            tuple(a * f for a, f in zip(box.start, factor, strict=True)),
            tuple(b * f for b, f in zip(box.stop, factor, strict=True)),
        )
        found = asked.clipped_to(finer.box)
        missing = [(b - a, 0) for a, b in zip(asked.start, found.start, strict=True)]
        values = np.pad(self.read(number - 1, found), missing, mode="edge")
        return majority(values, factor)

    def _step(self, number: int) -> Shape:
        """Return the size of a box: of a shard, or of some chunks that are files."""
        if not self._layer.sharded:
            return _WRITTEN_AT_ONCE
        layout = self._called(lambda: self._store(number).chunk_layout.write_chunk.shape)
        return tuple(map(int, layout))

    def _kvstore(self) -> Any:
        return self._tensorstore.KvStore.open(self._folder, context=self._context).result()

    def _put(self, key: str, document: Any) -> None:
        text = json.dumps(document, indent=1).encode()
        self._called(lambda: self._kvstore().write(key, text).result())

    @functools.cached_property
    def _stores(self) -> list[Any]:
        """The opened levels, in z y x; their ``info`` is in memory until the end."""
        memory = {"base": "memory://", "exact": _INFO}
        stack = {"driver": "kvstack", "layers": [{"base": self._folder}, memory]}
        opened = self._tensorstore.KvStore.open(stack, context=self._context).result()
        opened.write(_INFO, json.dumps(info(self._layer)).encode()).result()
        spec = {"driver": "neuroglancer_precomputed", "kvstore": stack}
        opening = [
            self._tensorstore.open({**spec, "scale_index": number}, context=self._context)
            for number in range(len(self._layer.levels))
        ]
        return [one.result()[..., 0].T for one in opening]

    def _store(self, number: int) -> Any:
        return self._stores[number]

    def _called(self, call: Any) -> Any:
        try:
            return call()
        except Exception as error:
            raise OutputError(
                f"{self._target} cannot be written ({reason(error, self._target)})"
            ) from error


def _place(box: Box) -> tuple[slice, ...]:
    """Return a box as tensorstore's slices, which do not count from the end if negative."""
    return tuple(slice(a, b) for a, b in zip(box.start, box.stop, strict=True))


def _cut(box: Box, step: Shape) -> Iterator[Box]:
    starts = (range(a, b, s) for a, b, s in zip(box.start, box.stop, step, strict=True))
    for start in itertools.product(*starts):
        yield Box(start, tuple(a + s for a, s in zip(start, step, strict=True))).clipped_to(box)
