"""The options that define objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from pipeline.base.choices import OmeVersion

from .declared import Shell
from .image import INPUT, VoxelSizeOption
from .segment import OUTPUT, SHARES
from .values import NumberOrName, Sizes

if TYPE_CHECKING:
    from pipeline.objects.definition.request import ObjectsRequest

DEFINITION, WATERSHED = "objects", "objects by watershed"
FILTERS = "objects that are kept"


class ObjectsFiles(BaseModel):
    """What the command reads and writes."""

    scores: Annotated[str, Shell(metavar="SCORES", positional=True)] = Field(
        description="Output of segment --outputs classes,scores, or an array of scores: a path or "
        "URI",
        examples=["segmented.zarr"],
    )
    output: Annotated[str, Shell(metavar="OUTPUT", positional=True)] = Field(
        description="OME-Zarr to create; an existing output of the same job is resumed",
        examples=["objects.zarr"],
    )


class ObjectDefinition(BaseModel):
    """What objects are. Thresholds are scores from 0 to 1."""

    model_config = ConfigDict(extra="forbid", title="Advanced")

    score_class: Annotated[
        NumberOrName | None, Shell(DEFINITION, name="class", metavar="N|NAME")
    ] = Field(
        None,
        title="Class",
        description="Class whose scores are used (default: of two, the boundary or the second; of "
        "affinities, all channels)",
        examples=["nucleus"],
    )
    role: Annotated[Literal["foreground", "boundary"] | None, Shell(DEFINITION)] = Field(
        None,
        description="Foreground: objects consist of the class (nuclei); boundary: they lie between "
        "it, like cells between membranes (default: boundary if the class is named so)",
    )
    method: Annotated[Literal["components", "watershed"], Shell(DEFINITION)] = Field(
        "components",
        description="Components: connected voxels; watershed: also splits objects that touch",
    )
    threshold: Annotated[float | None, Shell(DEFINITION, metavar="T")] = Field(
        None,
        description="Objects have scores of at least T, or are connected by affinities of at least "
        "T; between boundaries, below T (default: 0.5; every voxel for a watershed between "
        "boundaries)",
    )
    connectivity: Annotated[Literal["6", "18", "26"], Shell(DEFINITION)] = Field(
        "6", description="Neighbours of a voxel: through faces, also edges, also corners"
    )
    per_slice: Annotated[bool, Shell(DEFINITION)] = Field(
        False, title="Per slice", description="Every z is a separate image"
    )
    depth: Annotated[float | None, Shell(WATERSHED, metavar="H")] = Field(
        None,
        description="Basins of the scores that are at least H deep are separate objects (default: "
        "0.1 without seeds)",
    )
    seed_threshold: Annotated[float | None, Shell(WATERSHED, metavar="T")] = Field(
        None,
        title="Seed threshold",
        description="One object per connected seed, where scores are beyond T (default: 0.5 with "
        "--seed-distance)",
    )
    seed_distance: Annotated[float | None, Shell(WATERSHED, metavar="D")] = Field(
        None,
        title="Seed distance",
        description="Seeds lie farther than D inside the objects, in µm; in voxels of the finest "
        "axis if the scores state no unit (default: no such condition)",
    )
    agglomerate: Annotated[Literal["none", "threshold", "mean"], Shell(WATERSHED)] = Field(
        "none",
        description="Merge objects between which the boundary is weak: by the mean score of each "
        "common face, or (mean) the weakest first, with the means of what was merged",
    )
    merge_threshold: Annotated[float | None, Shell(WATERSHED, metavar="T")] = Field(
        None,
        title="Merge threshold",
        description="Mean score below which objects are merged; of affinities, at least this mean",
    )
    min_voxels: Annotated[int, Shell(FILTERS)] = Field(
        1, ge=1, title="Minimum voxels", description="Smallest object"
    )
    max_voxels: Annotated[int | None, Shell(FILTERS)] = Field(
        None, ge=1, title="Maximum voxels", description="Largest object (default: any size)"
    )
    fill_holes: Annotated[bool, Shell(FILTERS)] = Field(
        False,
        title="Fill holes",
        description="Background that one object encloses becomes part of it, after objects were "
        "dropped for their size or place",
    )
    border: Annotated[Literal["keep", "drop"], Shell(FILTERS)] = Field(
        "keep", description="Whether objects that touch the edge of the volume are kept"
    )

    csv: Annotated[bool, Shell(DEFINITION)] = Field(
        False, title="CSV", description="Write the table of objects as CSV too, for spreadsheets"
    )

    def values(self) -> dict[str, Any]:
        """Return the fields of ObjectsRequest that the definition sets."""
        return {**self.model_dump(include={*ObjectDefinition.model_fields}),
                "connectivity": int(self.connectivity)}  # fmt: skip


class WithObjects(BaseModel):
    """Whether a segmentation finds objects too."""

    objects: Annotated[bool, Shell(DEFINITION)] = Field(
        False,
        description="Then find the objects in the scores, into labels/objects of the output; the "
        "options below define them",
    )


class ScoresOptions(BaseModel):
    """An image beside existing scores."""

    intensity: Annotated[str | None, Shell(INPUT, metavar="IMAGE")] = Field(
        None,
        description="Image of the same voxels: the table states the mean, sum, minimum and maximum "
        "of each channel in every object",
        examples=["raw.zarr"],
    )


class ObjectsOptions(VoxelSizeOption, ScoresOptions, ObjectDefinition):
    """What objects are, and how to find them."""

    model_config = ConfigDict(extra="forbid", title="Options")

    level: Annotated[NumberOrName | None, Shell(INPUT)] = Field(
        None, description="Resolution level, by name or number (default: the finest)"
    )
    time: Annotated[int | None, Shell(INPUT)] = Field(
        None, ge=0, description="Time point of a time series"
    )
    axes: Annotated[str | None, Shell(INPUT, metavar="AXES")] = Field(
        None,
        description="Axes of the stored array (default: those in its metadata)",
        examples=["czyx"],
    )
    block: Annotated[Sizes | None, Shell(OUTPUT)] = Field(
        None, description="Voxels of one block and file (default: 128,128,128 or larger)"
    )
    format: Annotated[OmeVersion, Shell(OUTPUT)] = Field(
        "0.5", description="OME-Zarr version of the output; only 0.5 has shards"
    )
    overwrite: Annotated[bool, Shell(OUTPUT)] = Field(
        False, description="Replace an existing output"
    )
    into_input: Annotated[bool, Shell(OUTPUT)] = Field(
        False,
        title="Into the input",
        description="OUTPUT is SCORES/labels/NAME: write the labels into the scores' own image",
    )
    keep_intermediates: Annotated[bool, Shell(OUTPUT)] = Field(
        False,
        title="Keep intermediates",
        description="Keep the intermediate files in run/objects of the output",
    )
    reuse: Annotated[str | None, Shell(OUTPUT, metavar="OTHER")] = Field(
        None,
        description="Output of the same scores made with --keep-intermediates: blocks are not "
        "labelled again where only merging, filters or holes differ",
    )
    since: Annotated[str | None, Shell(OUTPUT, metavar="OTHER")] = Field(
        None,
        description="Objects of earlier scores made with --keep-intermediates: blocks whose "
        "scores have not changed are not labelled again",
    )
    retries: Annotated[int, Shell(OUTPUT)] = Field(
        2, ge=0, description="How often a failing block is tried again"
    )

    shard: Annotated[str | None, Shell(SHARES, metavar="i/N")] = Field(
        None,
        title="Shard i/N",
        description="The i-th of N shares of the blocks: labels them or, after --merge-only, "
        "writes them; separate runs do the others, and a run without --shard completes the output",
        examples=["2/3"],
    )
    merge_only: Annotated[bool, Shell(SHARES)] = Field(
        False,
        title="Merge only",
        description="Merge what all shares have labelled, then end: each --shard i/N can write "
        "its labels",
    )

    def request(self, *, scores: str, output: str) -> ObjectsRequest:
        """Return what the pipeline takes. Raises kinds of OvertileError."""
        from pipeline.base.location import Location
        from pipeline.objects.definition.request import ObjectsRequest

        values = self.model_dump(exclude={*ObjectDefinition.model_fields})
        return ObjectsRequest(
            scores=Location.parse(scores), output=Location.parse(output), **values, **self.values()
        )
