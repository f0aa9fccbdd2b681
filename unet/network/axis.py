"""The geometry of a U-Net along one axis: input sizes and output sizes.

The unpadded convolutions of a level crop ``2 (k - 1)`` voxels of its own resolution on the way
down, and the same on the way up; the bottom level crops them once. ``P`` is the product of the
pooling factors above a level, ``D`` that above the bottom, and ``b`` the bottom's output size::

    cropped = sum over the levels above the bottom of 2 (k - 1) P
    halo    = cropped + (k_bottom - 1) D
    output  = b D - cropped                 for an integer b > 0
    input   = output + 2 halo

The paper's network (k = 3, four poolings by 2): cropped 60, halo 92, D 16; b = 28: 572 to 388.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from operator import mul


@dataclass(frozen=True)  # no slots: what follows from the fields is kept
class AxisGeometry:
    """Kernel sizes of all levels and pooling factors between them, along one axis."""

    kernels: tuple[int, ...]
    pooling: tuple[int, ...]

    @cached_property
    def divisor(self) -> int:
        """Product of the pooling factors."""
        return math.prod(self.pooling)

    @cached_property
    def cropped(self) -> int:
        """Voxels that the levels above the bottom crop on the way down, and again on the way up."""
        scales = list(accumulate(self.pooling, mul, initial=1))
        above = zip(self.kernels[:-1], scales[:-1], strict=True)
        return sum(2 * (kernel - 1) * scale for kernel, scale in above)

    @cached_property
    def halo(self) -> int:
        """Voxels by which the input exceeds the output, per side."""
        return self.cropped + (self.kernels[-1] - 1) * self.divisor

    def input_size(self, output_size: int) -> int:
        """Return the smallest valid input with an output of at least ``output_size`` (and 1).

        >>> AxisGeometry((3,) * 5, (2,) * 4).input_size(388)
        572
        """
        bottom = -(-(max(output_size, 1) + self.cropped) // self.divisor)
        return bottom * self.divisor - self.cropped + 2 * self.halo

    def valid_input_size(self, at_least: int) -> int:
        """Return the smallest valid input of at least this size."""
        return self.input_size(at_least - 2 * self.halo)

    def is_valid_input(self, size: int) -> bool:
        """Return whether every pooling divides evenly and the output is not empty."""
        return self.valid_input_size(size) == size

    def nearest_valid_inputs(self, size: int) -> tuple[int, ...]:
        """Return the valid sizes just below (if there is one) and just above ``size``."""
        above = self.valid_input_size(size)
        below = above - self.divisor
        return (below, above) if self.is_valid_input(below) else (above,)
