"""The request for a segmentation, checked once, on creation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict, get_args

from ..base.choices import Engine, Frame, OmeVersion, OutputName, ScoresDtype, Traversal
from ..base.errors import OutputError, PlanError
from ..base.geometry import Shape
from ..base.location import Location
from ..output.kinds import OUTPUT_KINDS, SCORES
from ..planning.shares import Share
from ..volume.box_text import parse_box
from ..volume.given_size import checked_sizes, with_voxel_size
from ..volume.volume import VolumeSource, find_volume


class SegmentSettings(TypedDict, total=False):
    """The optional fields of SegmentRequest, as keyword arguments of ``segment_volume``."""

    level: int | str | None
    channel: int | str | tuple[int | str, ...] | None
    time: int | None
    axes: str | None
    voxel_size_um: tuple[float, ...] | None
    box: str | None
    frame: Frame
    mask: Location | str | None
    skip: float | None
    into_input: bool
    outputs: tuple[OutputName, ...]
    for_objects: bool
    scores_dtype: ScoresDtype
    normalisation: Mapping[str, Any] | None
    block: Shape | None
    tile: Shape | None
    traversal: Traversal
    tile_memory_bytes: int | None
    engine: Engine
    format: OmeVersion
    overwrite: bool
    allow_seams: bool
    since: Location | str | None
    retries: int
    shard: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentRequest:
    """A request for a segmentation; the same from Python, shell and Prefect. Shapes are z, y, x.

    ``input`` and ``output`` may be passed as text, which is parsed here.
    """

    input: Location
    output: Location
    level: int | str | None = None
    channel: int | str | tuple[int | str, ...] | None = None
    time: int | None = None
    axes: str | None = None
    voxel_size_um: tuple[float, ...] | None = None
    """Of the finest level, along z, y, x (y, x of a 2-D image), whatever the file states."""
    box: str | None = None
    """The part that is segmented, like ``"0:32,100um:200um,:"``; see volume/box_text.py."""
    frame: Frame = "box"
    """Whether the output has the shape of the box or of the volume."""
    mask: Location | str | None = None
    """An image of the same field of view; voxels where it is 0 become 0 in every output."""
    skip: float | None = None
    """Blocks whose input, halo included, is this value alone are not computed."""
    into_input: bool = False
    """Whether ``output`` is a label image of the input, ``INPUT/labels/NAME``."""
    outputs: tuple[OutputName, ...] = ()
    """Empty: what the network has, classes or scores; :func:`.outputs.with_outputs` decides."""
    for_objects: bool = False
    """Whether objects are found afterwards: scores are then among outputs that are left open."""
    scores_dtype: ScoresDtype = "uint8"
    normalisation: Mapping[str, Any] | None = None
    """A record (see intensity.py); by default, that of the weights."""
    block: Shape | None = None
    tile: Shape | None = None
    traversal: Traversal = "auto"
    """How tiles go through the network: as a whole, or plane by plane along z."""
    tile_memory_bytes: int | None = None
    """Memory of one tile; larger tiles cost fewer operations per voxel. None: what the workers can
    spare, as far as it saves work."""
    engine: Engine = "store"
    format: OmeVersion = "0.5"
    overwrite: bool = False
    allow_seams: bool = False
    since: Location | str | None = None
    """An earlier output of the same volume: this one gets its blocks, states which of them differ,
    and copies the shards of coarser levels that are made from blocks which do not."""
    retries: int = 2
    shard: str | None = None
    """The share of the volume that this run does, like ``"2/3"``; other runs do the others."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "input", Location.parse(self.input))
        object.__setattr__(self, "output", Location.parse(self.output, kind=OutputError))
        if isinstance(self.mask, str):
            object.__setattr__(self, "mask", Location.parse(self.mask))
        object.__setattr__(self, "voxel_size_um", checked_sizes(self.voxel_size_um))
        object.__setattr__(self, "outputs", tuple(sorted(set(self.outputs))))
        if set(self.outputs) - set(OUTPUT_KINDS):
            some = " or ".join(OUTPUT_KINDS)
            raise PlanError(f"outputs {','.join(self.outputs)!r}: expected {some}, one or more")
        choices = {
            "scores dtype": (self.scores_dtype, SCORES.dtypes),
            "engine": (self.engine, get_args(Engine)),
            "traversal": (self.traversal, get_args(Traversal)),
            "frame": (self.frame, get_args(Frame)),
            "format": (self.format, get_args(OmeVersion)),
        }
        for name, (value, allowed) in choices.items():
            if value not in allowed:
                raise PlanError(f"{name} {value!r}: expected {' or '.join(allowed)}")
        if self.retries < 0:
            raise PlanError(f"retries ({self.retries}): expected at least 0")
        if self.tile_memory_bytes is not None and self.tile_memory_bytes <= 0:
            raise PlanError(f"tile memory ({self.tile_memory_bytes}): expected more than 0 bytes")
        if self.traversal == "sweep" and self.engine != "store":
            raise PlanError(
                f"--traversal sweep with --engine {self.engine}: expected the engine store, whose "
                "tasks read whole blocks; leave one of the two out"
            )
        self._check_part()
        if self.share and self.overwrite:
            raise PlanError(
                f"--overwrite with --shard {self.shard}: each share would delete the others' "
                f"blocks; delete {self.output} first, then start the shares without it"
            )

    def _check_part(self) -> None:
        """Raise PlanError for a part of the volume that is written wrongly."""
        if self.box is not None:
            parse_box(self.box)
        parts = {"--box": self.box, "--mask": self.mask, "--skip": self.skip}
        used = [name for name, value in parts.items() if value is not None]
        if used and self.engine != "store":
            raise PlanError(
                f"{used[0]} with --engine {self.engine}: expected the engine store, which decides "
                "block by block what it reads"
            )

        if self.into_input and "scores" in self.outputs:
            raise PlanError(
                "--into-input with scores, which objects need too: an image has labels, and "
                "no scores, in it; choose another output"
            )
        if self.into_input and self.box is not None and self.frame == "box":
            raise PlanError(
                "--into-input with --box: labels have the input's shape; pass --frame volume"
            )

    @property
    def mask_location(self) -> Location | None:
        """``mask`` as a location."""
        return None if self.mask is None else Location.parse(self.mask)

    @property
    def earlier(self) -> Location | None:
        """``since`` as a location."""
        return None if self.since is None else Location.parse(self.since)

    @property
    def share(self) -> Share | None:
        """``shard`` as numbers. Raises PlanError."""
        return None if self.shard is None else Share.parse(self.shard)

    def find_source(self, *, level: int | str | None) -> VolumeSource:
        """Return the input volume at a level. Raises VolumeError; PlanError for its voxel size."""
        found = find_volume(
            self.input, level=level, channel=self.channel, time=self.time, axes=self.axes
        )
        return with_voxel_size(found, self.voxel_size_um)
