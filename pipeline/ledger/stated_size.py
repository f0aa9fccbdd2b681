"""The voxel size of an image as a person stated it to the runs that an output was made by."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ..base.errors import PlanError, VolumeError
from ..base.location import Location
from ..base.stores import read_node
from ..output.guard import RUN_GROUP
from ..volume.given_size import given_sizes, with_size_of_level, with_voxel_size
from ..volume.image_levels import levels_of
from ..volume.volume import VolumeSource
from .places import places_of


@dataclass(frozen=True, slots=True)
class _Run:
    """What the run of an output states."""

    job: Mapping[str, Any]
    inputs: tuple[str, ...]
    """Where the input may lie; none where it is not stated."""
    path: str
    """Of the array in the input that was read."""

    @property
    def is_of_objects(self) -> bool:
        return self.job.get("kind") == "objects"


def as_run_read(volume: VolumeSource, image: Location, output: Location) -> VolumeSource:
    """Return an image with the voxel size that was stated for it, if an output was made from it.

    volume: found at ``image``. The output may be objects, which may state a size of the scores
    that they were found in. Unchanged where the image is another one, or is read with other axes.
    """
    run, sizes = _run_at(output), None
    if run.is_of_objects:
        sizes = given_sizes(run.job)
        found = (_run_at(Location.parse(place)) for place in run.inputs)
        run = next((one for one in found if one.inputs), run)
    if run.is_of_objects or image.identity not in run.inputs:
        return volume
    try:
        sized = with_voxel_size(volume, given_sizes(run.job))
        if sizes is None:
            return sized
        levels = [level for _, level in levels_of(volume)] or [volume]
        read = next((level for level in levels if level.path == run.path), None)
        return sized if read is None else _as_level(volume, with_size_of_level(read, sizes))
    except PlanError:  # a size along other axes: the image is read with others than the run's
        return volume


def _as_level(volume: VolumeSource, level: VolumeSource) -> VolumeSource:
    """Return an image with the voxel size that was stated for one of its levels."""
    return with_voxel_size(volume, level.given_size_um)


def _run_at(output: Location) -> _Run:
    """Return what a run states; nothing where there is none."""
    node = None
    with suppress(VolumeError):  # what was there was removed
        node = read_node(output, path=RUN_GROUP)
    attributes = node.attributes if node else {}
    job, made = attributes.get("job"), attributes.get("provenance")
    stated = made if isinstance(made, Mapping) else {}
    source = stated.get("input")
    places = () if source is None else places_of(Location.parse(str(source)).identity, output)
    return _Run(
        job if isinstance(job, Mapping) else {},
        places,
        str(stated.get("input_path", "")),
    )
