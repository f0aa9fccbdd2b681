"""Affinities as the scores that objects are made from: the channels of the nearest neighbours."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ...base.errors import PlanError, VolumeError
from ...base.geometry import Shape
from ...base.network_outputs import ATTRIBUTE
from ...base.stores import read_node
from ...volume.volume import VolumeSource
from .affinities import nearest_channels, stated_offsets
from .request import ObjectsRequest
from .scores import Scores

NAME: Final = "affinities"
"""In the place of the name of a class."""


def stored_offsets(source: VolumeSource) -> tuple[Shape, ...] | None:
    """Return the offset of each channel if the image of an array states affinities.

    Raises VolumeError for offsets that are missing or malformed.
    """
    node = read_node(source.store)
    return stated_offsets(node.attributes, where=str(source.store)) if node else None


def edge_scores(
    request: ObjectsRequest, source: VolumeSource, offsets: tuple[Shape, ...]
) -> Scores:
    """Return the affinities of an image, all of whose channels are ``source``.

    offsets: of each channel. Raises VolumeError where a channel of the nearest neighbours is
    missing, PlanError for options that are not for affinities.
    """
    where = source.store
    if len(offsets) != source.channel_count:
        raise VolumeError(
            f"{where} has {source.channel_count} channels and states {len(offsets)} offsets: "
            f"expected one for each channel; correct {ATTRIBUTE}.offsets in its attributes"
        )
    if source.level_names and source.path != source.level_names[0]:
        raise VolumeError(
            f"{where} holds affinities, whose offsets count voxels of its finest level: expected "
            f"{source.level_names[0]}, not {source.path}; leave --level out"
        )
    _check_options(request, where=str(where))
    channels = nearest_channels(
        offsets, shape=source.shape_zyx, per_slice=request.per_slice, where=str(where)
    )
    return Scores(
        source=replace(source, channels=tuple(channels.values()), channel_names=()),
        class_name=NAME,
        role="foreground",
        edge_axes=tuple(channels),
    )


def _check_options(request: ObjectsRequest, *, where: str) -> None:
    """Raise PlanError for options that are for scores of voxels."""
    if request.role is not None:
        raise PlanError(
            f"--role {request.role}: {where} holds affinities, which are high inside objects; "
            "leave --role out"
        )
    through_faces = (4, 6) if request.per_slice else (6,)
    if request.connectivity not in through_faces:
        raise PlanError(
            f"--connectivity {request.connectivity}: {where} holds affinities, which connect "
            "voxels through faces; leave --connectivity out"
        )
