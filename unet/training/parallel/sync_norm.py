"""Batch norm whose statistics are those of the whole batch, however the ranks share it.

torch's SyncBatchNorm does the same, on GPUs only. Per channel, with n voxels of the batch over all
ranks, x' = (x - mean) / sqrt(var + eps) and y = weight x' + bias:

    d/dx = weight / sqrt(var + eps) (dy - sum(dy) / n - x' sum(dy x') / n)

Both sums, and those of x and x², are over all ranks: an all_reduce each way.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class SyncNorm(_BatchNorm):
    """A batch norm that shares the tensors of another one; its statistics are of all ranks.

    Raises what the process group raises.
    """

    def __init__(self, layer: _BatchNorm) -> None:
        super().__init__(layer.num_features, layer.eps, layer.momentum)
        self.weight, self.bias = layer.weight, layer.bias
        self.running_mean, self.running_var = layer.running_mean, layer.running_var
        self.num_batches_tracked = layer.num_batches_tracked
        self.training = layer.training

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # torch's name
        """Return (n, c, *space), normalised by the batch; in inference, by the running mean."""
        if not self.training:
            return super().forward(input)
        mean, var, count = batch_statistics(input)
        self._track(mean, var * count / (count - 1).clamp(min=1))
        return _normalise(input, self.weight, self.bias, mean, var, count, self.eps)

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002
        """Accept any number of axes; torch's base class has no answer."""

    def _track(self, mean: Tensor, var: Tensor) -> None:
        """Move the running statistics by ``momentum`` towards those of a batch."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_(var.to(self.running_var.dtype), self.momentum)


def synchronise_norms(model: nn.Module) -> None:
    """Replace every batch norm of a model, which is changed; state dict and parameters stay."""
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, _BatchNorm) and not isinstance(layer, SyncNorm):
                setattr(parent, name, SyncNorm(layer))


@torch.no_grad()
def batch_statistics(x_ncs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean, biased variance and number of voxels per channel, over all ranks, in float64.

    x_ncs: this rank's part (n, c, *space) of the batch.
    """
    count = x_ncs.numel() / x_ncs.shape[1]
    spread, centre = torch.var_mean(x_ncs.float(), dim=_all_but_channels(x_ncs), correction=0)
    var, mean = spread.double(), centre.double()
    sums = torch.stack([torch.full_like(mean, count), count * mean, count * (var + mean**2)])
    dist.all_reduce(sums)
    mean = sums[1] / sums[0]
    return mean, (sums[2] / sums[0] - mean**2).clamp(min=0), sums[0]


class _Normalise(torch.autograd.Function):
    """The formula of the module, with its gradients through the statistics of all ranks."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor,
        count: Tensor, eps: float,
    ) -> Tensor:  # fmt: skip
        centre, scale = mean.to(weight.dtype), (var + eps).rsqrt()
        ctx.save_for_backward(x, weight, centre, scale, count)
        return F.batch_norm(x, centre, var.to(weight.dtype), weight, bias, False, 0.0, eps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, centre, scale, count = ctx.saved_tensors
        axes, shape = _all_but_channels(x), (1, -1, *(1,) * (x.ndim - 2))
        slope = gradients[0].to(weight.dtype)
        centred = x.to(weight.dtype) - centre.view(shape)
        sums = torch.stack([slope.sum(axes), (slope * centred).sum(axes)]).double()
        for_bias = sums[0].to(weight.dtype, copy=True)  # of this rank: sums are of all ranks soon
        for_weight = (sums[1] * scale).to(weight.dtype)
        dist.all_reduce(sums)
        mean = (sums[0] / count).to(weight.dtype)
        tilt = (sums[1] * scale**2 / count).to(weight.dtype)
        for_x = slope - mean.view(shape) - centred * tilt.view(shape)
        for_x *= (weight * scale.to(weight.dtype)).view(shape)
        return for_x.to(x.dtype), for_weight, for_bias, None, None, None, None


def _normalise(x: Tensor, weight: Tensor, bias: Tensor, *statistics: Any) -> Tensor:
    normalised: Tensor = _Normalise.apply(x, weight, bias, *statistics)
    return normalised


def _all_but_channels(x: Tensor) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))
