"""Where labels lie in the volume that they belong to: by shape, or by the places that both state.

Labels of one shape with the volume are labels of its voxels. Labels of another shape are those of a
crop (or the volume is the crop), and their metadata places them::

    |------------------------------|     volume
           |--labels--|                  start: the volume's voxel at which the labels begin
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, NoReturn

from ..base.errors import VolumeError
from ..base.geometry import Box, Shape
from ..base.text import shape_text
from .formats.axes import slices_advice
from .image_levels import levels_of
from .micrometres import voxel_size_um
from .placement import has_other_voxels, sizes_text, stated_start
from .volume import VolumeSource

NEAREST: Final = 0.5
"""Labels that do not begin at a whole voxel begin at the nearest one."""
NEARLY_WHOLE: Final = 0.05
"""Largest relative difference of a ratio of voxel sizes from a whole number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedLabels:
    """A volume, its labels, and where they lie in it. Small, hashable, picklable."""

    raw: VolumeSource
    labels: VolumeSource
    start: Shape = (0, 0, 0)
    """The volume's voxel (z, y, x) at which the labels begin; it may lie outside."""
    notes: tuple[str, ...] = ()
    """What the user should know about the place, a line each."""

    @property
    def box(self) -> Box:
        """The voxels of the volume that the labels cover."""
        covered = Box.of_shape(self.labels.shape_zyx).shifted(self.start)
        return covered.clipped_to(Box.of_shape(self.raw.shape_zyx))


def place_labels(
    raw: VolumeSource, labels: VolumeSource, *, level_is_chosen: bool = False
) -> PlacedLabels:
    """Return where labels lie in a volume; reads metadata only.

    level_is_chosen: the user named the level; otherwise a coarser level of the volume is used if
    the labels have its voxels. Raises VolumeError, one line, for labels that lie outside, that
    have other voxels than every level, or that have another shape and state no place.
    """
    if raw.shape_zyx == labels.shape_zyx:
        return _of_one_shape(raw, labels)
    notes: tuple[str, ...] = ()
    if has_other_voxels(labels, raw):
        finer = raw
        raw, labels = _levels_of_one_size(raw, labels, level_is_chosen=level_is_chosen)
        if raw != finer:
            notes = (
                f"labels {labels.location} have voxels of {_sizes(labels)} µm: the level of the "
                f"volume that has them is used, {raw.location}",
            )
        if raw.shape_zyx == labels.shape_zyx:
            placed = _of_one_shape(raw, labels)
            return replace(placed, notes=(*notes, *placed.notes))
    start = stated_start(labels, raw, aligned=NEAREST)
    if start is None or not _states_place(labels, raw):
        _refuse_shape(raw, labels)
    placed = _inside(PlacedLabels(raw=raw, labels=labels, start=start))
    return replace(placed, notes=(*notes, *placed.notes))


def _of_one_shape(raw: VolumeSource, labels: VolumeSource) -> PlacedLabels:
    """Return the place of labels of the volume's shape: its own, unless both state another one."""
    placed = PlacedLabels(raw=raw, labels=labels)
    names = f"labels {labels.location} and the volume {raw.location} have the same shape"
    if has_other_voxels(labels, raw):
        note = f"voxels of {_sizes(labels)} and {_sizes(raw)} µm"
        return replace(
            placed, notes=(f"{names}, but by their metadata {note}: taken voxel by voxel",)
        )
    start = stated_start(labels, raw, aligned=NEAREST)
    if start is None or not any(start):
        return placed
    if any(raw.translation) and any(labels.translation):
        return _inside(replace(placed, start=start))
    other = f"the labels begin at voxel {_listed(start)} of the volume"
    return replace(placed, notes=(f"{names}, but by their metadata {other}: taken voxel by voxel",))


def _inside(placed: PlacedLabels) -> PlacedLabels:
    """Return labels of a stated place with a note on it. Raises VolumeError if they lie outside."""
    raw, labels, box = placed.raw, placed.labels, placed.box
    if not box.voxels:
        raise VolumeError(
            f"labels {labels.location} begin at voxel {_listed(placed.start)} of the volume "
            f"{raw.location}, which is {shape_text(raw.shape_zyx)} voxels, by the places that both "
            "state: they have no voxel in common; pass the labels of this volume"
        )
    lie = ",".join(f"{a}:{b}" for a, b in zip(box.start, box.stop, strict=True))
    note = f"by their metadata, labels {labels.location} lie at voxels {lie} of {raw.location}"
    if box.shape != labels.shape_zyx:
        part = f"{box.voxels:,} of {Box.of_shape(labels.shape_zyx).voxels:,}"
        note += f"; {part} of their voxels are inside it, and these are used"
    return replace(placed, notes=(note,))


