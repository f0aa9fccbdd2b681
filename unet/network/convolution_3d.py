"""3-D convolutions for training, whose weights' gradients are safe in bfloat16 on CPUs.

oneDNN (3.12, as in torch 2.13) writes beyond its buffers where it computes the gradient of a 3-D
layer's weights in bfloat16 with AMX and the layer is flat, such as 8 planes of 256 × 256 voxels:
the process ends, hangs, or has a damaged heap. In 2-D it does not. The gradient of a 3-D kernel is
that of its planes, each of a 2-D convolution of slices::

    gradient[:, :, k] = sum over z of gradient_2d(x[:, :, z + k], gradient_of_output[:, :, z])

So flat layers are computed in this way, on all CPUs; the others, and the gradient of x, by torch.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

FLAT: Final = 500
"""A layer is flat where a plane has more voxels than this times its planes. Layers of 1,700 and
fewer were right in each of 60 random cases, and the first wrong one had 1,744."""


class Convolution3d(nn.Conv3d):
    """As nn.Conv3d without padding and strides; the gradient of flat layers is computed safely."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, channel, *smaller) of (n, channel, z, y, x)."""
        if any(self.padding) or max(*self.stride, *self.dilation, self.groups) > 1:
            raise ValueError("expected a convolution without padding, strides, dilation and groups")
        planes = max(1, x.shape[2] - self.weight.shape[2] + 1)  # of the result
        if _is_safe(x, self.weight, plane=x.shape[3] * x.shape[4], planes=planes):
            return super().forward(x)
        y: Tensor = _ByPlanes.apply(*_lowered(x, self.weight, self.bias), (1, 1, 1), False)
        return y


class UpConvolution3d(nn.ConvTranspose3d):
    """As nn.ConvTranspose3d with strides of the kernel's size; likewise."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Return (n, channel, *larger) of (n, channel, z, y, x)."""
        plane = x.shape[3] * self.stride[1] * x.shape[4] * self.stride[2]  # of the result
        is_safe = _is_safe(x, self.weight, plane=plane, planes=x.shape[2])
        if output_size is not None or is_safe:
            return super().forward(x, output_size)
        tensors = _lowered(x, self.weight, self.bias)
        y: Tensor = _ByPlanes.apply(*tensors, self.stride, True)
        return y


def _is_safe(x: Tensor, weight: Tensor, *, plane: int, planes: int) -> bool:
    """Return whether torch's gradient of the weights can be used.

    plane: voxels of a plane of the larger tensor, input or result. planes: of the smaller one.
    """
    if x.device.type != "cpu" or not (torch.is_grad_enabled() and weight.requires_grad):
        return True
    return _dtype(x) != torch.bfloat16 or plane <= FLAT * planes


def _dtype(x: Tensor) -> torch.dtype:
    """Return the type in which a convolution of x is computed."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype


def _lowered(*tensors: Tensor | None) -> tuple[Tensor | None, ...]:
    """Return tensors in bfloat16; gradients of the copies reach what they were made of."""
    return tuple(None if one is None else one.to(torch.bfloat16) for one in tensors)


class _ByPlanes(torch.autograd.Function):
    """A convolution, or one transposed, with a gradient of its weights by planes."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: tuple[int, int, int],
        is_transposed: bool,
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.is_transposed = stride, is_transposed
        if is_transposed:
            return functional.conv_transpose3d(x, weight, bias, stride)
        return functional.conv3d(x, weight, bias, stride)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        x, weight = ctx.saved_tensors
        of_x = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            of_x, _, _ = torch.ops.aten.convolution_backward(
                gradient, x, weight, None, ctx.stride, [0] * 3, [1] * 3, ctx.is_transposed,
                [0] * 3, 1, [True, False, False],
            )  # fmt: skip
        if ctx.needs_input_grad[1]:
            of_weight = gradient_of_weight(
                x, gradient, weight, stride=ctx.stride, is_transposed=ctx.is_transposed
            )
        if ctx.needs_input_grad[2]:
            of_bias = gradient.sum((0, 2, 3, 4))
        return of_x, of_weight, of_bias, None, None


def gradient_of_weight(
    x: Tensor,
    gradient: Tensor,
    weight: Tensor,
    *,
    stride: tuple[int, int, int],
    is_transposed: bool,
) -> Tensor:
    """Return the gradient of a weight, of its shape, from those of x and of the output.

    x: (n, channel, z, y, x); gradient: of the output. A convolution has strides of 1; one that is
    transposed has those of its kernel's size.
    """
    planes = []
    for k in range(weight.shape[2]):
        if is_transposed:
            seen, found = x, gradient[:, :, k :: stride[0]]
        else:
            seen, found = x[:, :, k : k + gradient.shape[2]], gradient
        _, of_plane, _ = torch.ops.aten.convolution_backward(
            _slices(found), _slices(seen), weight[:, :, k], None, stride[1:], [0] * 2, [1] * 2,
            is_transposed, [0] * 2, 1, [False, True, False],
        )  # fmt: skip
        planes.append(of_plane)
    return torch.stack(planes, dim=2)


def _slices(volume: Tensor) -> Tensor:
    """Return the slices (n * z, channel, y, x) of volumes (n, channel, z, y, x)."""
    return volume.movedim(2, 1).flatten(0, 1)
