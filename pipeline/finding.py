"""``find_objects``: every object of a volume once, from its scores."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TypedDict, Unpack

from distributed import Client

from .base.choices import OmeVersion
from .base.errors import OutputError
from .base.geometry import Shape
from .base.local_client import local_client
from .base.location import Location
from .objects.definition.method import Agglomerate, Role
from .objects.definition.request import Border, MethodName, ObjectsRequest
from .objects.preparation.prepare import prepare_objects
from .objects.run import ObjectsRun


class ObjectsSettings(TypedDict, total=False):
    """The optional fields of ObjectsRequest, as keyword arguments of ``find_objects``."""

    score_class: int | str | None
    role: Role | None
    level: int | str | None
    time: int | None
    axes: str | None
    method: MethodName
    threshold: float | None
    connectivity: int
    depth: float | None
    seed_threshold: float | None
    seed_distance: float | None
    agglomerate: Agglomerate
    merge_threshold: float | None
    per_slice: bool
    min_voxels: int
    max_voxels: int | None
    fill_holes: bool
    border: Border
    intensity: Location | str | None
    csv: bool
    block: Shape | None
    format: OmeVersion
    into_input: bool
    overwrite: bool
    keep_intermediates: bool
    reuse: Location | str | None
    retries: int
    shard: str | None
    merge_only: bool


def find_objects(
    scores: str, output: str, *, client: Client | None = None, **settings: Unpack[ObjectsSettings]
) -> int:
    """Find the objects of a volume in blocks; return how many there are.

    scores, output: local paths or URIs. client: a Dask client; by default, threads of this process
    do the work. settings: fields of ObjectsRequest. Labels and ids are those of the whole volume.
    Raises kinds of OvertileError for what the user can fix, RunError for a run that did not
    complete.
    """
    request = ObjectsRequest(
        scores=Location.parse(scores), output=Location.parse(output, kind=OutputError), **settings
    )
    with local_client() if client is None else nullcontext(client) as active:
        return ObjectsRun.start(prepare_objects(request), active).complete()
