"""Sums over all ranks: of numbers and of gradients; with one rank, nothing is sent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn


def sum_over_ranks(values: list[float], *, device: torch.device, world_size: int) -> list[float]:
    """Return the sums of some numbers over all ranks, the same on each."""
    if world_size == 1:
        return values
    total = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(total)
    return [float(value) for value in total.tolist()]


def sum_gradients(parameters: Iterable[nn.Parameter], *, world_size: int) -> None:
    """Replace the gradients by their sums over all ranks, in one message.

    Every rank has gradients of the same parameters: the network is the same.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if world_size == 1 or not gradients:
        return
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(flat)
    parts = flat.split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view(gradient.shape))


def share_number(number: int, *, device: torch.device, world_size: int) -> int:
    """Return the number of rank 0, the same on every rank."""
    if world_size == 1:
        return number
    sent = torch.tensor([number], dtype=torch.int64, device=device)
    dist.broadcast(sent, src=0)
    return int(sent.item())


def share_state(model: nn.Module) -> None:
    """Give every rank the parameters and buffers of rank 0."""
    for tensor in model.state_dict().values():
        # A copy, as collectives need tensors that are contiguous.
        sent: Tensor = tensor.detach().contiguous()
        dist.broadcast(sent, src=0)
        tensor.copy_(sent)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSum:
    """What all ranks know of a step, the same on each."""

    loss: float
    """Of the whole batch."""
    stops: bool
    """Any rank was asked to stop."""
    regroups: bool
    """Any rank was asked to make room for other workers."""
    waited_s: float
    """The longest time that a rank waited for its samples."""


def sum_step(
    *,
    loss: float,
    stops: bool,
    regroups: bool,
    waited_s: float,
    rank: int,
    world_size: int,
    device: torch.device,
) -> StepSum:
    """Return a step's figures over all ranks, from those of this rank, by one sum."""
    waits = [0.0] * world_size
    waits[rank] = waited_s
    total, stop, regroup, *waits = sum_over_ranks(
        [loss, float(stops), float(regroups), *waits], device=device, world_size=world_size
    )
    return StepSum(loss=total, stops=stop > 0, regroups=regroup > 0, waited_s=max(waits))
