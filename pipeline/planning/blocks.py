"""Blocks, tiles and regions: integers in, integers out.

Cores cover the volume exactly once; block and tile cores start at multiples of the network's
divisor, so that every tile pools on the grid on which the whole volume would::

         |------------------|              volume
    |hhhh|cccccccccccc|hhhh|               block 0: h halo, c core
                 |hhhh|cccccc......|hhhh|  block 1: . past the edge, mirrored

A plan may be of a box of the volume. Its first voxel need not be a multiple of the divisor; tiles
start at one all the same, below the core, and their scores are cropped to the core::

    |...|...|...|...|...|...|...|...|...|  the volume's pooling grid
             |cccccccccccc|cccccccccccc|   blocks of a box
            |tttttttt|ttttt|               tiles of block 0; block 1 reads them again, shifted
                          |tttttttt|ttt|
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ..base.errors import PlanError
from ..base.geometry import Box, Halo, Shape, round_up
from ..base.text import shape_text

MOST_BLOCKS = 10**8
"""The ledger has a byte per block, which a run holds in memory."""
MOST_ALONG_AXIS = 10**6

InputShape: TypeAlias = Callable[[Sequence[int]], Sequence[int]]
"""From the shape of a core to the smallest valid network input that covers it."""


@dataclass(frozen=True, slots=True)
class Block:
    """The unit of scheduling: what one Dask task reads and writes."""

    index: Shape
    """Position on the plan's grid."""
    core: Box
    """The voxels that it writes, clipped to the volume."""


