"""The memory of one forward pass under inference: which tensors are alive at once.

Measured on 2026-11-28, torch 2.13 on two Zen 4 cores (held to AVX2 and AVX-512 as well): growth of
the peak resident memory (VmHWM) of a fresh process over one call of a model in channels-last with
oneDNN's convolutions, which make no copies in blocks of channels. 2-D 684 to 1084 squared,
3-D 100 to 164 cubed, base 4 to 64, levels 3 to 5, float32 and bfloat16: 18 cases between 40 and 750
MiB, stated / measured 0.95 to 1.22. tests/unet/predict/test_predictor.py measures two tiles again.
No GPU was available: the workspace of cuDNN is not included.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache

from .cost import Architecture, Shape, layer_elements, smallest_layers

RETURNED_BYTES = 32 * 2**20
"""glibc returns larger tensors to the system when they are freed, and keeps smaller ones for reuse
(the upper limit of its dynamic M_MMAP_THRESHOLD). Workers keep all of them; the memory that they
state contains a second tile for it (``KEPT_TILES`` in pipeline/planning/budget.py)."""
FLOAT32_BYTES = 4
NORM_TENSORS = {"none": 0, "batch": 0, "group": 1, "instance": 2}
"""Tensors that a norm makes besides its input, in inference: that of batches is part of the
convolution, that of instances makes a copy inside torch's operator."""
IN_PIECES = 1.3
"""Memory that the small tensors take together, over their greatest sum: it is kept in pieces."""


def peak_activation_elements(config: Architecture, input_shape: Sequence[int]) -> int:
    """Return the most elements alive at once in ``UNet.forward`` under inference, for one image."""
    return _image(config, input_shape) + max(map(sum, alive_elements(config, input_shape)))


@lru_cache(maxsize=2**14)
def peak_activation_bytes(config: Architecture, input_shape: Shape, *, element_bytes: int) -> int:
    """Return the most memory of the activations of one image, what the allocator keeps included."""
    peak = small_so_far = 0.0
    layers = [
        [elements * element_bytes for elements in alive]
        for alive in alive_elements(config, input_shape, norm_tensors=NORM_TENSORS[config.norm])
    ]
    for sizes in (*layers, _scores(config, input_shape, element_bytes=element_bytes)):
        small = sum(size for size in sizes if size < RETURNED_BYTES)
        small_so_far = max(small_so_far, IN_PIECES * small)
        peak = max(peak, sum(sizes) - small + small_so_far)
    return math.ceil(_image(config, input_shape) * element_bytes + peak)


def alive_elements(
    config: Architecture, input_shape: Sequence[int], *, norm_tensors: int | None = None
) -> Iterator[list[int]]:
    """Yield, for each layer, the elements of every tensor that is alive while it computes.

    These are the skips that are not joined yet, the input of the current block, and the input and
    output of the current layer; the image is not among them. ReLU works in place.
    norm_tensors: those that each norm makes; None: one, as in training.
    """
    if norm_tensors is None:
        norm_tensors = int(config.norm != "none")
    skips: list[int] = []
    current = block_input = 0  # the image itself is counted once, by the callers
    elements = layer_elements(config, tuple(input_shape))
    for layer, out in zip(smallest_layers(config), elements, strict=True):
        alive = [*skips, current, out]
        if layer.kind == "convolution_1":
            block_input = current
            alive += [out] * norm_tensors
        elif layer.kind == "convolution_2":
            alive += [block_input, *[out] * (norm_tensors - 1)]
        elif layer.kind == "pool":
            skips.append(current)
        elif layer.kind == "join":
            skips.pop()
        yield alive
        current = out


def _scores(config: Architecture, input_shape: Shape, *, element_bytes: int) -> list[int]:
    """Return the bytes of the tensors that are alive while logits become scores.

    Logits, the same in float32, and their softmax.
    """
    logits = layer_elements(config, tuple(input_shape))[-1]
    copies = [] if element_bytes == FLOAT32_BYTES else [FLOAT32_BYTES]
    return [logits * each for each in (element_bytes, *copies, FLOAT32_BYTES)]


def _image(config: Architecture, input_shape: Sequence[int]) -> int:
    return config.in_channels * math.prod(input_shape)
