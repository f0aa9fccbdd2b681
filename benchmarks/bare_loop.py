"""The network over the tiles of a volume in memory: what a pipeline around it is measured against.

No store and no scheduler; the edge is mirrored beforehand; bfloat16, channels-last, classes go into
an array. The tiles are dealt out to the processes; each predicts one tile before the clock starts.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from unet import load_weights


@dataclass(frozen=True, slots=True, kw_only=True)
class BareLoop:
    """What each process receives."""

    weights: str
    raw: str
    """A .npy file, uint8 (z, y, x)."""
    core: tuple[int, int, int]
    """Output voxels of one forward pass."""
    processes: int
    threads: int
    environment: Mapping[str, str] = field(default_factory=dict)
    """Environment variables to set for the processes."""


def tiles(shape: Sequence[int], core: Sequence[int]) -> list[tuple[int, int, int]]:
    """Return the first voxel of every core, on a grid of the core's size."""
    z, y, x = (range(0, n, c) for n, c in zip(shape, core, strict=True))
    return [(a, b, c) for a in z for b in y for c in x]


def seconds(loop: BareLoop) -> float:
    """Return the seconds from the common start of the processes to the end of the last one."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(loop.processes)
    numbers = range(loop.processes)
    with (
        environment_variables(loop.environment),
        ProcessPoolExecutor(loop.processes, context, _take, (barrier,)) as pool,
    ):
        spans = list(pool.map(_run, [loop] * loop.processes, numbers))
    return max(end for _, end in spans) - min(start for start, _ in spans)


@contextmanager
def environment_variables(environment: Mapping[str, str]) -> Iterator[None]:
    """Set variables for the processes that are started inside the ``with`` block."""
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


_barrier: Any = None


def _take(barrier: Any) -> None:
    """Keep the barrier: a process can only inherit it from its parent."""
    global _barrier
    _barrier = barrier


def _run(loop: BareLoop, number: int) -> tuple[float, float]:
    torch.set_num_threads(loop.threads)
    model, as_input = prepared_model(loop.weights)
    config = model.config
    raw = np.load(loop.raw)
    halo = config.halo if config.dims == 3 else (0, *config.halo)
    rest = [-n % c for n, c in zip(raw.shape, loop.core, strict=True)]
    size = config.input_shape(loop.core[3 - config.dims :])
    inner = (loop.core[0], *size) if config.dims == 2 else size
    after = [n - c - h + r for n, c, h, r in zip(inner, loop.core, halo, rest, strict=True)]
    padded = np.pad(raw, list(zip(halo, after, strict=True)), "reflect")
    padded_out = np.zeros([n + r for n, r in zip(raw.shape, rest, strict=True)], np.uint8)
    starts = tiles(raw.shape, loop.core)[number :: loop.processes]

    def one(start: tuple[int, int, int]) -> None:
        box = tuple(slice(a, a + n) for a, n in zip(start, inner, strict=True))
        x = to_tensor(padded[box])
        x = x[:, None] if config.dims == 2 else x[None, None]
        with torch.inference_mode():
            classes = model(as_input(x)).argmax(dim=1).to(torch.uint8).numpy()
        _put(padded_out, classes, start, loop.core, config.dims)

    one(starts[0])
    _barrier.wait(timeout=120)
    begun = time.time()
    for start in starts:
        one(start)
    return begun, time.time()


def prepared_model(
    weights: str, precision: str = "bf16"
) -> tuple[Any, Callable[[torch.Tensor], torch.Tensor]]:
    """Return a network in the form that is fastest in torch alone, and what its input becomes."""
    model, info = load_weights(weights)
    layout = torch.channels_last if info.config.dims == 2 else torch.channels_last_3d
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    fast: Any = model.eval().requires_grad_(False).to(dtype)
    return fast.to(memory_format=layout), partial(_as_input, dtype=dtype, layout=layout)


def _as_input(x: torch.Tensor, *, dtype: torch.dtype, layout: torch.memory_format) -> torch.Tensor:
    return x.to(dtype).contiguous(memory_format=layout)


def to_tensor(raw: NDArray[np.uint8]) -> torch.Tensor:
    """Return grey values scaled for the network: the dtype's range becomes 0 to 1."""
    return torch.from_numpy(raw.astype(np.float32) / 255)


def _put(
    out: NDArray[np.uint8],
    classes: NDArray[np.uint8],
    start: tuple[int, int, int],
    core: tuple[int, int, int],
    dims: int,
) -> None:
    scores = classes if dims == 2 else classes[0]
    place = tuple(slice(a, a + n) for a, n in zip(start, core, strict=True))
    out[place] = scores[tuple(slice(0, n) for n in core)]
