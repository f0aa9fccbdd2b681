"""Which tile, block and chunk sizes cost least: integers in, integers out."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

from ..base.errors import PlanError
from ..base.geometry import Shape, round_up
from ..base.text import shape_text, size_text
from .budget import clip
from .network import Network

BLOCK_VOXELS = 2**24
"""Largest block, 256³: it is read in about a second, and its shard is a file of handy size."""
CHUNK_VOXELS = 2**20
"""Largest chunk, about 100³: a good size for a viewer to fetch."""
BLOCKS_WANTED = 64
"""Blocks grow beyond one tile only while at least this many remain for the workers."""
CANDIDATES_APART = 1.4
"""Ratio of successive candidate sizes; all sizes near the best candidate are tried next."""
TILE_LONGEST = 2048
"""Longest side of a tile. Longer tiles gain nothing: the halo is a small part by then."""
WORKERS = (1, 2, 4, 8)
"""Possible numbers of workers, equally likely, where they are not known."""

SMALL_FLOPS = 5 * 10**10
"""A volume of fewer operations (a quarter of a second on a core) is planned for one worker."""
TRIED = 1500
"""Up to this many tiles that cut a volume evenly, all are tried; only large volumes have more."""
MOST_CUTS = 10**6
"""Of a longer axis, in divisors, not all cuts are listed."""


class SmallestTileError(PlanError):
    """Even the smallest tile of the network needs more memory than there is."""

    def __init__(self, memory_bytes: int, *, smallest: Shape, need_bytes: int) -> None:
        self.needs = (
            f"the smallest tile of this network, {shape_text(smallest)}, needs "
            f"{size_text(need_bytes)}"
        )
        super().__init__(
            f"tile memory ({size_text(memory_bytes)}): {self.needs}; raise --tile-memory or use a "
            "smaller network"
        )


def choose_tile(
    shape: Shape, network: Network, *, memory_bytes: int, workers: Sequence[int] = (1,)
) -> Shape:
    """Return the tile core that fits the memory and costs the least work for the whole volume.

    Work is the operations of all tiles, plus those that idle workers could have done meanwhile: few
    large tiles leave workers idle, so a small volume gets smaller tiles than fit in memory.
    workers: possible numbers of workers, equally likely. Raises PlanError if even the smallest tile
    does not fit.
    """
    axes = list(zip(shape, network.divisor, strict=True))
    is_short = all(size <= d * MOST_CUTS for size, d in axes)
    every = [_every_cut(size, d) for size, d in axes] if is_short else []
    is_small = is_short and math.prod(map(len, every)) <= TRIED
    candidates = every if is_small else [_candidates(size, d) for size, d in axes]
    fitting = list(_largest_fitting(candidates, shape, network, memory_bytes))
    if not fitting:
        smallest = tuple(min(sizes) for sizes in candidates)
        need = network.memory_bytes(clip(smallest, shape))
        raise SmallestTileError(memory_bytes, smallest=smallest, need_bytes=need)
    if min(volume_flops(tile, shape, network) for tile in fitting) < SMALL_FLOPS:
        workers = (1,)
    if max(workers) > 1:
        fitting += _smaller(candidates, shape, network, memory_bytes)

    def work(tile: Shape) -> tuple[float, int]:
        flops = volume_flops(tile, shape, network)
        return flops * _waiting(tile, shape, workers), math.prod(tile)

    if is_small:
        return min(fitting, key=work)
    found = min(_likely(fitting, network), key=work)
    near = [_cuts_near(*each) for each in zip(shape, network.divisor, found, strict=True)]
    closer = list(_largest_fitting(near, shape, network, memory_bytes))
    return min([found, *_likely(closer, network)], key=work)


def _smaller(
    candidates: list[list[int]], shape: Shape, network: Network, memory_bytes: int
) -> Iterator[Shape]:
    """Yield smaller tiles that fit: all of them, or those that fill a fraction of the memory."""
    if math.prod(map(len, candidates)) <= TRIED:
        for tile in itertools.product(*candidates):
            if network.memory_bytes(clip(tile, shape)) <= memory_bytes:
                yield tile
        return
    for part in (2, 4, 8):
        yield from _largest_fitting(candidates, shape, network, memory_bytes // part)


def _likely(tiles: list[Shape], network: Network) -> list[Shape]:
    """Return the cheapest tiles per voxel, a few of each size class: only they can be best."""
    best: dict[int, list[tuple[float, Shape]]] = {}
    for tile in set(tiles):
        voxels = math.prod(tile)
        best.setdefault(voxels.bit_length(), []).append((network.flops(tile) / voxels, tile))
    return [tile for found in best.values() for _, tile in sorted(found)[:40]]


def _waiting(tile: Shape, shape: Shape, workers: Sequence[int]) -> float:
    """Return how many times longer a volume takes than if no worker were ever idle."""
    tiles = math.prod(-(-size // length) for size, length in zip(shape, tile, strict=True))
    longer = (-(-tiles // count) * count / tiles for count in workers)
    return sum(longer) / len(workers)


def _largest_fitting(
    candidates: list[list[int]], shape: Shape, network: Network, memory_bytes: int
) -> Iterator[Shape]:
    """Yield tiles that fit but not if larger in y or x: smaller tiles only cost more operations.

    For each z, a staircase: as y grows, the x that fits shrinks.
    """
    depths, heights, widths = candidates
    for depth in depths:
        column = len(widths) - 1
        for height in heights:
            while column >= 0:
                tile = (depth, height, widths[column])
                if network.memory_bytes(clip(tile, shape)) <= memory_bytes:
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


def _every_cut(size: int, divisor: int) -> list[int]:
    """Return all tile sizes that cut an axis evenly, about twice the root of its length."""
    whole = round_up(size, divisor)
    cuts = {_even_cut(size, divisor, size / pieces) for pieces in range(1, whole // divisor + 1)}
    return sorted(cut for cut in cuts if cut <= max(TILE_LONGEST, divisor))


def _cuts_near(size: int, divisor: int, length: int) -> list[int]:
    """Return all tile sizes that cut an axis evenly, from the candidate before to the one after."""
    most = min(int(length * CANDIDATES_APART), max(TILE_LONGEST, divisor))
    least = max(divisor, round_up(int(length / CANDIDATES_APART), divisor))
    sizes = {_even_cut(size, divisor, wanted) for wanted in range(least, most + 1, divisor)}
    return sorted({length, *sizes})


def _even_cut(size: int, divisor: int, wanted: float) -> int:
    """Return the size of equal pieces, as many as pieces of the wanted size would be."""
    pieces = max(1, math.ceil(size / wanted))
    return round_up(math.ceil(size / pieces), divisor)


def volume_flops(tile: Shape, shape: Shape, network: Network) -> int:
    """Return the operations of a volume that is cut into tiles."""
    axes = []
    for size, length in zip(shape, tile, strict=True):
        full, rest = divmod(size, length)
        axes.append([(s, n) for s, n in ((length, full), (rest, 1)) if s and n])
    return sum(
        network.flops(tuple(s for s, _ in combination)) * math.prod(n for _, n in combination)
        for combination in itertools.product(*axes)
    )


def volume_work(
    tile: Shape, shape: Shape, network: Network, *, workers: Sequence[int] = WORKERS
) -> float:
    """Return the operations of a volume in tiles, and those that idle workers could have done."""
    flops = volume_flops(tile, shape, network)
    return flops * _waiting(tile, shape, workers if flops >= SMALL_FLOPS else (1,))


def choose_block(shape: Shape, tile: Shape) -> Shape:
    """Return the block core: whole tiles, nearly cubic, with enough blocks for many workers."""
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
