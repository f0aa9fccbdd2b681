"""The source of each voxel of a deformed patch: one smooth field of coordinates per sample.

The field is a sum of products of one function per axis: bicubic (tricubic) interpolation between
random displacements on a coarse grid is such a sum, and so is every rotation, mirror and shift. So
the whole field is a few products of small matrices.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

CUBIC = -0.75
"""Free parameter of the cubic convolution kernel (Keys 1981), as torch's bicubic has it."""


def cubic_interpolation(size: int, knots: int) -> Tensor:
    """Return the matrix (size, knots) that interpolates values at knots cubically, float64.

    The first and the last knot lie on the first and the last voxel, and are repeated beyond. In
    2-D, ``rows @ values @ columns.T`` is torch's ``interpolate(values, mode="bicubic",
    align_corners=True)``.
    """
    position = torch.arange(size, dtype=torch.float64) * ((knots - 1) / max(size - 1, 1))
    first = position.floor()
    matrix = torch.zeros(size, knots, dtype=torch.float64)
    for tap in (-1, 0, 1, 2):
        distance = (position - first - tap).abs()
        near = ((CUBIC + 2) * distance - (CUBIC + 3)) * distance**2 + 1
        far = CUBIC * (((distance - 5) * distance + 8) * distance - 4)
        knot = (first.long() + tap).clamp(0, knots - 1)
        matrix.scatter_add_(1, knot[:, None], torch.where(distance <= 1, near, far)[:, None])
    return matrix


def coordinate_field(
    matrix: Tensor,
    offset: Tensor,
    displacement: Tensor | None,
    *,
    shape: Sequence[int],
    device: torch.device,
) -> Tensor:
    """Return ``matrix @ u + offset + displacement(u)`` for every voxel of a patch.

    u is the voxel's place, counted from the patch's centre. matrix: (n, k, dims), offset: (n, k),
    displacement: (n, k, knots, ..., knots) at knots spread over the patch (None: nothing is
    displaced), all float64 on the CPU; k coordinates. Returns (n, *shape, k) float32 on ``device``.

    Computed in float64: a device may be set to multiply float32 with ten bits of precision.
    """
    samples, coordinates = offset.shape
    dims = len(shape)
    knots = 0 if displacement is None else displacement.shape[-1]
    # Along each axis there are these functions: one per knot, then 1, then u.
    coefficients = offset.new_zeros((samples, coordinates, *(knots + 2,) * dims))
    everywhere = (slice(None), slice(None))
    if displacement is not None:
        coefficients[everywhere + (slice(knots),) * dims] = displacement
    constant = (knots,) * dims
    coefficients[everywhere + constant] = offset
    for axis in range(dims):
        linear = (*constant[:axis], knots + 1, *constant[axis + 1 :])
        coefficients[everywhere + linear] = matrix[:, :, axis]
    field = coefficients.movedim(1, -1).to(device)  # (n, knots + 2, ..., knots + 2, k)
    for axis, size in enumerate(shape[:-1], start=1):
        functions = _functions(size, knots, 1, str(device))
        field = torch.tensordot(functions, field, dims=([1], [axis])).movedim(0, axis)
    last = _functions(shape[-1], knots, coordinates, str(device))
    field = field.reshape(samples, -1, last.shape[1]) @ last.T
    return field.float().reshape(samples, *shape, coordinates)


@lru_cache(maxsize=64)
def _functions(size: int, knots: int, interleaved: int, device: str) -> Tensor:
    """Return (size * interleaved, (knots + 2) * interleaved): the functions along an axis."""
    centred = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    columns = [torch.ones_like(centred)[:, None], centred[:, None]]
    if knots:
        columns.insert(0, cubic_interpolation(size, knots))
    one = torch.eye(interleaved, dtype=torch.float64)
    return torch.kron(torch.cat(columns, dim=1), one).to(device)
