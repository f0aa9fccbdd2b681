"""Checks that an output was made by the job that is to resume it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..base.errors import OutputError
from ..base.redaction import command_text
from ..base.voxel_sizes import sizes_text
from ..ledger.identity import Job, check_job
from ..volume.volume import VolumeSource
from .request import SegmentRequest

SIZE = "voxel_size_um"


def check_same_job(
    request: SegmentRequest,
    source: VolumeSource,
    *,
    job: Job,
    stored: Mapping[str, Any],
    finishing: bool,
) -> None:
    """Raise OutputError if another job made the output.

    Where the voxel size alone differs, and scores are stored, the message names the command that
    measures objects with it: this needs no new segmentation.
    """
    try:
        check_job(request.output, job, stored, finishing=finishing)
    except OutputError as error:
        now = job.parts.get(SIZE)
        if now is None or finishing or job.differences({**stored, SIZE: now}):
            raise
        if "scores" not in request.outputs:
            raise
        sizes = sizes_text(source.voxel_size[3 - len(source.spatial_axes) :])
        words = ["overtile", "objects", request.output.uri, "OBJECTS", "--voxel-size", sizes]
        command = command_text(words)
        raise OutputError(f"{error}; to measure objects with this size: {command}") from None
