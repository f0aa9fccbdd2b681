"""The work of a daisy worker on a block: read, pad, one forward pass, write."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr

from .bare_loop import prepared_model, to_tensor
from .measuring import peak_mib


class DaisyBlock:
    """The function that daisy calls for each block, in a worker process."""

    def __init__(
        self,
        raw: str,
        out: str,
        weights: str,
        size: tuple[int, ...],
        clock: str,
        *,
        precision: str = "bf16",
        warms_up: bool = True,
    ) -> None:
        self.raw, self.out, self.weights, self.size, self.clock = raw, out, weights, size, clock
        self.precision, self.warms_up = precision, warms_up

    def __call__(self, block: Any) -> None:
        model, as_input, source, target, mark = _opened(self)
        start = time.time()
        begin, end = list(block.read_roi.begin), list(block.read_roi.end)
        shape = source.shape
        inside = tuple(
            slice(max(0, a), min(b, n)) for a, b, n in zip(begin, end, shape, strict=True)
        )
        beside = [(max(0, -a), max(0, b - n)) for a, b, n in zip(begin, end, shape, strict=True)]
        raw = np.pad(source[inside], beside, "reflect")
        dims = model.config.dims
        x = to_tensor(raw)
        x = x[:, None] if dims == 2 else x[None, None]
        with torch.inference_mode():
            classes = model(as_input(x)).argmax(dim=1).to(torch.uint8).numpy()
        core = tuple(
            slice(a, min(b, n))
            for a, b, n in zip(block.write_roi.begin, block.write_roi.end, shape, strict=True)
        )
        size_out = tuple(slice(s.stop - s.start) for s in core)
        target[core] = (classes if dims == 2 else classes[0])[size_out]
        with open(mark, "a") as file:
            file.write(f"{start} {time.time()} {peak_mib()}\n")


_kept: dict[str, Any] = {}


def _opened(job: DaisyBlock) -> Any:
    """Return model, arrays and the clock's file, opened once per process."""
    if "all" not in _kept:
        torch.set_num_threads(1)
        model, as_input = prepared_model(job.weights, job.precision)
        dims = model.config.dims
        images, size = (job.size[0], job.size[1:]) if dims == 2 else (1, job.size)
        if job.warms_up:  # like overtile's workers, it computes once before the clock starts
            with torch.inference_mode():
                model(as_input(torch.zeros(images, 1, *size)))
        mark = str(Path(job.clock) / str(os.getpid()))
        _kept["all"] = (
            model, as_input, zarr.open_array(job.raw, mode="r"), zarr.open_array(job.out), mark
        )  # fmt: skip
    return _kept["all"]
