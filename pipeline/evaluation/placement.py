"""Where the prediction lies in the truth: by their shapes, and by the places that both state."""

from __future__ import annotations

from dataclasses import dataclass

from ..base.errors import VolumeError
from ..base.geometry import Box, Shape
from ..base.text import shape_text
from ..volume.formats.axes import slices_advice
from ..volume.micrometres import voxel_size_um
from ..volume.placement import has_other_voxels, sizes_text, stated_start
from ..volume.volume import VolumeSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """The first voxel of the prediction in the truth, and the voxels (of the truth) of both."""

    start: Shape
    common: Box
    note: str | None = None


def placement_of(prediction: VolumeSource, truth: VolumeSource, *, is_output: bool) -> Placement:
    """Return where the prediction lies in the truth.

    Arrays of one shape are compared voxel by voxel, unless both state a place and the places
    differ. An array of another shape is placed by its metadata; a translation of 0 is a stated
    place only for an output of overtile (is_output) and for the larger array. Raises VolumeError
    for other voxel sizes or places.
    """
    whole = Box.of_shape(truth.shape_zyx)
    start = stated_start(prediction, truth)
    if prediction.shape_zyx == truth.shape_zyx:
        if has_other_voxels(prediction, truth):
            return Placement(start=(0, 0, 0), common=whole, note=_sizes(prediction, truth))
        if not start or not any(start):
            return Placement(start=(0, 0, 0), common=whole)
        if not (any(truth.translation) and (is_output or any(prediction.translation))):
            return Placement(start=(0, 0, 0), common=whole, note=_other_place(start))
    elif has_other_voxels(prediction, truth):
        raise VolumeError(f"{_sizes(prediction, truth)}: expected the same level of both")
    elif start is None or not _states_place(prediction, truth, is_output=is_output):
        raise _other_shape(prediction, truth)
    common = Box.of_shape(prediction.shape_zyx).shifted(start).clipped_to(whole)
    if not common.voxels:
        raise VolumeError(
            f"the prediction begins at voxel {_listed(start)} of the truth, which is "
            f"{shape_text(truth.shape_zyx)} voxels, by the places that both state: they have no "
            "voxel in common"
        )
    note = f"by its metadata the prediction begins at voxel {_listed(start)} of the truth"
    return Placement(start=start, common=common, note=note)


def _states_place(prediction: VolumeSource, truth: VolumeSource, *, is_output: bool) -> bool:
    """Return whether the smaller array states its place in the larger one."""
    sizes = zip(truth.shape_zyx, prediction.shape_zyx, strict=True)
    if any(a < b for a, b in sizes):
        return any(truth.translation)
    return is_output or any(prediction.translation)


def _sizes(prediction: VolumeSource, truth: VolumeSource) -> str:
    predicted, true = (sizes_text(voxel_size_um(one)) for one in (prediction, truth))
    return f"by their metadata the prediction has voxels of {predicted} µm, the truth of {true} µm"


def _other_place(start: Shape) -> str:
    return (
        f"by its metadata the prediction begins at voxel {_listed(start)} of the truth, which has "
        "the same shape: they are compared voxel by voxel; check that they show the same place"
    )


def _other_shape(prediction: VolumeSource, truth: VolumeSource) -> VolumeError:
    advice = (
        "expected arrays of the same volume and level, or a part whose metadata states its place "
        f"(voxel size, unit and translation){slices_advice(prediction.axes)}"
    )
    depth = truth.shape_zyx[0]
    if truth.shape_zyx[1:] == prediction.shape_zyx[1:] and depth < prediction.shape_zyx[0]:
        advice = (
            "it does not state which slices it has; add the others to it, with any value, and "
            f"choose those to compare with --slices, e.g. --slices 0:{depth} for the first {depth}"
        )
    return VolumeError(
        f"the prediction is {shape_text(prediction.shape_zyx)} voxels, the truth "
        f"{shape_text(truth.shape_zyx)}: {advice}"
    )


def _listed(start: Shape) -> str:
    return ",".join(map(str, start))
