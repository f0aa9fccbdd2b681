"""What a plan costs, and the tile and block sizes that cost least: integers in, integers out.

Everything is summed per axis and multiplied, so that a plan of 10^6 blocks costs no more to reckon
than one of ten.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..base.errors import PlanError
from ..base.geometry import Halo, Shape, round_up
from ..base.text import shape_text, size_text
from .blocks import BlockPlan, check_multiple

BLOCK_VOXELS = 2**24
"""A block of this size (256³) is read in about a second, and its shard is a handy file."""
CHUNK_VOXELS = 2**20
"""A chunk of this size (about 100³) is what a viewer likes to fetch."""
BLOCKS_WANTED = 64
"""Blocks grow beyond one tile only while there are at least this many: workers need blocks."""
CANDIDATES_APART = 1.4
"""Tiles are looked for at sizes so many times apart, then at all sizes near the best of them."""
TILE_LONGEST = 2048
"""Longer tiles gain nothing: the halo's share is small by then."""
WORKERS = (1, 2, 4, 8)
"""How many may share a volume, equally likely: a plan is made before workers are known."""

SMALL_FLOPS = 5 * 10**10
"""A volume of less work (a quarter of a second on a core) is not cut for several workers."""
TRIED = 1500
"""Of so many possible tiles, all are reckoned; more there are only of large volumes."""


class Network(Protocol):
    """The part of a Predictor that a budget asks."""

    @property
    def halo(self) -> tuple[int, int, int]:
        """Context per side in voxels."""

    @property
    def divisor(self) -> tuple[int, int, int]:
        """Tiles start at multiples of it."""

    def input_shape(self, output_shape: Sequence[int]) -> tuple[int, int, int]:
        """Return the smallest valid input that covers this output."""

    def flops(self, output_shape: Sequence[int]) -> int:
        """Return the operations of one tile."""

    def memory_bytes(self, output_shape: Sequence[int]) -> int:
        """Return the peak memory of one tile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What a volume and its output look like in storage; what the reckoning needs of them."""

    channels: int
    itemsize: int
    chunk_zyx: Shape
    output_bytes_per_voxel: int
    files_per_block: int
    worker_threads: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a plan costs; bytes are before compression, without the pyramid's coarser levels."""

    blocks: int
    regions: int
    tiles: int
    flops: int
    voxels: int
    bytes_read: int
    bytes_read_in_whole_chunks: int
    bytes_written: int
    files: int
    tile_memory_bytes: int
    block_memory_bytes: int
    worker_memory_bytes: int

    read_amplification: float
    """Voxels read for one voxel of the volume."""
    tile_amplification: float
    """Voxels that go through the network for one voxel of the volume."""


