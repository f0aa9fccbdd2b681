"""What an evaluation may be asked for, as a pydantic model: it becomes the form in Prefect's UI."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from pipeline.base.geometry import Box
from pipeline.base.location import Location
from pipeline.evaluation.request import EvaluateRequest
from pipeline.evaluation.thresholds import DEFAULT_THRESHOLDS

ZYX = tuple[int, int, int]


class EvaluateOptions(BaseModel):
    """How to compare. By default classes are compared with classes."""

    model_config = ConfigDict(extra="forbid", title="Options")

    scores: int | str | None = Field(
        None,
        description="Class (of the boundary, where there are objects) whose scores are compared, "
        "by number or name; by default stored classes or ids are",
    )
    objects: Literal["ids", "components", "watershed"] | None = Field(
        None,
        description="What the predicted objects are: ids as stored, connected components below "
        "the score's threshold, or a watershed from seeds below it",
    )
    truth_objects: int | Literal["ids"] = Field(
        "ids",
        title="True objects",
        description="ids, 0 is none; or the number of a class, whose connected components they are",
    )
    per_slice: bool = Field(
        False,
        title="Per slice",
        description="Every z is an image of its own; figures are means over them",
    )
    slices: tuple[int, int] | None = Field(
        None, description="First z to compare, and the first one that is not"
    )
    box: tuple[ZYX, ZYX] | None = Field(
        None, description="First voxel z, y, x to compare, and the one behind the last"
    )
    ignore: int | None = Field(
        None, description="Label of the truth that marks voxels which do not count"
    )
    thresholds: list[float] = Field(
        list(DEFAULT_THRESHOLDS), min_length=1, description="Of the score, ascending"
    )
    seed_distance: float = Field(
        2.0,
        ge=0,
        title="Seed distance",
        description="Of a watershed: how deep a seed lies inside, in voxels of the finest axis; 0 "
        "thins the borders of connected components",
    )
    seed_voxels: int = Field(
        0, ge=0, title="Seed voxels", description="Of a watershed: what a seed has at least"
    )

    def request(self, *, prediction: str, truth: str) -> EvaluateRequest:
        """Return what the pipeline takes. Raises kinds of OvertileError."""
        values = self.model_dump(exclude={"box", "thresholds"})
        return EvaluateRequest(
            prediction=Location.parse(prediction),
            truth=Location.parse(truth),
            box=Box(*self.box) if self.box is not None else None,
            thresholds=tuple(self.thresholds),
            **values,
        )
