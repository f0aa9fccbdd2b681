"""Convolutions by oneDNN on a processor, also where torch would take another way.

For one float32 image whose channels × planes × rows are 20480 or fewer, torch leaves oneDNN for a
matrix product over a copied neighbourhood (``use_mkldnn`` in ATen/native/Convolution.cpp), which is
2 to 10 times slower in 3-D. The first convolution of most tiles is such a case. So inference names
oneDNN's operator. It is private: where it is missing or takes other arguments, torch chooses.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

Operator = Callable[..., Tensor]


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return the unpadded convolution of (n, c, *spatial), stride 1, in 2-D or 3-D.

    In inference only: the operator is chosen for speed, and gradients are not asked of it.
    """
    dims = weight.dim() - 2
    operator = onednn_operator() if x.device.type == "cpu" else None
    if operator is not None:
        return operator(x, weight, bias, (0,) * dims, (1,) * dims, (1,) * dims, 1)
    return (functional.conv3d if dims == 3 else functional.conv2d)(x, weight, bias)


class InferenceConvolution(nn.Module):
    """A convolution layer that shares the tensors of a trained one, for inference."""

    def __init__(self, layer: nn.Conv2d | nn.Conv3d) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution of (n, c, *spatial)."""
        return convolve(x, self.weight, self.bias)


def use_inference_convolutions(model: nn.Module) -> None:
    """Replace every convolution of a model, which is changed, by one for inference."""
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.Conv2d | nn.Conv3d):
                setattr(parent, name, InferenceConvolution(layer))


@cache
def onednn_operator() -> Operator | None:
    """Return oneDNN's convolution, or None where this build of torch has none of this form."""
    if not torch.backends.mkldnn.is_available():
        return None
    operator = getattr(torch.ops.aten, "mkldnn_convolution", None)
    if operator is None:
        return None
    x, weight = torch.ones(1, 1, 3, 3), torch.ones(1, 1, 3, 3)
    try:
        right = float(operator(x, weight, None, (0, 0), (1, 1), (1, 1), 1)) == 9
    except (RuntimeError, TypeError):
        return None
    return cast("Operator", operator) if right else None
