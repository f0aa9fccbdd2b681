"""One call of a network, from an array to scores, and what happens if memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.base.network_outputs import Activation

from ..network.model import UNet

T = TypeVar("T")


def scores_of(
    forward: Callable[[Tensor], Tensor | None],
    images: NDArray[np.float32],
    *,
    model: UNet,
    tile: Sequence[int] | None = None,
) -> NDArray[np.float32] | None:
    """Return the scores (n, classes, …) of the logits of ``forward``, or its None.

    images: (n, channels, …). model: the network that ``forward`` computes. tile: the shape of the
    tile that they are a part of, for the message. Raises MemoryError where they do not fit the
    device.
    """
    like = next(model.parameters())
    # Tiles that came through Dask are read-only, which torch warns of: those are copied.
    batch = torch.from_numpy(np.require(images, np.float32, ["C", "W"]))

    def scores() -> NDArray[np.float32] | None:
        logits = forward(batch.to(device=like.device, dtype=like.dtype))
        if logits is None:
            return None
        return scores_of_logits(logits, model.outputs.activation).cpu().numpy()

    return within_memory(scores, shape=tuple(tile or images.shape), device=like.device)


def scores_of_logits(logits: Tensor, activation: Activation) -> Tensor:
    """Return scores from 0 to 1 (n, classes, …) in float32.

    Of classes the softmax over them; of all other outputs the sigmoid of each channel.
    """
    if activation == "softmax":
        return logits.float().softmax(dim=1)
    return logits.float().sigmoid()


def within_memory(work: Callable[[], T], *, shape: tuple[int, ...], device: torch.device) -> T:
    """Return what some work without gradients gives, for a tile of this shape.

    Raises MemoryError where it does not fit the device.
    """
    try:
        with torch.inference_mode():
            return work()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        reason = str(error).splitlines()[0]
    # Outside the handler: as long as the error is handled, its frames keep the activations.
    if device.type == "cuda":
        torch.cuda.empty_cache()
    raise MemoryError(f"a tile of {shape} does not fit {device}: {reason}")


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether torch ran out of memory; often only the message shows it.

    cuDNN says that it finds no engine where none of its algorithms has room for its workspace.
    oneDNN says that it makes no primitive where its compiler has no room, and from then on says so
    of every new one of this thread.
    """
    words = (
        "DefaultCPUAllocator", "not enough memory", "out of memory", "ALLOC_FAILED",
        "unable to find an engine", "could not create a primitive",
    )  # fmt: skip
    return isinstance(error, torch.OutOfMemoryError) or any(word in str(error) for word in words)
