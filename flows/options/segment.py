"""The options of a segmentation: of ``segment``, ``plan``, ``submit``, ``finish``, ``preflight``.

The models hold types, choices and bounds only: the pipeline checks the rest, for all entry points.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from pipeline.base.choices import Engine, Frame, OmeVersion, ScoresDtype, Traversal, Tta

from .declared import Shell
from .image import IMAGE, INPUT, ImageOptions, VoxelSizeOption
from .values import Outputs, Sizes, TileMemory

if TYPE_CHECKING:
    from pipeline.models.protocol import Predictor
    from pipeline.segmentation.request import SegmentRequest

PART, OUTPUT = "part of a volume", "output"
COMPUTATION, SHARES = "computation", "shares of a volume"


class SegmentFiles(BaseModel):
    """What a segmentation reads and writes."""

    input: Annotated[str, Shell(metavar="INPUT", positional=True)] = Field(
        description=IMAGE,
        examples=["s3://bucket/brain.zarr"],
    )
    output: Annotated[str, Shell(metavar="OUTPUT", positional=True)] = Field(
        description="OME-Zarr to create; an existing output of the same job is resumed",
        examples=["segmented.zarr"],
    )
    weights: Annotated[str, Shell(metavar="FILE|URI|NAME")] = Field(
        description="Weights file or URI, or the name of bundled weights, such as nuclei-2d",
        examples=["membranes.safetensors"],
    )


class FinishFiles(SegmentFiles):
    """What ``finish`` reads and completes."""

    output: Annotated[str, Shell(metavar="OUTPUT", positional=True)] = Field(
        description="Output of segment --shard, to complete", examples=["segmented.zarr"]
    )


class PlanFiles(SegmentFiles):
    """What ``plan`` reads, and what a run would write."""

    weights: Annotated[str | None, Shell(metavar="FILE|URI|NAME")] = Field(  # type: ignore[assignment]
        None,
        description="Weights file or URI, or the name of bundled weights; without them, with "
        "--objects, INPUT holds scores",
        examples=["membranes.safetensors"],
    )


class SegmentOptions(VoxelSizeOption, ImageOptions):
    """How to segment. Every option has a default that suits most volumes."""

    model_config = ConfigDict(extra="forbid", title="Advanced")

    box: Annotated[str | None, Shell(PART, metavar="Z0:Z1,Y0:Y1,X0:X1")] = Field(
        None,
        description="Box to segment, in voxels of the level or with nm, um or mm; ends may be "
        "left out (default: the whole volume)",
        examples=["0:32,100um:200um,:"],
    )
    frame: Annotated[Frame, Shell(PART)] = Field(
        "box", description="Whether the output has the shape of the box or of the volume"
    )
    mask: Annotated[str | None, Shell(PART, metavar="MASK")] = Field(
        None,
        description="Image of the same field of view, at any level: voxels where it is 0 become "
        "background, and blocks that are 0 everywhere in it are skipped",
        examples=["tissue.zarr"],
    )
    skip: Annotated[float | None, Shell(PART, metavar="VALUE")] = Field(
        None,
        description="Skip blocks whose input, halo included, is this value everywhere",
        examples=[0],
    )
    normalisation: Annotated[str | None, Shell(INPUT, metavar="KIND[:LOW:HIGH][@LEVEL]")] = Field(
        None,
        description="none, dtype, range:LOW:HIGH, percentile:LOW:HIGH or zscore; @LEVEL sets the "
        "level to measure on (default: that of the weights)",
        examples=["percentile:1:99@s2"],
    )
    outputs: Annotated[Outputs, Shell(OUTPUT)] = Field(
        [],
        description="Classes per voxel, probabilities per class, or both (default: classes; scores "
        "with --objects too, and alone where the network has no classes)",
    )
    _for_objects: bool = PrivateAttr(default=False)
    """Whether objects are found afterwards, in scores."""
    scores_dtype: Annotated[ScoresDtype, Shell(OUTPUT)] = Field(
        "uint8", title="Scores dtype", description="Data type of probabilities; uint8 means 0..255"
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
        description="OUTPUT is INPUT/labels/NAME: write the classes into the input, an OME-Zarr",
    )
    block: Annotated[Sizes | None, Shell(COMPUTATION)] = Field(
        None,
        description="Voxels that one task writes; Y,X is one slice (default: one or more tiles)",
        examples=[(64, 256, 256)],
    )
    tile: Annotated[Sizes | None, Shell(COMPUTATION)] = Field(
        None,
        description="Voxels of one pass through the network (default: from the tile memory)",
        examples=[(32, 128, 128)],
    )
    traversal: Annotated[Traversal, Shell(COMPUTATION)] = Field(
        "auto",
        description="How tiles go through the network: whole (tiles), or plane by plane along z "
        "(sweep, 3-D only); auto takes what needs fewer operations, and tiles if --tile is set",
    )
    tile_memory_gib: Annotated[TileMemory, Shell(COMPUTATION, name="tile-memory")] = Field(
        "auto",
        title="Tile memory (GiB)",
        description="Largest memory of one tile, in GiB or with a unit, such as 512MiB; auto takes "
        "what the workers can spare, as far as it saves work",
    )
    precision: Annotated[Literal["auto", "bf16", "fp32"], Shell(COMPUTATION)] = Field(
        "auto",
        description="Number format; auto is bfloat16 where the device has native support",
    )
    tta: Annotated[Tta, Shell(COMPUTATION)] = Field(
        "none",
        title="Test-time augmentation",
        description="Test-time augmentation: mean over 4 quarter turns (rotations), or over these "
        "and their mirror images (full: 8, 16 in 3-D); takes 4, 8 or 16 times as long",
    )
    engine: Annotated[Engine, Shell(COMPUTATION)] = Field(
        "store",
        description="How blocks get their halo: from the store, or from each other",
    )
    retries: Annotated[int, Shell(COMPUTATION)] = Field(
        2, ge=0, description="How often a failing block is tried again"
    )
    allow_seams: Annotated[bool, Shell(COMPUTATION)] = Field(
        False,
        title="Allow seams",
        description="Accept networks with instance or group normalisation; seams may show",
    )
    since: Annotated[str | None, Shell(COMPUTATION, metavar="OTHER")] = Field(
        None,
        description="Earlier output of the same volume, by other weights: use its blocks, report "
        "how many differ, and take coarser levels and objects from it where none does",
        examples=["segmented.zarr"],
    )
    shard: Annotated[str | None, Shell(SHARES, metavar="i/N")] = Field(
        None,
        title="Shard i/N",
        description="The i-th of N shares of the volume; separate runs compute the others, and "
        "overtile finish completes the output",
        examples=["2/3"],
    )

    def finding_objects(self) -> SegmentOptions:
        """Return the options of a run that finds objects too, hence stores scores."""
        if self.outputs == ["classes"]:
            return self.model_copy(update={"outputs": ["classes", "scores"]})
        found = self.model_copy()
        found._for_objects = True
        return found

    @property
    def tile_memory_bytes(self) -> int | None:
        """Memory of one tile; None: what the workers can spare."""
        return None if self.tile_memory_gib == "auto" else int(self.tile_memory_gib * 2**30)

    def request(self, *, input: str, output: str) -> SegmentRequest:  # noqa: A002
        """Return what the pipeline takes. Raises kinds of OvertileError."""
        from pipeline.base.errors import OutputError, VolumeError
        from pipeline.base.location import Location
        from pipeline.segmentation.request import SegmentRequest
        from pipeline.volume.intensity import parse_record

        source, target = Location.parse(input), Location.parse(output, kind=OutputError)
        mask = None if self.mask is None else Location.parse(self.mask)
        for location in (source, target, mask):
            if location is not None and location.scheme == "memory":
                raise VolumeError(
                    f"{location}: a memory:// store exists within one process, and workers are "
                    "other processes: use a path or s3://…, or, from Python, threads "
                    "(pipeline.segment_volume without client=)"
                )
        values: dict[str, Any] = self.model_dump(
            exclude={
                "precision", "tta", "tile_memory_gib", "normalisation", "channel", "outputs", "mask"
            }
        )  # fmt: skip
        channel = tuple(self.channel) if isinstance(self.channel, list) else self.channel
        return SegmentRequest(
            input=source,
            output=target,
            channel=channel,
            outputs=tuple(self.outputs),
            for_objects=self._for_objects,
            mask=mask,
            normalisation=parse_record(self.normalisation) if self.normalisation else None,
            tile_memory_bytes=self.tile_memory_bytes,
            **values,
        )

    def predictor(self, weights: str) -> Predictor:
        """Return what computes the scores with these weights. Raises kinds of OvertileError."""
        from pipeline.models.tta import with_tta
        from unet import UNetPredictor

        return with_tta(UNetPredictor(weights, precision=self.precision), self.tta)
