"""A segmentation whose classes a person corrects, as its metadata states it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..base.errors import OutputError
from ..base.geometry import Box, Shape
from ..base.location import Location
from ..base.stores import read_node
from ..ledger.status import ledger_attributes
from ..output.kinds import CLASSES
from ..volume.formats.ome_zarr.ome_read import ome_attributes
from ..volume.volume import VolumeSource, find_volume


@dataclass(frozen=True, slots=True, kw_only=True)
class Segmented:
    """An output with classes. attributes: of its run group."""

    output: Location
    classes: VolumeSource
    class_names: tuple[str, ...]
    attributes: Mapping[str, Any]

    @property
    def job(self) -> Mapping[str, Any]:
        """What was computed, see ledger/identity.py."""
        job: Mapping[str, Any] = self.attributes["job"]
        return job

    @property
    def block(self) -> Shape:
        """Voxels of a block, z, y, x."""
        return tuple(self.job["block"])

    @property
    def grid(self) -> Shape:
        """Number of blocks, z, y, x."""
        return tuple(-(-n // c) for n, c in zip(self.classes.shape_zyx, self.block, strict=True))

    def core(self, index: Shape) -> Box:
        """Return the voxels (z, y, x) of a block."""
        start = tuple(i * c for i, c in zip(index, self.block, strict=True))
        stop = tuple(a + c for a, c in zip(start, self.block, strict=True))
        return Box(start, stop).clipped_to(Box.of_shape(self.classes.shape_zyx))

    def blocks(self) -> Iterator[Shape]:
        """Yield the positions of all blocks."""
        return itertools.product(*map(range, self.grid))

    @property
    def input(self) -> str | None:
        """The image that was segmented, without secrets, as the output states it."""
        stated = self.attributes.get("provenance") or {}
        store, path = stated.get("input"), stated.get("input_path")
        return None if store is None else f"{store}/{path}" if path else str(store)


def find_segmented(output: Location) -> Segmented:
    """Return an output with classes. Reads metadata only.

    Raises OutputError for what is not the output of a segmentation, or holds no classes.
    """
    attributes = ledger_attributes(output)
    node = read_node(output, path=CLASSES.path)
    if node is None or "block" not in attributes["job"]:
        raise OutputError(
            f"{output} holds no classes: expected the output of overtile segment, with "
            "labels/classes; segment with --outputs classes or classes,scores"
        )
    names = _class_names(ome_attributes(node.attributes), attributes)
    if not names:
        raise OutputError(f"{output} does not name its classes: segment again with --overwrite")
    return Segmented(
        output=output,
        classes=find_volume(output / CLASSES.path, holds="anything"),
        class_names=names,
        attributes=attributes,
    )


def _class_names(ome: Mapping[str, Any], attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the classes 0, 1, 2 …, as the labels or the provenance state them."""
    label = ome.get("image-label")
    stated: Any = label.get("properties") if isinstance(label, Mapping) else None
    rows = [one for one in _list(stated) if isinstance(one, Mapping)]
    names = {one.get("label-value"): one.get("class") for one in rows}
    found = [names.get(number) for number in range(len(names))]
    if found and all(isinstance(name, str) for name in found):
        return tuple(map(str, found))
    weights: Any = (attributes.get("provenance") or {}).get("weights")
    return (
        tuple(map(str, _list(weights.get("class_names")))) if isinstance(weights, Mapping) else ()
    )


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else ()
