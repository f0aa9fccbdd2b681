"""Volumes with labels for training: boxes of both, mirrored past the edge as in prediction."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base.geometry import Box, Shape
from .intensity import Intensity
from .label_values import UNKNOWN
from .micrometres import voxel_size_um
from .mirror import mirror_index, read_mirrored, take_mirrored
from .volume import VolumeSource, read_box


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledBox:
    """A box of a volume and of its labels. Small, picklable.

    Around the box, grey values are those of the volume as far as ``context`` reaches, and mirrored
    beyond. The classes of what is not labelled are unknown::

        |mmmm|------------context------------|mmmm|
                  |----box----|
             |???????|labels|????????????????|              ? unknown

    Without a context, the box is mirrored at its edge, labels too. So a training box and a
    neighbouring validation box share no voxel.
    """

    raw: VolumeSource
    labels: VolumeSource
    box: Box
    """Where patches lie, in voxels of the volume."""
    labels_start: Shape = (0, 0, 0)
    """The volume's voxel at which the labels begin."""
    context: Box | None = None
    """Contains the box; None: the box itself."""
    shares_raw: bool = False
    """Whether other labels belong to the same volume; the name then states the labels too."""
    intensity: Intensity = field(default_factory=Intensity)

    @property
    def name(self) -> str:
        """The volume's location, and which part of it is labelled."""
        whole, part = Box.of_shape(self.raw.shape_zyx), self.labelled
        name = self.volume_name
        if part.start[1:] != whole.start[1:] or part.stop[1:] != whole.stop[1:]:
            ends = zip(part.start, part.stop, strict=True)
            name += " box " + ",".join(f"{a}:{b}" for a, b in ends)
        elif part != whole:
            name += f" slices {part.start[0]}:{part.stop[0]}"
        return f"{name} ({self.labels.location})" if self.shares_raw else name

    @property
    def painted_classes(self) -> tuple[str, ...]:
        """The names of the network's classes that a person painted; none for any other labels."""
        mapping = self.labels.label_mapping
        return () if mapping is None else mapping.class_names

    @property
    def volume_name(self) -> str:
        """The volume's location, without passwords."""
        return str(self.raw.location)

    @property
    def volume_shape_zyx(self) -> tuple[int, int, int]:
        """Size of the whole volume in voxels."""
        return self.raw.shape_zyx

    @property
    def channel_count(self) -> int:
        """Channels of the grey values."""
        return self.raw.channel_count

    @property
    def shape_zyx(self) -> tuple[int, int, int]:
        """Size of the box in voxels."""
        z, y, x = self.box.shape
        return z, y, x

    @property
    def spacing_zyx(self) -> tuple[float, float, float]:
        """Size of a voxel; the least one along an axis that states none, beside others that do."""
        if len(set(self.raw.unit)) == 1:
            return self.raw.voxel_size
        sizes = voxel_size_um(self.raw)
        least = min((size for size in sizes if size is not None), default=1.0)
        z, y, x = (least if size is None else size for size in sizes)
        return z, y, x

    @property
    def labelled(self) -> Box:
        """The part of the box that has labels."""
        covered = Box.of_shape(self.labels.shape_zyx).shifted(self.labels_start)
        return covered.clipped_to(self.box)

    @property
    def reach(self) -> Box:
        """The box at whose edge grey values and labels are mirrored."""
        return self.context or self.box

    def read_raw(self, start: Sequence[int], stop: Sequence[int]) -> NDArray[np.float32]:
        """Return normalised grey values (c, z, y, x); the box's first voxel is 0."""
        wanted = Box(tuple(start), tuple(stop)).shifted(self.box.start)
        part = _Part(self.raw, self.reach)
        return self.intensity.apply(read_mirrored(part, wanted.relative_to(self.reach.start)))

    def read_labels(self, start: Sequence[int], stop: Sequence[int]) -> NDArray[Any]:
        """Return labels (z, y, x) as stored; as int64 where some have no label.

        Those are UNKNOWN then, and so are uint64 labels from 2**63 on, which are not ids.
        """
        wanted = Box(tuple(start), tuple(stop)).shifted(self.box.start)
        reach = self.reach
        of_volume = [
            mirror_index(a - low, b - low, high - low) + low
            for a, b, low, high in zip(
                wanted.start, wanted.stop, reach.start, reach.stop, strict=True
            )
        ]
        ends = list(zip(self.labelled.start, self.labelled.stop, strict=True))
        nearest = [np.clip(i, a, b - 1) for i, (a, b) in zip(of_volume, ends, strict=True)]
        first = tuple(int(i.min()) for i in nearest)
        touched = Box(first, tuple(int(i.max()) + 1 for i in nearest))
        stored = read_box(self.labels, touched.relative_to(self.labels_start))[0]
        values = take_mirrored(stored, [i - a for i, a in zip(nearest, first, strict=True)])
        known = [i == n for i, n in zip(of_volume, nearest, strict=True)]
        if all(axis.all() for axis in known):
            return values
        return _unknown_outside(values, known)

    def count_bad_values(
        self, boxes: Sequence[tuple[Sequence[int], Sequence[int]]]
    ) -> tuple[int, int]:
        """Return how many grey values in some boxes are NaN or infinite, and how many there are.

        boxes: start and stop of each, inside the box. :meth:`read_raw` returns 0 for such values.
        Integers are not read: they are always finite.
        """

        def count(box: tuple[Sequence[int], Sequence[int]]) -> tuple[int, int]:
            stored = _Part(self.raw, self.box).read(Box(tuple(box[0]), tuple(box[1])))
            return stored.size - int(np.count_nonzero(np.isfinite(stored))), stored.size

        if np.dtype(self.raw.dtype).kind != "f":
            return 0, 0
        with ThreadPoolExecutor(4) as pool:
            counts = list(pool.map(count, boxes))
        return sum(bad for bad, _ in counts), sum(values for _, values in counts)


def _unknown_outside(values: NDArray[Any], known: Sequence[NDArray[np.bool_]]) -> NDArray[np.int64]:
    """Return labels (z, y, x), UNKNOWN where they are not known along every axis."""
    of_z, of_y, of_x = known
    ids = values.astype(np.int64)
    if values.dtype == np.uint64:
        ids[ids < 0] = UNKNOWN
    ids[~(of_z[:, None, None] & of_y[:, None] & of_x)] = UNKNOWN
    return ids


@dataclass(frozen=True, slots=True)
class _Part:
    """A box of a stored volume as :class:`ReadsBoxes`."""

    source: VolumeSource
    box: Box

    @property
    def shape_zyx(self) -> tuple[int, int, int]:
        z, y, x = self.box.shape
        return z, y, x

    def read(self, box: Box) -> NDArray[Any]:
        return read_box(self.source, box.shifted(self.box.start))
