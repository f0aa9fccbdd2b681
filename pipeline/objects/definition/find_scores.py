"""Finds the scores that objects are made from: those of a class, or affinities."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from ...base.errors import OutputError, VolumeError
from ...base.json_text import inner_object
from ...base.stores import read_node
from ...output.guard import RUN_GROUP
from ...output.image_spec import ImageSpec
from ...volume.formats.image import ZYX, Units
from ...volume.given_size import check_voxels_of_file, with_voxel_size
from ...volume.known_formats import format_of
from ...volume.volume import VolumeSource, find_volume
from .edge_scores import edge_scores, stored_offsets
from .method import Role
from .request import ObjectsRequest
from .scores import Scores

_CLASSES: Final = "labels/classes"
_BOUNDARIES: Final = (
    "boundary", "boundaries", "membrane", "membranes", "border", "borders", "edge", "edges",
    "wall", "walls", "cell wall", "contour", "outline",
)  # fmt: skip


def find_scores(request: ObjectsRequest) -> Scores:
    """Return the scores of the requested class; without one, affinities where they are stored.

    Reads metadata only. Raises VolumeError for what holds no scores, for an unknown class, and
    where more than one class could be meant.
    """
    everything = source = _stored(request, None)
    if request.score_class is None and (offsets := stored_offsets(source)) is not None:
        _check_dtype(source)
        return edge_scores(request, _sized(request, source), offsets)
    names = source.channel_names if "c" in source.axes else ()
    number = choose_class(request.score_class, names, source.channel_count)
    if "c" in source.axes:
        source = _stored(request, number)
    _check_dtype(source)
    source, everything = _sized(request, source), _sized(request, everything)
    name = names[number] if number < len(names) else str(number)
    return _scores(request, source, everything, name, job_parts=partial(_job_parts, request))


def _check_dtype(source: VolumeSource) -> None:
    if source.dtype not in ("uint8", "uint16", "float16", "float32", "float64"):
        raise VolumeError(
            f"{source.location} holds {source.dtype}: expected scores as uint8, uint16, or floats "
            "from 0 to 1"
        )


def _sized(request: ObjectsRequest, source: VolumeSource) -> VolumeSource:
    """Return scores with the requested voxel size.

    Raises PlanError for labels inside the image of the scores, which states another one.
    """
    sized = with_voxel_size(source, request.voxel_size_um)
    if request.is_inside:
        check_voxels_of_file(sized)
    return sized


def planned_scores(
    request: ObjectsRequest, image: ImageSpec, *, job_parts: Mapping[str, Any]
) -> Scores:
    """Return the scores that a segmentation will write. Raises VolumeError for an unknown class.

    image: of the scores, with the axis c. job_parts: of the segmentation.
    """
    z, y, x = map(abs, image.voxel_sizes[0])
    counts = dict(zip(image.axes, image.chunks[0], strict=True))
    names = image.class_names
    everything = VolumeSource(
        store=request.scores, path=image.level_path(0), axes=image.axes, shape=image.shapes[0],
        dtype=image.dtype, channels=None, time=None, voxel_size=(z, y, x), unit=_units(image),
        translation=_zyx(image.translations[0]),
        chunk_shape_zyx=(counts.get("z", 1), counts["y"], counts["x"]), description="{}",
        name=image.name, channel_names=names,
    )  # fmt: skip
    if request.score_class is None and image.outputs.kind == "affinities":
        return edge_scores(request, everything, image.outputs.offsets)
    number = choose_class(request.score_class, names, len(names))
    source = replace(everything, channels=(number,), channel_names=(names[number],))
    return _scores(request, source, everything, names[number], job_parts=lambda: job_parts)


def _units(image: ImageSpec) -> Units:
    z, y, x = image.unit
    return z, y, x


def _zyx(values: Sequence[float]) -> ZYX:
    z, y, x = values
    return z, y, x


def _scores(
    request: ObjectsRequest, source: VolumeSource, everything: VolumeSource, name: str, *,
    job_parts: Callable[[], Mapping[str, Any]],
) -> Scores:  # fmt: skip
    """Return the scores of a class. job_parts: returns those of the segmentation, if it is one."""
    role, parts = request.role or role_of(name), job_parts()
    is_partial = role == "boundary" and everything.channel_count > 1 and is_of_a_part(parts)
    return Scores(
        source=source, class_name=name, role=role, all_classes=everything if is_partial else None,
        from_slices=source.shape_zyx[0] > 1 and sees_slices_alone(parts),
    )  # fmt: skip


def is_of_a_part(job_parts: Mapping[str, Any]) -> bool:
    """Return whether a segmentation leaves voxels of its output out, where all scores are 0."""
    return any(name in job_parts for name in ("mask", "skip")) or (
        job_parts.get("frame") == "volume"
    )


def sees_slices_alone(job_parts: Mapping[str, Any]) -> bool:
    """Return whether a segmentation's network reads no voxel of the slices beside its own."""
    halo = job_parts.get("halo")
    return isinstance(halo, Sequence) and list(halo)[:1] == [0]


