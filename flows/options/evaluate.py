"""The options of an evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field

from pipeline.base.choices import DEFAULT_THRESHOLDS, Objects

from .declared import Shell
from .values import BoxCorners, IdsOrClass, NumberOrName, Slices, Thresholds

if TYPE_CHECKING:
    from pipeline.evaluation.request import EvaluateRequest

COMPARISON, OBJECTS = "comparison", "objects"


class EvaluateFiles(BaseModel):
    """What an evaluation compares."""

    prediction: Annotated[str, Shell(metavar="PREDICTION", positional=True)] = Field(
        description="Output of overtile, or an image of classes, ids or scores",
        examples=["segmented.zarr"],
    )
    truth: Annotated[str, Shell(metavar="TRUTH", positional=True)] = Field(
        description="Classes or object ids of the same voxels or a part of them, in any format",
        examples=["truth.zarr"],
    )


class EvaluateOptions(BaseModel):
    """How to compare. By default classes are compared with classes."""

    model_config = ConfigDict(extra="forbid", title="Advanced")

    scores: Annotated[NumberOrName | None, Shell(COMPARISON, metavar="CLASS")] = Field(
        None,
        description="Class whose scores are compared at every threshold; with objects, the "
        "boundary (default: stored classes or ids are compared)",
        examples=["membrane"],
    )
    time: Annotated[int | None, Shell(COMPARISON)] = Field(
        None, ge=0, description="Time point of the arrays that have a time axis"
    )
    axes: Annotated[str | None, Shell(COMPARISON, metavar="AXES")] = Field(
        None,
        description="Axes of arrays that do not state theirs, else of the truth, which may lack c "
        "and t (default: by their number)",
        examples=["zyx"],
    )
    slices: Annotated[Slices | None, Shell(COMPARISON)] = Field(
        None, description="Slices z to compare, from A to B - 1", examples=[(20, 24)]
    )
    box: Annotated[BoxCorners | None, Shell(COMPARISON)] = Field(
        None,
        description="First voxel (z, y, x) to compare, and the first one after the box",
        examples=[((0, 0, 0), (32, 256, 256))],
    )
    ignore: Annotated[int | None, Shell(COMPARISON)] = Field(
        None, description="Label of the truth whose voxels do not count", examples=[255]
    )
    thresholds: Annotated[Thresholds, Shell(COMPARISON)] = Field(
        list(DEFAULT_THRESHOLDS), description="Thresholds of the score, in ascending order"
    )
    objects: Annotated[Objects | None, Shell(OBJECTS)] = Field(
        None,
        description="Objects of the prediction: stored ids, connected components below the "
        "threshold of the score, or a watershed from seeds below it",
    )
    truth_objects: Annotated[IdsOrClass, Shell(OBJECTS)] = Field(
        "ids",
        title="True objects",
        description="Objects of the truth: its ids, where 0 is background, or the connected "
        "components of a class, by name or number",
    )
    per_slice: Annotated[bool, Shell(OBJECTS)] = Field(
        False,
        title="Per slice",
        description="Treat each z as a separate image; figures are means over slices",
    )
    seed_distance: Annotated[float, Shell(OBJECTS, metavar="VOXELS")] = Field(
        2.0,
        ge=0,
        title="Seed distance",
        description="Depth of a watershed's seeds inside an object, in voxels of the finest axis; "
        "0 thins the borders of connected components",
    )
    seed_voxels: Annotated[int, Shell(OBJECTS)] = Field(
        0, ge=0, title="Seed voxels", description="Smallest seed of a watershed, in voxels"
    )

    def request(self, *, prediction: str, truth: str) -> EvaluateRequest:
        """Return what the pipeline takes. Raises kinds of OvertileError."""
        from pipeline.base.geometry import Box
        from pipeline.base.location import Location
        from pipeline.evaluation.request import EvaluateRequest

        values = self.model_dump(exclude={"box", "thresholds"})
        return EvaluateRequest(
            prediction=Location.parse(prediction),
            truth=Location.parse(truth),
            box=Box(*self.box) if self.box is not None else None,
            thresholds=tuple(self.thresholds),
            **values,
        )