def _states_place(labels: VolumeSource, raw: VolumeSource) -> bool:
    """Return whether the smaller of the two states where it lies in the larger one.

    A translation of 0 counts as none: most writers state it for every array. Labels without z
    cannot state in which slice of a stack they lie.
    """
    if raw.shape_zyx[0] > 1 and "z" not in labels.axes:
        return False
    sizes = zip(labels.shape_zyx, raw.shape_zyx, strict=True)
    return any((raw if any(a > b for a, b in sizes) else labels).translation)


def _levels_of_one_size(
    raw: VolumeSource, labels: VolumeSource, *, level_is_chosen: bool
) -> tuple[VolumeSource, VolumeSource]:
    """Return the finest levels of a volume and its labels that have the same voxels."""
    of_labels = [labels, *_coarser(labels)]
    levels = [raw, *_coarser(raw)]
    pairs = [(one, other) for one in levels for other in of_labels]
    found = next((pair for pair in pairs if not has_other_voxels(pair[1], pair[0])), None)
    if found is None or (level_is_chosen and found[0] != raw):
        _refuse_voxels(raw, labels, found[0] if found else None)
    return found


def _coarser(source: VolumeSource) -> Iterator[VolumeSource]:
    """Yield the other levels of an image, read as ``source`` is."""
    for _, level in levels_of(source):
        if level.path != source.path:
            yield replace(
                level, holds_labels=source.holds_labels, label_mapping=source.label_mapping
            )


def _refuse_voxels(raw: VolumeSource, labels: VolumeSource, level: VolumeSource | None) -> NoReturn:
    """Raise the error for labels of other voxels than the volume has; ``level`` has them."""
    problem = (
        f"labels {labels.location} have voxels of {_sizes(labels)} µm, the volume {raw.location} "
        f"has voxels of {_sizes(raw)} µm"
    )
    if level is not None:
        raise VolumeError(f"{problem}: pass --level {level.path}, which has those of the labels")
    if _are_multiples(labels, raw):
        raise VolumeError(
            f"{problem}, and no level of it has those of the labels: expected labels and a level "
            "of one voxel size; add that level to the volume, or resample the labels"
        )
    raise VolumeError(
        f"{problem}: expected the same, or those of a coarser level; resample the labels to the "
        "voxels of the volume"
    )


def _are_multiples(labels: VolumeSource, raw: VolumeSource) -> bool:
    """Return whether the labels' voxels are whole multiples of the volume's, where known."""
    sizes = zip(voxel_size_um(labels), voxel_size_um(raw), strict=True)
    ratios = [a / b for a, b in sizes if a and b]
    return all(abs(ratio - round(ratio)) <= NEARLY_WHOLE * ratio for ratio in ratios)


def _refuse_shape(raw: VolumeSource, labels: VolumeSource) -> NoReturn:
    """Raise the error for labels of another shape that state no place."""
    level = next((one for one in _coarser(raw) if one.shape_zyx == labels.shape_zyx), None)
    depth = labels.shape_zyx[0]
    if level is not None:
        advice = f"pass --level {level.path}, which has that shape"
    elif labels.shape_zyx[1:] == raw.shape_zyx[1:] and depth < raw.shape_zyx[0]:
        advice = (
            "they do not state which of its slices they are; pass these slices alone as --volume "
            f"(for the first {depth}, in Fiji, Image > Duplicate with the range 1-{depth}), or add "
            "the other slices to the labels, filled with a value that is not a label, as --ignore"
        )
    else:
        advice = (
            "pass the labels of this volume, or of a part of it that states its place (voxel "
            f"size, unit and translation), or correct --axes{slices_advice(raw.axes)}"
        )
    raise VolumeError(
        f"labels {labels.location} are {shape_text(labels.shape_zyx)} voxels, but the volume "
        f"{raw.location} is {shape_text(raw.shape_zyx)}: {advice}"
    )


def _sizes(source: VolumeSource) -> str:
    return sizes_text(voxel_size_um(source))


def _listed(start: Shape) -> str:
    return ",".join(map(str, start))
