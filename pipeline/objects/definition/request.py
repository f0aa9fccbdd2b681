"""The request for objects, checked once, on creation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

from ...base.choices import OmeVersion
from ...base.errors import OutputError, PlanError
from ...base.geometry import Shape
from ...base.location import Location
from ...output.kinds import OBJECTS_PATH
from ...planning.shares import Share
from ...volume.given_size import checked_sizes
from ...volume.volume import VolumeSource
from .method import Agglomerate, Role
from .neighbourhood import neighbour_offsets

PATH: Final = OBJECTS_PATH
"""Of the image of objects, in an output or in that of a segmentation."""
MethodName: TypeAlias = Literal["components", "watershed"]
Border: TypeAlias = Literal["keep", "drop"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectsRequest:
    """Scores, and what objects are in them. Scores and thresholds are 0 to 1.

    ``scores`` and ``output`` may be passed as text, which is parsed here.
    """

    scores: Location
    output: Location
    score_class: int | str | None = None
    """The class whose scores are used, by name or number."""
    role: Role | None = None
    """``foreground``: the class is that of the objects. ``boundary``: it lies between them. By
    default, what the name of the class says."""
    level: int | str | None = None
    time: int | None = None
    axes: str | None = None
    voxel_size_um: tuple[float, ...] | None = None
    """Of the finest level of the scores, along z, y, x (y, x of a 2-D image), whatever they state;
    of the image of grey values too."""
    method: MethodName = "components"
    threshold: float | None = None
    """Where objects are: scores at or above it, or below it for a boundary. By default 0.5; for the
    watershed of a boundary, everywhere."""
    connectivity: int = 6
    depth: float | None = None
    """For ``watershed``: basins of scores at least this deep are separate objects."""
    seed_threshold: float | None = None
    """For ``watershed``: seeds are where scores are beyond it; 0.5 where only a distance is set."""
    seed_distance: float | None = None
    """For ``watershed``: how deep inside a seed lies, in µm; in voxels of the finest axis where the
    scores state no unit of length."""
    agglomerate: Agglomerate = "none"
    """For the watershed of a boundary: merge objects by the mean score of their common face; each
    pair by itself (``threshold``), or the lowest first, with the means of what was merged
    (``mean``)."""
    merge_threshold: float | None = None
    per_slice: bool = False
    min_voxels: int = 1
    max_voxels: int | None = None
    fill_holes: bool = False
    """Whether background inside an object, not at the volume's edge, becomes the object's. Objects
    that are dropped for their size or place are background by then."""
    border: Border = "keep"
    """Whether objects that touch the volume's edge are kept."""
    intensity: VolumeSource | Location | str | None = None
    """An image of the same voxels, whose grey values the table describes."""
    intensity_start: Shape = (0, 0, 0)
    """The voxel of that image at which the scores begin."""
    csv: bool = False
    """Whether the table is also written as CSV."""
    block: Shape | None = None
    format: OmeVersion = "0.5"
    into_input: bool = False
    """Whether ``output`` is a label image of the scores, ``SCORES/labels/NAME``."""
    overwrite: bool = False
    keep_intermediates: bool = False
    reuse: Location | str | None = None
    """An output of the same scores and definition, made with ``keep_intermediates``; only what is
    merged, kept and filled may differ."""
    since: Location | str | None = None
    """Objects of earlier scores, made with ``keep_intermediates`` by the same definition: blocks
    whose scores are the same are not labelled again."""
    retries: int = 2
    shard: str | None = None
    """The share of the blocks that this run does, like ``"2/3"``; other runs do the others."""
    merge_only: bool = False
    """Whether the run ends once objects are numbered, so that shares write their labels."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "scores", Location.parse(self.scores))
        object.__setattr__(self, "output", Location.parse(self.output, kind=OutputError))
        object.__setattr__(self, "voxel_size_um", checked_sizes(self.voxel_size_um))
        if isinstance(self.intensity, str):
            object.__setattr__(self, "intensity", Location.parse(self.intensity))
        for name, value, allowed in (
            ("method", self.method, get_args(MethodName)),
            ("role", self.role, (None, *get_args(Role))),
            ("agglomerate", self.agglomerate, get_args(Agglomerate)),
            ("border", self.border, get_args(Border)),
            ("format", self.format, get_args(OmeVersion)),
        ):
            if value not in allowed:
                raise PlanError(f"{name} {value!r}: expected {' or '.join(filter(None, allowed))}")
        neighbour_offsets(self.connectivity, per_slice=self.per_slice)
        self._check_scores()
        self._check_watershed()
        self._check_agglomeration()
        self._check_sizes()

    @property
    def share(self) -> Share | None:
        """``shard`` as numbers. Raises PlanError."""
        return None if self.shard is None else Share.parse(self.shard)

    @property
    def reused(self) -> Location | None:
        """``reuse`` as a location."""
        return None if self.reuse is None else Location.parse(self.reuse)

    @property
    def earlier(self) -> Location | None:
        """``since`` as a location."""
        return None if self.since is None else Location.parse(self.since)

    @property
    def is_inside(self) -> bool:
        """Whether the objects become labels of the scores' own image."""
        return self.output == self.scores / PATH or self.into_input

    def _check_scores(self) -> None:
        for name, value in (
            ("threshold", self.threshold),
            ("seed threshold", self.seed_threshold),
            ("depth", self.depth),
            ("merge threshold", self.merge_threshold),
        ):
            if value is not None and not 0 < value <= 1:
                raise PlanError(f"{name} {value:g}: expected a score above 0 and up to 1")
        if self.seed_distance is not None and not 0.001 <= self.seed_distance <= 100_000:
            raise PlanError(
                f"--seed-distance {self.seed_distance:g}: expected 0.001 to 100,000 µm; leave it "
                "out for seeds at any depth"
            )

    def _check_watershed(self) -> None:
        options = {
            "--depth": self.depth,
            "--seed-threshold": self.seed_threshold,
            "--seed-distance": self.seed_distance,
        }
        used = [name for name, value in options.items() if value is not None]
        if self.method == "components" and used:
            raise PlanError(f"{used[0]} is for --method watershed, not for components")
        if self.depth is not None and len(used) > 1:
            raise PlanError(
                f"--depth and {used[1]} exclude each other: objects have seeds, or a depth"
            )

    def _check_agglomeration(self) -> None:
        is_merged = self.agglomerate != "none"
        if is_merged and self.method != "watershed":
            raise PlanError(f"--agglomerate {self.agglomerate} is for --method watershed")
        if is_merged != (self.merge_threshold is not None):
            raise PlanError(
                "--agglomerate threshold or mean, and --merge-threshold: pass both or neither"
            )

    def _check_sizes(self) -> None:
        if self.min_voxels < 1 or (self.max_voxels or self.min_voxels) < self.min_voxels:
            raise PlanError(
                f"--min-voxels {self.min_voxels} and --max-voxels {self.max_voxels}: expected at "
                "least 1, and no maximum below the minimum"
            )
        if self.block is not None and (len(self.block) != 3 or min(self.block) < 1):
            raise PlanError(f"block {self.block}: expected three sizes z,y,x of at least 1")
        self._check_share()
        if self.since is not None and self.reuse is not None:
            raise PlanError(
                "--since and --reuse exclude each other: pass --reuse for the same scores, --since "
                "for scores of which a part has changed"
            )
        if self.retries < 0:
            raise PlanError(f"retries ({self.retries}): expected at least 0")

    def _check_share(self) -> None:
        if self.share and self.overwrite:
            raise PlanError(
                f"--overwrite with --shard {self.share}: each share would delete the others' "
                f"blocks; delete {self.output} first, then start the shares without it"
            )
        if self.merge_only and (self.share or self.overwrite):
            other = "--overwrite" if self.overwrite else f"--shard {self.share}"
            raise PlanError(f"--merge-only with {other}: it merges what shares have labelled")