def reckon(plan: BlockPlan, network: Network, layout: Layout, *, regions: int) -> Budget:
    """Return what ``plan`` costs with this network."""
    sizes = [_tile_sizes(plan, axis) for axis in range(len(plan.shape))]
    tiles = flops = tile_input_voxels = 0
    for combination in itertools.product(*(counter.items() for counter in sizes)):
        shape = tuple(size for size, _ in combination)
        times = math.prod(count for _, count in combination)
        tiles += times
        flops += times * network.flops(shape)
        tile_input_voxels += times * math.prod(network.input_shape(shape))
    spans = [_read_spans(plan, network, axis) for axis in range(len(plan.shape))]
    voxel_bytes = layout.channels * layout.itemsize
    read = math.prod(sum(b - a for a, b in axis) for axis in spans)
    chunked = math.prod(
        sum(min(round_up(b, chunk), size) - a // chunk * chunk for a, b in axis)
        for axis, chunk, size in zip(spans, layout.chunk_zyx, plan.shape, strict=True)
    )
    voxels = math.prod(plan.shape)
    tile_memory = network.memory_bytes(_largest(plan.tile, plan.shape))
    block_memory = _block_memory_bytes(plan, network, layout)
    return Budget(
        blocks=len(plan),
        regions=regions,
        tiles=tiles,
        flops=flops,
        voxels=voxels,
        bytes_read=read * voxel_bytes,
        bytes_read_in_whole_chunks=chunked * voxel_bytes,
        bytes_written=voxels * layout.output_bytes_per_voxel,
        files=len(plan) * layout.files_per_block,
        tile_memory_bytes=tile_memory,
        block_memory_bytes=block_memory,
        worker_memory_bytes=tile_memory + layout.worker_threads * block_memory,
        read_amplification=read / voxels,
        tile_amplification=tile_input_voxels / voxels,
    )


def _largest(size: Shape, shape: Shape) -> Shape:
    return tuple(min(a, b) for a, b in zip(size, shape, strict=True))


def _tile_sizes(plan: BlockPlan, axis: int) -> Counter[int]:
    """Return how many tiles along an axis have which size: full, at a block's and volume's end."""
    core, tile, size = plan.core[axis], plan.tile[axis], plan.shape[axis]
    sizes: Counter[int] = Counter()
    full_blocks, rest = divmod(size, core)
    for length, times in ((core, full_blocks), (rest, 1)):
        sizes[tile] += length // tile * times
        if length % tile:
            sizes[length % tile] += times
    return Counter({length: times for length, times in sizes.items() if times})


def _read_spans(plan: BlockPlan, network: Network, axis: int) -> list[tuple[int, int]]:
    """Return, per block along an axis, the part of its outer box that lies in the volume."""
    core, tile, size = plan.core[axis], plan.tile[axis], plan.shape[axis]
    low = plan.halo.low[axis]
    reach: dict[int, int] = {}
    spans = []
    for start in range(0, size, core):
        length = min(core, size - start)
        if length not in reach:
            last = (length - 1) // tile * tile
            shape = list(_largest(plan.tile, plan.shape))
            shape[axis] = length - last
            reach[length] = last - low + network.input_shape(shape)[axis]
        spans.append((max(0, start - low), min(size, start + reach[length])))
    return spans


def _block_memory_bytes(plan: BlockPlan, network: Network, layout: Layout) -> int:
    """Return what one thread holds: the block as read, a tile as float32, the block's output."""
    core = _largest(plan.core, plan.shape)
    tile = _largest(plan.tile, plan.shape)
    outer = math.prod(
        c + n - t for c, n, t in zip(core, network.input_shape(tile), tile, strict=True)
    )
    tile_voxels = math.prod(network.input_shape(tile))
    raw = outer * layout.channels * layout.itemsize
    # Read once by zarr and once more where it is mirrored; a tile is normalised in float32.
    return (
        2 * raw
        + 2 * 4 * layout.channels * tile_voxels
        + 2 * math.prod(core) * layout.output_bytes_per_voxel
    )


def choose_tile(
    shape: Shape, network: Network, *, memory_bytes: int, workers: Sequence[int] = (1,)
) -> Shape:
    """Return the tile core with the least work for the whole volume within the memory.

    Work is the operations of all tiles, and those that workers miss who have no tile while others
    have: few large tiles leave workers idle, so a small volume is cut finer than memory asks.
    workers: numbers of them that are equally likely. Raises PlanError where not even the smallest
    tile fits.
    """
    candidates = [_candidates(size, d) for size, d in zip(shape, network.divisor, strict=True)]
    fitting = list(_largest_fitting(candidates, shape, network, memory_bytes))
    if not fitting:
        smallest = tuple(min(sizes) for sizes in candidates)
        need = network.memory_bytes(_largest(smallest, shape))
        raise PlanError(
            f"the smallest tile of this network ({shape_text(smallest)}) needs "
            f"{size_text(need)}, {size_text(memory_bytes)} were given: "
            "give more memory or take a smaller network"
        )
    if min(_volume_flops(tile, shape, network) for tile in fitting) < SMALL_FLOPS:
        workers = (1,)
    if max(workers) > 1:
        fitting += _smaller(candidates, shape, network, memory_bytes)

    def work(tile: Shape) -> tuple[float, int]:
        flops = _volume_flops(tile, shape, network)
        return flops * _waiting(tile, shape, workers), math.prod(tile)

    found = min(_likely(fitting, network), key=work)
    near = [_cuts_near(*each) for each in zip(shape, network.divisor, found, strict=True)]
    closer = list(_largest_fitting(near, shape, network, memory_bytes))
    return min([found, *_likely(closer, network)], key=work)


def _smaller(
    candidates: list[list[int]], shape: Shape, network: Network, memory_bytes: int
) -> Iterator[Shape]:
    """Yield smaller tiles that fit: all there are, or those that fill a part of the memory."""
    if math.prod(map(len, candidates)) <= TRIED:
        for tile in itertools.product(*candidates):
            if network.memory_bytes(_largest(tile, shape)) <= memory_bytes:
                yield tile
        return
    for part in (2, 4, 8):
        yield from _largest_fitting(candidates, shape, network, memory_bytes // part)


def _likely(tiles: list[Shape], network: Network) -> list[Shape]:
    """Return the tiles worth reckoning a whole volume for: the cheapest per voxel of each size."""
    best: dict[int, list[tuple[float, Shape]]] = {}
    for tile in set(tiles):
        voxels = math.prod(tile)
        best.setdefault(voxels.bit_length(), []).append((network.flops(tile) / voxels, tile))
    return [tile for found in best.values() for _, tile in sorted(found)[:40]]


def _waiting(tile: Shape, shape: Shape, workers: Sequence[int]) -> float:
    """Return how much longer a volume takes than if all workers had a tile until its end."""
    tiles = math.prod(-(-size // length) for size, length in zip(shape, tile, strict=True))
    longer = (-(-tiles // count) * count / tiles for count in workers)
    return sum(longer) / len(workers)


def _largest_fitting(
    candidates: list[list[int]], shape: Shape, network: Network, memory_bytes: int
) -> Iterator[Shape]:
    """Yield tiles that fit and cannot grow in y or x: smaller ones only cost more operations.

    For each z, a staircase: as y grows, the x that fits shrinks.
    """
    depths, heights, widths = candidates
    for depth in depths:
        column = len(widths) - 1
        for height in heights:
            while column >= 0:
                tile = (depth, height, widths[column])
                if network.memory_bytes(_largest(tile, shape)) <= memory_bytes:
                    yield tile
                    break
                column -= 1


def _candidates(size: int, divisor: int) -> list[int]:
    """Return tile sizes that cut an axis evenly, from the divisor to the whole axis."""
    sizes = set()
    wanted = float(divisor)
    while wanted < min(round_up(size, divisor), TILE_LONGEST) * CANDIDATES_APART:
        sizes.add(_even_cut(size, divisor, wanted))
        wanted *= CANDIDATES_APART
    return sorted(s for s in sizes if s <= max(TILE_LONGEST, divisor))


def _cuts_near(size: int, divisor: int, length: int) -> list[int]:
    """Return all tile sizes that cut an axis evenly and lie between a candidate's neighbours."""
    most = min(int(length * CANDIDATES_APART), max(TILE_LONGEST, divisor))
    least = max(divisor, round_up(int(length / CANDIDATES_APART), divisor))
    sizes = {_even_cut(size, divisor, wanted) for wanted in range(least, most + 1, divisor)}
    return sorted({length, *sizes})


def _even_cut(size: int, divisor: int, wanted: float) -> int:
    """Return the tile size of as many equal pieces as pieces of the wanted size take."""
    pieces = max(1, math.ceil(size / wanted))
    return round_up(math.ceil(size / pieces), divisor)


def _volume_flops(tile: Shape, shape: Shape, network: Network) -> int:
    axes = []
    for size, length in zip(shape, tile, strict=True):
        full, rest = divmod(size, length)
        axes.append([(s, n) for s, n in ((length, full), (rest, 1)) if s and n])
    return sum(
        network.flops(tuple(s for s, _ in combination)) * math.prod(n for _, n in combination)
        for combination in itertools.product(*axes)
    )


def choose_block(shape: Shape, tile: Shape) -> Shape:
    """Return the block core: whole tiles, as cubic as it goes, enough blocks for many workers."""
    whole = [-(-size // t) for size, t in zip(shape, tile, strict=True)]
    times = [1] * len(shape)

    def blocks(counts: Sequence[int]) -> int:
        return math.prod(-(-w // n) for w, n in zip(whole, counts, strict=True))

    while True:
        options = []
        for axis in range(len(shape)):
            grown = [min(n * 2, w) if i == axis else n
                     for i, (n, w) in enumerate(zip(times, whole, strict=True))]  # fmt: skip
            voxels = math.prod(n * t for n, t in zip(grown, tile, strict=True))
            if grown != times and voxels <= BLOCK_VOXELS and blocks(grown) >= BLOCKS_WANTED:
                options.append((grown[axis] * tile[axis], grown))
        if not options:
            return tuple(n * t for n, t in zip(times, tile, strict=True))
        times = min(options)[1]


def choose_chunk(core: Shape) -> Shape:
    """Return a chunk that divides the block core, of about :data:`CHUNK_VOXELS`."""
    chunk = list(core)
    while math.prod(chunk) > CHUNK_VOXELS:
        axis = max(range(len(chunk)), key=lambda a: chunk[a])
        factor = next(f for f in range(2, chunk[axis] + 1) if chunk[axis] % f == 0)
        chunk[axis] //= factor
    return tuple(chunk)


def make_plan(
    shape: Shape,
    network: Network,
    *,
    block: Shape | None = None,
    tile: Shape | None = None,
    memory_bytes: int = 2**31,
) -> BlockPlan:
    """Return the plan for a volume: what is not given is chosen.

    block, tile: cores in voxels; a size beyond the volume is cut down to it. memory_bytes: for one
    tile on the device. Raises PlanError for sizes that cannot be, or that do not fit.
    """
    divisor = network.divisor
    enough = tuple(round_up(n, d) for n, d in zip(shape, divisor, strict=True))
    for name, sizes in (("block", block), ("tile", tile)):
        if sizes is not None:
            if len(sizes) != len(shape):
                raise PlanError(
                    f"{name} {','.join(map(str, sizes))} has {len(sizes)} sizes: "
                    "give three, as z,y,x"
                )
            check_multiple(name, sizes, divisor)
    if block is not None:
        block = _largest(block, enough)
    if tile is not None:
        tile = _largest(tile, enough)
    elif block is not None:
        tile = choose_tile(block, network, memory_bytes=memory_bytes)
    else:
        tile = choose_tile(shape, network, memory_bytes=memory_bytes, workers=WORKERS)
    return BlockPlan(
        shape=shape,
        core=block or choose_block(shape, tile),
        tile=tile,
        halo=Halo.same_on_both_sides(network.halo),
        divisor=divisor,
    )
