"""Tiles that are swept: computed plane by plane along z, in memory that hardly depends on z.

A swept tile is as deep as a block, and its sides in y and x are what the memory allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from .network import Network, sweep_memory_bytes
from .tile_choice import BLOCK_VOXELS

DEEPEST: Final = 512
"""Planes of a swept tile at most: deeper ones save little, and a lost block costs more."""
LONG_FLOPS: Final = 45 * 10**12
"""Operations of about five minutes on one core: 150 GFLOP/s (Zen 4: 90 in float32, 200 in bf16).

A block of more operations has 256³ voxels at most, so that retries and hand-over stay cheap."""
MOST_VOXELS: Final = 3 * BLOCK_VOXELS
"""Voxels of a swept tile at most: a worker holds several blocks, as they are read and written."""
TOO_MUCH: Final = 2**62


@dataclass(frozen=True, slots=True)
class SweptTiles:
    """A network whose tiles are swept, as planning sees it. A tile that is too large never fits."""

    network: Network

    @property
    def halo(self) -> tuple[int, int, int]:
        """Context per side in voxels."""
        return self.network.halo

    @property
    def divisor(self) -> tuple[int, int, int]:
        """Tiles start at multiples of this."""
        return self.network.divisor

    def input_shape(self, output_shape: Sequence[int]) -> tuple[int, int, int]:
        """Return the smallest valid input that covers this output."""
        return self.network.input_shape(output_shape)

    def flops(self, output_shape: Sequence[int]) -> int:
        """Return the operations of one tile: those of the whole, nothing is computed twice."""
        return self.network.flops(output_shape)

    def memory_bytes(self, output_shape: Sequence[int]) -> int:
        """Return the peak memory of one swept tile."""
        z, y, x = output_shape
        voxels = z * y * x
        if z > max(DEEPEST, self.divisor[0]) or voxels > MOST_VOXELS:
            return TOO_MUCH
        if voxels > BLOCK_VOXELS and self.flops(output_shape) > LONG_FLOPS:
            return TOO_MUCH
        need = sweep_memory_bytes(self.network, output_shape)
        return TOO_MUCH if need is None else need
