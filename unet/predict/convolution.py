"""Convolutions by oneDNN on a processor, also where torch would take another way.

For one float32 image whose channels × planes × rows are 20480 or fewer, torch leaves oneDNN for a
matrix product over a copied neighbourhood (``use_mkldnn`` in ATen/native/Convolution.cpp), which is
2 to 10 times slower in 3-D, and whose output is not in channels-last. The first convolution of most
tiles is such a case, and so are most up-convolutions of a sweep. So inference names oneDNN's
operators, one of which also applies the ReLU that follows, before it writes: the same
values without a second pass over them (but 0 for NaN, which ReLU keeps). They are private: where
one is missing or takes other arguments, torch chooses.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pipeline.base.geometry import Shape

Operator = Callable[[Tensor, Tensor, Tensor | None], Tensor]
UpOperator = Callable[[Tensor, Tensor, Tensor | None, Shape], Tensor]


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, *, relu: bool = False) -> Tensor:
    """Return the unpadded convolution of (n, c, *spatial), stride 1, in 2-D or 3-D.

    relu: whether negative values become 0. In inference only: the operator is chosen for speed, and
    gradients are not asked of it.
    """
    is_on_processor = x.device.type == "cpu"
    operator = onednn_operator(relu=relu) if is_on_processor else None
    if operator is not None:
        return operator(x, weight, bias)
    if relu:
        return convolve(x, weight, bias).relu_()
    return (functional.conv3d if weight.dim() == 5 else functional.conv2d)(x, weight, bias)


def convolve_up(x: Tensor, weight: Tensor, bias: Tensor | None, *, stride: Shape) -> Tensor:
    """Return the transposed convolution of (n, c, *spatial), in 2-D or 3-D, without padding.

    In inference only, as :func:`convolve`.
    """
    operator = onednn_up_operator() if x.device.type == "cpu" else None
    if operator is not None:
        return operator(x, weight, bias, stride)
    if weight.dim() == 5:
        return functional.conv_transpose3d(x, weight, bias, stride)
    return functional.conv_transpose2d(x, weight, bias, stride)


class InferenceConvolution(nn.Module):
    """A convolution layer that shares the tensors of a trained one, for inference.

    relu: whether a ReLU follows, which this layer then applies.
    """

    def __init__(self, layer: nn.Conv2d | nn.Conv3d, *, relu: bool) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution of (n, c, *spatial)."""
        return convolve(x, self.weight, self.bias, relu=self.relu)


class InferenceUpConvolution(nn.Module):
    """An up-convolution that shares the tensors of a trained one, for inference."""

    def __init__(self, layer: nn.ConvTranspose2d | nn.ConvTranspose3d) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self.stride = tuple(layer.stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return the transposed convolution of (n, c, *spatial)."""
        return convolve_up(x, self.weight, self.bias, stride=self.stride)


def fold_batch_norms(model: nn.Module) -> None:
    """Make every batch norm of a model in evaluation, which is changed, part of its convolution.

    The same function of the input, up to rounding, in the same pass.
    """
    for parent in list(model.modules()):
        for (name, layer), (norm_name, norm) in pairwise(list(parent.named_children())):
            if isinstance(norm, nn.BatchNorm2d | nn.BatchNorm3d):
                assert isinstance(layer, nn.Conv2d | nn.Conv3d), "a norm follows a convolution"
                setattr(parent, name, fuse_conv_bn_eval(layer, norm))
                delattr(parent, norm_name)


def use_inference_convolutions(model: nn.Module) -> None:
    """Replace every convolution of a model, which is changed, by one for inference.

    It takes over a ReLU that directly follows it in a sequence; an identity is left in its place.
    """
    for parent in list(model.modules()):
        children = [*parent.named_children(), ("", nn.Identity())]
        for (name, layer), (next_name, follower) in pairwise(children):
            if isinstance(layer, nn.ConvTranspose2d | nn.ConvTranspose3d):
                setattr(parent, name, InferenceUpConvolution(layer))
            elif isinstance(layer, nn.Conv2d | nn.Conv3d):
                relu = isinstance(parent, nn.Sequential) and isinstance(follower, nn.ReLU)
                setattr(parent, name, InferenceConvolution(layer, relu=relu))
                if relu:
                    setattr(parent, next_name, nn.Identity())


@cache
def onednn_operator(*, relu: bool) -> Operator | None:
    """Return oneDNN's convolution, or None where this build of torch has none of this form."""
    operator = _with_relu if relu else _without_relu
    x, weight, bias = torch.ones(1, 1, 3, 3), torch.ones(2, 1, 3, 3), torch.tensor([0.0, -10.0])
    expected = [9.0, 0.0 if relu else -1.0]
    return operator if _gives(lambda: operator(x, weight, bias), expected) else None


@cache
def onednn_up_operator() -> UpOperator | None:
    """Return oneDNN's transposed convolution, or None where this build of torch has none."""
    x, weight, bias = torch.ones(1, 2, 1, 1), torch.ones(2, 1, 1, 2), torch.tensor([-10.0])
    weight[:, :, :, 1] = 2
    return _up if _gives(lambda: _up(x, weight, bias, (1, 2)), [-8.0, -6.0]) else None


def _gives(call: Callable[[], Tensor], expected: list[float]) -> bool:
    """Return whether an operator exists and gives these values."""
    if not torch.backends.mkldnn.is_available():
        return False
    try:
        return bool(call().flatten().tolist() == expected)
    except (AttributeError, RuntimeError, TypeError):
        return False


def _without_relu(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    zeros, ones = _zeros_and_ones(weight)
    y: Tensor = torch.ops.aten.mkldnn_convolution(x, weight, bias, zeros, ones, ones, 1)
    return y


def _with_relu(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    zeros, ones = _zeros_and_ones(weight)
    y: Tensor = torch.ops.mkldnn._convolution_pointwise(
        x, weight, bias, zeros, ones, ones, 1, "relu", [], ""
    )
    return y


def _up(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Shape) -> Tensor:
    zeros, ones = _zeros_and_ones(weight)
    y: Tensor = torch.ops.mkldnn._convolution_transpose_pointwise(
        x, weight, bias, zeros, zeros, stride, ones, 1, "none", [], ""
    )
    return y


def _zeros_and_ones(weight: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return a 0 and a 1 per spatial axis: padding, and stride and dilation."""
    dims = weight.dim() - 2
    return (0,) * dims, (1,) * dims