def _job_parts(request: ObjectsRequest) -> Mapping[str, Any]:
    """Return what identifies the segmentation that wrote the scores; nothing for others."""
    run = read_node(request.scores, path=RUN_GROUP)
    return inner_object(run.attributes, "job") if run else {}


def role_of(class_name: str) -> Role:
    """Return what the name of a class says that it is.

    >>> role_of("Membrane"), role_of("nucleus")
    ('boundary', 'foreground')
    """
    return "boundary" if class_name.strip().lower() in _BOUNDARIES else "foreground"


def _stored(request: ObjectsRequest, channel: int | None) -> VolumeSource:
    node = read_node(request.scores)
    if request.is_inside and node is not None and node.kind == "array":
        raise OutputError(
            f"{request.output} lies inside an array, {request.scores}: only the image of a "
            "segmentation has labels; choose another output"
        )
    is_output = node is not None and read_node(request.scores, path=_CLASSES) is not None
    source = find_volume(
        request.scores, level=request.level, channel=channel, time=_time(request),
        axes=request.axes, holds="anything",
    )  # fmt: skip
    inside = source.path.startswith(f"{_CLASSES}/") or "image-label" in str(
        node.attributes if node else ""
    )
    if inside or (is_output and "c" not in source.axes):
        raise VolumeError(
            f"{request.scores} holds classes and no scores: segment with --outputs classes,scores"
        )
    return source


def _time(request: ObjectsRequest) -> int | None:
    """Return the time point of the scores; None where only the image of grey values has some."""
    if request.time is None or request.intensity is None:
        return request.time
    image_format = format_of(request.scores)
    image = image_format.describe(request.scores, level=request.level, axes=request.axes)
    return request.time if "t" in image.axes else None


def choose_class(chosen: int | str | None, names: Sequence[str], count: int) -> int:
    """Return the number of the class that makes objects. Raises VolumeError if it is unknown.

    chosen: its name or number; None where there is only one that can be meant.
    """
    listed = ", ".join(names) or (f"0 to {count - 1}" if count > 1 else "0")
    if chosen is None:
        return _only_class(names, count, listed)
    matches = [i for i, name in enumerate(names) if name.lower() == str(chosen).strip().lower()]
    if len(matches) == 1:
        return matches[0]
    if str(chosen).isdecimal() and int(chosen) < count:
        return int(chosen)
    raise VolumeError(f"the scores have no class {chosen!r}: expected one of {listed}")


def _only_class(names: Sequence[str], count: int, listed: str) -> int:
    """Return the class that is meant where none is named: one of one, or the second of two."""
    if count == 1:
        return 0
    boundaries = [i for i, name in enumerate(names) if role_of(name) == "boundary"]
    if count == 2:
        return boundaries[0] if boundaries else 1
    raise VolumeError(f"{count} classes ({listed}): choose the one that makes objects with --class")
