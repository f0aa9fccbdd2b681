"""The labelled volumes of one training: what is trained on, what is held out, the normalisation."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from uuid import uuid4

import numpy as np

from ..base.errors import IntensityError, TrainingError
from ..base.geometry import Box
from ..base.location import Location
from .find_labels import AS_STATED, ReadAs, find_labelled
from .fingerprint import read_sample
from .held_out import grown, kept_apart, overlap_notes, split, whole
from .intensity import Intensity, check_record, parse_record, stated_intensity
from .label_placement import PlacedLabels
from .labelled import LabelledBox
from .micrometres import SizesUm, voxel_size_um
from .painted_boxes import with_painted, without_painted
from .size_text import size_with_origin
from .volume import VolumeSource

if TYPE_CHECKING:
    from distributed import Client

Pair: TypeAlias = tuple[Location | str, Location | str]
"""Where a volume and its labels are."""
ONE_SCALE: Final = 1.5
"""Volumes whose voxel sizes differ by at most this factor count as one scale."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledVolumes:
    """Boxes of volumes with their labels, for training and for validation."""

    training: tuple[LabelledBox, ...]
    validation: tuple[LabelledBox, ...]
    normalisation: Mapping[str, Any]
    """The complete record, as the weights will state it."""
    is_measured: bool = False
    """Whether the boxes return normalised grey values."""
    notes: tuple[str, ...] = ()
    """What the user should know about the labels, a line each."""

    def measured(
        self, client: Client | None = None, *, stop: threading.Event | None = None
    ) -> LabelledVolumes:
        """Return the volumes with their grey values measured, where the normalisation needs it.

        client: of the cluster that measures. Raises IntensityError if one is needed and missing,
        RunError once ``stop`` is set.
        """
        if self.is_measured:
            return self
        known: dict[str, Intensity] = {}

        def ready(box: LabelledBox) -> LabelledBox:
            key = box.raw.metadata_digest
            if key not in known:
                known[key] = self._intensity(box.raw, client, stop)
            return replace(box, intensity=known[key])

        return replace(
            self,
            training=tuple(map(ready, self.training)),
            validation=tuple(map(ready, self.validation)),
            is_measured=True,
        )

    def grown(self, least: Sequence[int]) -> LabelledVolumes:
        """Return the volumes with training boxes of at least so many voxels (z, y, x) per axis.

        A box grows into the volume around labels of a part, as far as it may; other boxes stay.
        """
        return replace(self, training=tuple(grown(box, least) for box in self.training))

    @property
    def voxel_size_um(self) -> SizesUm | None:
        """Voxel size of what is trained on in µm (z, y, x): the geometric mean of the volumes'.

        None in an axis where a volume states none. None at all where two volumes differ by more
        than ``ONE_SCALE``: the network then learns several scales.
        """
        sizes = [voxel_size_um(box.raw) for box in self.training]
        axes = [[size for size in axis if size is not None] for axis in zip(*sizes, strict=True)]
        if any(max(known) > ONE_SCALE * min(known) for known in axes if known):
            return None
        z, y, x = (
            math.exp(sum(map(math.log, known)) / len(known)) if len(known) == len(sizes) else None
            for known in axes
        )
        return z, y, x

    @property
    def voxel_size_lines(self) -> tuple[str, ...]:
        """The voxel size of each volume that is trained on and where it is from, as text.

        One line where it is the same for all.
        """
        found = {box.volume_name: size_with_origin(box.raw) for box in self.training}
        if len(set(found.values())) == 1:
            return tuple(found.values())[:1]
        return tuple(f"{size} ({name})" for name, size in found.items())

    def input_percentiles(self) -> dict[str, list[float]] | None:
        """Return percentiles 1, 50, 99 of a sample of what is trained on, per channel.

        Of normalised values, so the volumes must be measured. None if no sample can be read.
        """
        sources = {box.raw.metadata_digest: box for box in self.training}.values()
        parts = [box.intensity.apply(read_sample(box.raw).values) for box in sources]
        values = np.concatenate(parts, axis=1)
        if not values.size:
            return None
        found = np.percentile(values, (1, 50, 99), axis=1)
        return {name: row.tolist() for name, row in zip(("1", "50", "99"), found, strict=True)}

    def description(self) -> dict[str, Any]:
        """Return what the volumes are, for the provenance and to compare on resume. Reads samples.

        The same volumes have the same description, wherever they lie.
        """
        return {
            "training": [_described(box) for box in self.training],
            "validation": [_described(box) for box in self.validation],
            "normalisation": dict(self.normalisation),
        }

    def _intensity(
        self, source: VolumeSource, client: Client | None, stop: threading.Event | None
    ) -> Intensity:
        stated = stated_intensity(self.normalisation, source.dtype)
        if stated is not None:
            return stated
        if client is None:
            raise IntensityError(
                f"normalisation {self.normalisation['kind']}: it is measured on a cluster; pass "
                "the client of one"
            )
        from .measure_intensity import measure_intensity  # loads distributed

        token = uuid4().hex[:12]
        return measure_intensity(source, self.normalisation, client, token=token, stop=stop)


