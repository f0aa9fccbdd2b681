"""Checks that another output has the intermediate results that a run can use."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ...base.errors import OutputError, PlanError
from ...base.location import Location
from ...ledger.identity import Job
from ...ledger.ledger import run_attributes, stored_job
from ..tasks.intermediates import Intermediates
from ..tasks.tasks import GRAPHS

OF_LATER_STAGES: Final = frozenset(
    {
        "agglomerate", "merge_threshold", "min_voxels", "max_voxels", "drops_border", "fill_holes",
        "intensity", "format", "voxel_size_um",
    }
)  # fmt: skip
"""What may differ: it is decided after the blocks are labelled and their fragments merged."""


def check_kept(output: Location) -> None:
    """Raise OutputError where intermediate results are to be kept that are deleted already."""
    if run_attributes(output).get("pyramid") == "complete" and not Intermediates(output).names(
        GRAPHS
    ):
        raise OutputError(
            f"--keep-intermediates: {output} is complete, and its intermediate files are deleted; "
            "choose another output, or replace it with --overwrite"
        )


def check_reuse(reused: Location, job: Job, *, blocks: int, stages: tuple[str, ...]) -> None:
    """Raise PlanError unless the output was made by the same labelling, and has all its files.

    stages: those of which every block needs a file.
    """
    stored = stored_job(reused)
    kept = {name: one for name, one in job.parts.items() if name not in OF_LATER_STAGES}
    ours = replace(job, parts=kept)
    theirs = {name: one for name, one in stored.items() if name not in OF_LATER_STAGES}
    if differences := ours.differences(theirs):
        raise PlanError(f"{reused} cannot be reused: {differences}")
    for stage in stages:
        if len(Intermediates(reused).names(stage)) < blocks:
            raise PlanError(
                f"{reused} cannot be reused: it has no intermediate {stage}; make it with "
                "--keep-intermediates, and with --agglomerate if objects are to be merged now"
            )