@dataclass(frozen=True, slots=True)
class Region:
    """A group of neighbouring blocks: one Prefect task."""

    number: int
    blocks: Box
    """The blocks' positions on the plan's grid."""

    @property
    def indices(self) -> Iterator[Shape]:
        """Grid positions of the blocks, in array order."""
        ranges = (range(a, b) for a, b in zip(self.blocks.start, self.blocks.stop, strict=True))
        return itertools.product(*ranges)

    def __len__(self) -> int:
        return self.blocks.voxels


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockPlan:
    """All blocks of a volume, computed on demand.

    shape: the volume, or a box of it. core: what a block writes. tile: what a pass through the
    network writes (the core by default). halo: context per side. divisor: tiles start at its
    multiples. origin: the plan's first voxel in the volume; boxes are relative to it. within: the
    box that is computed, everything by default. Raises PlanError if tiles would pool on different
    grids.
    """

    shape: Shape
    core: Shape
    halo: Halo
    divisor: Shape
    tile: Shape = ()
    origin: Shape = ()
    within: Box | None = None
    traversal: Literal["tiles", "sweep"] = "tiles"
    """Whether a tile goes through the network as a whole, or plane by plane along z."""

    def __post_init__(self) -> None:
        if not self.tile:
            object.__setattr__(self, "tile", self.core)
        if not self.origin:
            object.__setattr__(self, "origin", (0,) * len(self.shape))
        for name in ("core", "tile", "divisor", "origin"):
            self._check_axes(name)
        if any(size < 1 for size in self.shape):
            raise PlanError(f"volume shape {self.shape}: expected at least one voxel per axis")
        check_multiple("block", self.core, self.divisor)
        check_multiple("tile", self.tile, self.divisor)
        check_count(self.shape, self.core)
        longest = (
            c + d * (r > 0) for c, d, r in zip(self.core, self.divisor, self.phase, strict=True)
        )
        if any(t > n for t, n in zip(self.tile, longest, strict=True)):
            raise PlanError(
                f"tile {shape_text(self.tile)} is larger than block {shape_text(self.core)}: "
                "a block consists of whole tiles; use a larger block or a smaller tile"
            )

    def _check_axes(self, name: str) -> None:
        sizes: Shape = getattr(self, name)
        if len(sizes) != len(self.shape):
            raise PlanError(
                f"{name} {sizes} has {len(sizes)} axes, the volume {self.shape} has "
                f"{len(self.shape)}: pass one size per axis"
            )

    @property
    def computed(self) -> Box:
        """The box that is computed, in the plan's voxels."""
        return Box.of_shape(self.shape) if self.within is None else self.within

    @property
    def phase(self) -> Shape:
        """Voxels per axis from the pooling grid's last start to the plan's first voxel."""
        return tuple(o % d for o, d in zip(self.origin, self.divisor, strict=True))

    @property
    def grid(self) -> Shape:
        """Number of blocks per axis."""
        return tuple(-(-n // c) for n, c in zip(self.shape, self.core, strict=True))

    def __len__(self) -> int:
        return math.prod(self.grid)

    def block(self, index: Sequence[int]) -> Block:
        """Return the block at a position of the grid."""
        start = tuple(i * c for i, c in zip(index, self.core, strict=True))
        unclipped = Box(start, tuple(a + c for a, c in zip(start, self.core, strict=True)))
        return Block(tuple(index), unclipped.clipped_to(Box.of_shape(self.shape)))

    def blocks(self) -> Iterator[Block]:
        """Yield every block in array order."""
        return map(self.block, itertools.product(*map(range, self.grid)))

    def tiles(self, core: Box) -> Iterator[Box]:
        """Yield the cores of a block's tiles: they cover what is computed of it exactly once.

        Each starts on the pooling grid, and so the first ones may start below the block's core.
        """
        axes = (
            self.tile_ranges(axis, *ends)
            for axis, ends in enumerate(zip(core.start, core.stop, strict=True))
        )
        for ranges in itertools.product(*axes):
            yield Box(tuple(a for a, _ in ranges), tuple(b for _, b in ranges))

    def tile_ranges(self, axis: int, start: int, stop: int) -> list[tuple[int, int]]:
        """Return the ranges of the tiles of a block that spans these voxels of an axis."""
        if self.within is not None:
            start = max(start, self.within.start[axis])
            stop = min(stop, self.within.stop[axis])
        if start >= stop:
            return []
        first = start - (self.origin[axis] + start) % self.divisor[axis]
        step = self.tile[axis]
        return [(a, min(a + step, stop)) for a in range(first, stop, step)]

    def outer(self, core: Box, input_shape: InputShape) -> Box:
        """Return the outer box of a block: the inputs of all its tiles."""
        return self.outer_of(list(self.tiles(core)), input_shape)

    def outer_of(self, tiles: Sequence[Box], input_shape: InputShape) -> Box:
        """Return the smallest box that holds the inputs of some tiles."""
        inputs = [tile_input(tile, self.halo, input_shape) for tile in tiles]
        return Box(
            tuple(map(min, zip(*(box.start for box in inputs), strict=True))),
            tuple(map(max, zip(*(box.stop for box in inputs), strict=True))),
        )

    def regions(self, *, at_most: int = 100, blocks_at_least: int = 8) -> list[Region]:
        """Return groups of neighbouring blocks that cover the grid exactly once.

        at_most: approximate limit (Prefect's server records about ten task runs per second).
        """
        size = self._region_size(max(blocks_at_least, -(-len(self) // at_most)))
        counts = [-(-g // s) for g, s in zip(self.grid, size, strict=True)]
        whole = Box.of_shape(self.grid)
        regions = []
        for number, index in enumerate(itertools.product(*map(range, counts))):
            start = tuple(i * s for i, s in zip(index, size, strict=True))
            stop = tuple(a + s for a, s in zip(start, size, strict=True))
            regions.append(Region(number, Box(start, stop).clipped_to(whole)))
        return regions

    def _region_size(self, blocks: int) -> Shape:
        """Return blocks per region and axis; the axis that is shortest in voxels grows first."""
        size = [1] * len(self.grid)
        while math.prod(size) < blocks:
            growable = [axis for axis, g in enumerate(self.grid) if size[axis] < g]
            if not growable:
                break
            shortest = min(growable, key=lambda axis: size[axis] * self.core[axis])
            size[shortest] = min(size[shortest] * 2, self.grid[shortest])
        return tuple(size)


def tile_input(core: Box, halo: Halo, input_shape: InputShape) -> Box:
    """Return the box that goes into the network so that its scores cover ``core``."""
    start = tuple(a - low for a, low in zip(core.start, halo.low, strict=True))
    size = input_shape(core.shape)
    return Box(start, tuple(a + n for a, n in zip(start, size, strict=True)))


def check_count(shape: Sequence[int], core: Sequence[int]) -> None:
    """Raise PlanError for more blocks than a run can hold."""
    grid = tuple(-(-n // c) for n, c in zip(shape, core, strict=True))
    if max(grid) > MOST_ALONG_AXIS or math.prod(grid) > MOST_BLOCKS:
        raise PlanError(
            f"{shape_text(grid)} blocks of {shape_text(core)} voxels: expected at most "
            f"{MOST_BLOCKS:,} in all, and {MOST_ALONG_AXIS:,} along an axis; use larger blocks "
            "(--block), or a part of the volume (--box)"
        )


def check_multiple(name: str, sizes: Sequence[int], divisor: Sequence[int]) -> None:
    """Raise PlanError unless each size is a positive multiple of the divisor."""
    if all(n >= 1 and n % d == 0 for n, d in zip(sizes, divisor, strict=True)):
        return
    fits = tuple(max(d, round_up(n, d)) for n, d in zip(sizes, divisor, strict=True))
    raise PlanError(
        f"{name} {shape_text(sizes)} is not a multiple of the network's divisor "
        f"{shape_text(divisor)}: tiles would pool on different grids and leave seams; "
        f"try {','.join(map(str, fits))}"
    )