def open_labelled(
    pairs: Sequence[Pair],
    *,
    validation: Sequence[Pair] = (),
    validation_slices: tuple[int, int] | None = None,
    normalisation: str | Mapping[str, Any] | None = None,
    read: ReadAs = AS_STATED,
) -> LabelledVolumes:
    """Return volumes with their labels, for a training.

    pairs: the path or URI of each volume and of its labels. validation: pairs for validation only.
    validation_slices: the first slice and the one after the last; held out of every volume.
    normalisation: as in the shell, ``range:0:255``, or a record as weights state it; by default
    dtype for uint8, else zscore.
    read: the channel, level, time point, axes and voxel size of all of them.

    Raises VolumeError, IntensityError, PlanError for a voxel size, or TrainingError if nothing is
    left to train on.
    """

    def found(pair: Pair) -> PlacedLabels:
        raw, labels = map(Location.parse, pair)
        return find_labelled(raw, labels, read)

    if not pairs:
        raise TrainingError("no volume to train on: pass --volume and --labels")
    placed = [found(pair) for pair in pairs]
    apart = [found(pair) for pair in validation]
    training, held_out = split(placed, validation_slices)
    training = with_painted(training)
    held_out = [*without_painted(held_out, keeps=apart), *map(whole, apart)]
    training, held_out = _named(kept_apart(training, held_out)), _named(held_out)
    stated = _stated(normalisation) or _suited(training)
    record = check_record(stated, training[0].raw.dtype)
    for box in [*training, *held_out]:
        check_record(record, box.raw.dtype)
    notes = [*_assumptions([*placed, *apart])]
    notes += [note for one in (*placed, *apart) for note in one.notes]
    volumes = LabelledVolumes(
        training=tuple(training),
        validation=tuple(held_out),
        normalisation=record,
        notes=tuple(dict.fromkeys([*notes, *overlap_notes(training, held_out)])),
    )
    needs_no_measuring = stated_intensity(record, training[0].raw.dtype) is not None
    return volumes.measured() if needs_no_measuring else volumes


def _assumptions(placed: Sequence[PlacedLabels]) -> Iterator[str]:
    """Yield what was assumed about files, and of how many; a line each."""
    files: dict[str, dict[Location, None]] = {}
    for source in (source for one in placed for source in (one.raw, one.labels)):
        for note in source.notes:
            files.setdefault(note, {})[source.store] = None
    for note, (first, *more) in files.items():
        yield f"{first}{f' and {len(more)} more' if more else ''}: {note}"


def public_name(source: VolumeSource) -> str:
    """Return a volume's location for publication: the last three parts of a local path."""
    location = source.location
    return "/".join(location.path.parts[-3:]) if location.is_local else str(location)


def _described(box: LabelledBox) -> dict[str, Any]:
    part = box.labelled
    first, last = part.start[0], part.stop[0]
    record: dict[str, Any] = {
        "volume": public_name(box.raw),
        "labels": public_name(box.labels),
        "slices": [first, last],
        "shape_zyx": list(part.shape),
        "volume_sample": read_sample(box.raw).digest,
        "labels_sample": read_sample(box.labels).digest,
    }
    if part != Box((first, 0, 0), (last, *box.raw.shape_zyx[1:])):
        record["box"] = [list(part.start), list(part.stop)]
    record |= box.raw.given_size_part()
    if any(box.labels_start):
        record["labels_start"] = list(box.labels_start)
    if box.reach != part:
        record["context"] = [list(box.reach.start), list(box.reach.stop)]
    return record


def _named(boxes: Sequence[LabelledBox]) -> list[LabelledBox]:
    """Return the boxes; names state the labels where several belong to one volume."""
    labels: dict[VolumeSource, set[VolumeSource]] = {}
    for box in boxes:
        labels.setdefault(box.raw, set()).add(box.labels)
    return [replace(box, shares_raw=len(labels[box.raw]) > 1) for box in boxes]


def _stated(normalisation: str | Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Return the record that a caller of ``open_labelled`` states, as text or as a record."""
    return parse_record(normalisation) if isinstance(normalisation, str) else normalisation


def _suited(boxes: Sequence[LabelledBox]) -> dict[str, Any]:
    """Return the dtype's range if all volumes are uint8, else mean and standard deviation."""
    dtypes = {box.raw.dtype for box in boxes}
    return {"kind": "dtype"} if dtypes == {"uint8"} else {"kind": "zscore"}
