"""Checks that another output has the intermediate results that a run can use."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, Final

from ...base.errors import OutputError, PlanError
from ...base.geometry import Shape
from ...base.location import Location
from ...base.text import shape_text
from ...ledger.identity import Job
from ...ledger.ledger import read_states, run_attributes, run_group, stored_job
from ..tasks.intermediates import Intermediates
from ..tasks.since import INPUTS
from ..tasks.tasks import GRAPHS
from .prepared import PreparedObjects

OF_LATER_STAGES: Final = frozenset(
    {
        "agglomerate", "merge_threshold", "min_voxels", "max_voxels", "drops_border", "fill_holes",
        "intensity", "intensity_sample", "format", "voxel_size_um",
    }
)  # fmt: skip
"""What may differ: it is decided after the blocks are labelled and their fragments merged."""


OF_SCORES: Final = frozenset({"input", "input_sample", "input_uri", "input_path"})
"""What differs between the scores of two outputs of the same shape."""


def check_kept(output: Location) -> None:
    """Raise OutputError where intermediate results are to be kept that are deleted already."""
    if run_attributes(output).get("pyramid") == "complete" and not Intermediates(output).names(
        GRAPHS
    ):
        raise OutputError(
            f"--keep-intermediates: {output} is complete, and its intermediate files are deleted; "
            "choose another output, or replace it with --overwrite"
        )


def check_reuse(
    reused: Location, prepared: PreparedObjects, *, blocks: int, stages: tuple[str, ...]
) -> None:
    """Raise PlanError unless the output was made by the same labelling, and has all its files.

    stages: those of which every block needs a file.
    """
    stored = stored_job(reused)
    job = prepared.as_recorded(reused, stored).job
    if differences := _differences(job, stored, without=OF_LATER_STAGES):
        raise PlanError(f"{reused} cannot be reused: {differences}")
    for stage in stages:
        if len(Intermediates(reused).names(stage)) < blocks:
            raise PlanError(
                f"{reused} cannot be reused: it has no intermediate {stage}; make it with "
                "--keep-intermediates, and with --agglomerate if objects are to be merged now"
            )


def can_be_taken_over(earlier: Location) -> bool:
    """Return whether objects were kept with what ``--since`` takes from them."""
    return bool(Intermediates(earlier).names(INPUTS))


def check_since(earlier: Location, job: Job, *, grid: Shape) -> None:
    """Raise PlanError unless the output was made by the same definition, of scores of this shape.

    grid: blocks per axis. Which blocks can be taken over is decided block by block.
    """
    other, stored = OF_LATER_STAGES | OF_SCORES, stored_job(earlier)
    if stored.get("kind") != "objects":
        raise PlanError(
            f"--since {earlier} is not an output of objects: name the objects of the earlier "
            "segmentation, such as OUTPUT/labels/objects"
        )
    if differences := _differences(job, stored, without=other):
        raise PlanError(f"--since {earlier} was made in another way: {differences}")
    if not can_be_taken_over(earlier):
        raise PlanError(
            f"--since {earlier} has no intermediate results: expected objects that were found with "
            "--keep-intermediates; leave --since out"
        )
    states = read_states(earlier, run_group(earlier))
    if states.shape != grid:
        raise PlanError(
            f"--since {earlier} has {shape_text(states.shape)} blocks, this run "
            f"{shape_text(grid)}: expected scores of the same shape; leave --since out"
        )


def _differences(job: Job, stored: Mapping[str, Any], *, without: Collection[str]) -> str:
    """Return how two jobs differ, except in some parts."""
    ours = replace(job, parts={name: one for name, one in job.parts.items() if name not in without})
    return ours.differences({name: one for name, one in stored.items() if name not in without})
