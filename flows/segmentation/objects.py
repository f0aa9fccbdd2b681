"""The objects of a segmentation, before its scores exist: checked, and planned."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.base.errors import PlanError
from pipeline.base.geometry import Shape
from pipeline.base.location import Location
from pipeline.objects.definition.request import PATH, ObjectsRequest
from pipeline.objects.preparation.memory import check_room
from pipeline.objects.preparation.prepare import plan_objects, prepare_objects
from pipeline.objects.preparation.prepared import PreparedObjects
from pipeline.segmentation.prepare import Prepared

from ..options.objects import ObjectDefinition

if TYPE_CHECKING:
    from deploy import Client
    from pipeline.objects.run import ObjectsRun


def planned_objects(objects: ObjectDefinition, prepared: Prepared) -> PreparedObjects:
    """Return what a run would do for the objects of a segmentation. Writes nothing.

    Raises kinds of OvertileError, before anything is computed, for objects that do not fit the
    segmentation, and where a local disk has no room for them.
    """
    image = next((one for one in prepared.images if one.name == "scores"), None)
    if image is None:
        raise PlanError("--objects needs scores: pass --outputs classes,scores too")
    request = objects_request(objects, prepared)
    if prepared.output_action == "resumed":
        found = prepare_objects(request)
    else:
        found = plan_objects(request, image, job_parts=prepared.part.job_parts())
    check_room(found)
    return found


def objects_run(objects: ObjectDefinition, prepared: Prepared, client: Client) -> ObjectsRun:
    """Begin to find the objects of a segmentation that is complete."""
    from pipeline.objects.run import ObjectsRun

    return ObjectsRun.start(_prepared_since(objects_request(objects, prepared), prepared), client)


def _prepared_since(request: ObjectsRequest, prepared: Prepared) -> PreparedObjects:
    """Return what a run does, which uses the objects of an earlier output where it can."""
    since = objects_since(prepared.request.earlier)
    if since is None:
        return prepare_objects(request)
    try:
        return prepare_objects(replace(request, since=since))
    except PlanError as error:
        found = prepare_objects(request)
        return replace(found, notes=(*found.notes, f"{error}; all blocks are labelled"))


def objects_request(objects: ObjectDefinition, prepared: Prepared) -> ObjectsRequest:
    """Return the request for the objects of a segmentation, into its own labels."""
    request = prepared.request
    return ObjectsRequest(
        scores=request.output, output=request.output / PATH, format=request.format,
        overwrite=prepared.output_action == "replaced", retries=request.retries,
        intensity=prepared.source, intensity_start=_start(prepared), **objects.values(),
    )  # fmt: skip


def objects_since(earlier: Location | None) -> Location | None:
    """Return the objects inside an earlier output, where they keep their intermediate results."""
    from pipeline.objects.tasks.intermediates import Intermediates
    from pipeline.objects.tasks.since import INPUTS

    if earlier is None:
        return None
    objects = earlier / PATH
    return objects if Intermediates(objects).names(INPUTS) else None


def _start(prepared: Prepared) -> Shape:
    """Return the voxel of the input at which the output begins."""
    box = prepared.part.box
    is_cropped = box is not None and prepared.request.frame == "box"
    return box.start if box is not None and is_cropped else (0, 0, 0)
