"""The tools that overtile is compared with: each segments a Zarr volume into an array of classes.

See peers.py for their settings.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import zarr
from numpy.typing import NDArray

from deploy.clusters.worker_environment import KEPT_MEMORY
from unet import load_weights

from . import padded
from .bare_loop import prepared_model, to_tensor
from .daisy_block import DaisyBlock
from .measuring import peak_mib
from .pipeline import Place

THREADS = 2
CHUNK = {2: (1, 512, 512), 3: (64, 64, 64)}
"""Blocks of map_overlap."""
DEPTH = {2: 1, 3: 64}
"""Planes that map_overlap computes."""
WINDOW = {2: (512, 512), 3: (128, 128, 128)}
"""Windows of MONAI around padded convolutions; they divide the volumes."""


class Peers:
    """One case: each method segments the volume and returns its seconds of work."""

    def __init__(
        self, place: Place, tile: tuple[int, int, int], *, precision: str = "bf16"
    ) -> None:
        self.place = place
        self.precision = precision
        self.peaks_mib: list[int] = []
        """Of the processes of the last run."""
        self.config = place.case.network
        self.core = tile
        halo = self.config.halo
        self.halo = (0, *halo) if self.config.dims == 2 else halo
        self.size = self.input_shape(tile)
        self.raw = str(place.folder / "raw.zarr")
        self.seam = 0.0

    def input_shape(self, core: Sequence[int]) -> tuple[int, ...]:
        """Return the input shape (z, y, x) of a core."""
        dims = self.config.dims
        return (*core[: 3 - dims], *self.config.input_shape(core[3 - dims :]))

    def above(self, core: Sequence[int]) -> tuple[int, ...]:
        """Return the context after a core: the input beyond the low halo and the core."""
        sizes = zip(self.input_shape(core), core, self.halo, strict=True)
        return tuple(size - n - halo for size, n, halo in sizes)

    def output(self, name: str) -> str:
        """Return the path of a new Zarr array of classes, with one chunk per block."""
        path = str(self.place.folder / f"{name}.zarr")
        shutil.rmtree(path, ignore_errors=True)
        zarr.create_array(
            path, shape=self.place.shape, dtype="uint8",
            chunks=tuple(map(min, self.core, self.place.shape)),
        )  # fmt: skip
        return path

    def daisy(self) -> float:
        """Segment by daisy's blockwise scheduler."""
        import daisy

        out = self.output("daisy")
        clock = self.place.folder / "clock"
        shutil.rmtree(clock, ignore_errors=True)
        clock.mkdir()
        core = daisy.Coordinate(self.core)
        total = daisy.Roi((0, 0, 0), self.place.shape)
        low, high = daisy.Coordinate(self.halo), daisy.Coordinate(self.above(self.core))
        task = daisy.Task(
            "segment",
            total.grow(low, high),
            daisy.Roi((0, 0, 0), core).grow(low, high),
            daisy.Roi((0, 0, 0), core),
            process_function=DaisyBlock(
                self.raw, out, self.place.weights, self.size, str(clock), precision=self.precision
            ),
            read_write_conflict=False,
            fit="overhang",
            max_workers=THREADS,
        )
        daisy.logging.set_log_basedir(self.place.folder / "daisy_logs")
        daisy.run_blockwise([task], progress=False, summary=False)
        spans = [np.loadtxt(path, ndmin=2) for path in clock.iterdir()]
        self.peaks_mib = sorted(int(span[:, 2].max()) for span in spans)
        return float(max(span[:, 1].max() for span in spans) - min(s[:, 0].min() for s in spans))

    def warm_model(self, size: Sequence[int]) -> tuple[Any, Any]:
        """Return a network after a first pass of one input (z, y, x), and what inputs become."""
        model, as_input = prepared_model(self.place.weights, self.precision)
        shape = (size[0], 1, *size[1:]) if self.config.dims == 2 else (1, 1, *size)
        with torch.inference_mode():
            model(as_input(torch.zeros(shape)))
        return model, as_input

    def monai(self) -> float:
        """Segment by MONAI's sliding windows, exactly."""
        seconds, peak = in_new_process(self._monai)
        self.peaks_mib = [peak]
        return seconds

    def _monai(self) -> float:
        torch.set_num_threads(THREADS)
        model, as_input = self.warm_model(self.size)
        dims = self.config.dims
        core, halo = self.core[3 - dims :], self.halo[3 - dims :]
        window = self.config.input_shape(core)
        weight = torch.zeros(1, 1, *window)
        inner = tuple(slice(h, h + n) for h, n in zip(halo, core, strict=True))
        weight[(0, 0, *inner)] = 1
        widths = [(h, w - h - c) for h, w, c in zip(halo, window, core, strict=True)]
        beside = [width for pair in reversed(widths) for width in pair]

        def predict(x: torch.Tensor) -> torch.Tensor:
            scores = model(as_input(x))[(..., *(slice(n) for n in core))]
            return torch.nn.functional.pad(scores.float(), beside)

        return self._slide("monai", predict, window, core, weight, halo)

    def monai_padded(self) -> float:
        """Segment by MONAI's sliding windows around padded convolutions, without overlap."""
        from monai.inferers import sliding_window_inference

        torch.set_num_threads(THREADS)
        model, as_input = prepared_model(self.place.weights, self.precision)
        padded.pad(model)
        shape = (1, 1, *WINDOW[self.config.dims])
        with torch.inference_mode():
            padded.forward(model, as_input(torch.zeros(shape)))
        source = zarr.open_array(self.raw, mode="r")
        target = zarr.open_array(self.output("monai_padded"))

        def predict(x: torch.Tensor) -> torch.Tensor:
            return padded.forward(model, as_input(x)).float()

        depth = 1 if self.config.dims == 2 else self.place.shape[0]
        start = time.perf_counter()
        for z in range(0, self.place.shape[0], depth):
            raw = np.asarray(source[z : z + depth])
            x = to_tensor(raw[0] if self.config.dims == 2 else raw)[None, None]
            with torch.inference_mode():
                scores = sliding_window_inference(x, WINDOW[self.config.dims], 1, predict, 0.0)
            classes = scores[0].argmax(dim=0)  # type: ignore[index]
            target[z : z + depth] = classes.to(torch.uint8).numpy().reshape(raw.shape)
        seconds = time.perf_counter() - start
        with torch.inference_mode():  # the last plane, or the volume
            whole, cut = predict(x).softmax(dim=1), scores.softmax(dim=1)  # type: ignore[union-attr]
        self.seam = float((whole - cut).abs().max())
        return seconds

    def padded_flops(self) -> int:
        """Return the operations of the padded network over the volume."""
        window = WINDOW[self.config.dims]
        return math.prod(self.place.shape) // math.prod(window) * padded.flops(self.config, window)

    def _slide(
        self, name: str, predict: Any, window: Any, step: Any, weight: Any, halo: Any
    ) -> float:
        from monai.inferers import sliding_window_inference

        source, target = zarr.open_array(self.raw, mode="r"), zarr.open_array(self.output(name))
        depth = 1 if self.config.dims == 2 else self.place.shape[0]
        overlap = [1 - (s + 0.5) / w for s, w in zip(step, window, strict=True)]
        start = time.perf_counter()
        for z in range(0, self.place.shape[0], depth):
            raw = np.asarray(source[z : z + depth])
            image = raw[0] if self.config.dims == 2 else raw
            rest = [
                -(-n // s) * s - n + w - s - h
                for n, s, w, h in zip(image.shape, step, window, halo, strict=True)
            ]
            mirrored = np.pad(image, list(zip(halo, rest, strict=True)), "reflect")
            x = to_tensor(mirrored)[None, None]
            with torch.inference_mode():
                scores = sliding_window_inference(
                    x, window, 1, predict, overlap=overlap, mode="constant", roi_weight_map=weight
                )
            place = tuple(slice(h, h + n) for h, n in zip(halo, image.shape, strict=True))
            classes = scores[(0, slice(None), *place)].argmax(dim=0)  # type: ignore[index]
            target[z : z + depth] = classes.to(torch.uint8).numpy().reshape(raw.shape)
        return time.perf_counter() - start

    def map_overlap(self, *, keeps: bool) -> float:
        """Segment with dask's map_overlap in a new process; ``keeps``: it keeps freed memory."""
        with _memory(keeps=keeps):
            return in_new_process(self._map_overlap)[0]

    def _map_overlap(self) -> float:
        import dask
        import dask.array as da

        torch.set_num_threads(1)
        model, _ = load_weights(self.place.weights)
        model.eval().requires_grad_(False)
        chunk = CHUNK[self.config.dims]
        dims = self.config.dims

        depth = self.above(chunk)  # dask takes one depth for both sides
        more = [b - a for a, b in zip(self.halo, depth, strict=True)]

        def predict(block: NDArray[np.uint8]) -> NDArray[np.uint8]:
            x = to_tensor(block[tuple(slice(n, None) for n in more)])
            with torch.inference_mode():
                classes = model(x[:, None] if dims == 2 else x[None, None]).argmax(dim=1)
            core = [n - 2 * d for n, d in zip(block.shape, depth, strict=True)]
            place = tuple(slice(n) for n in core)
            return (classes[0] if dims == 3 else classes)[place].to(torch.uint8).numpy()

        predict(np.zeros([n + 2 * d for n, d in zip(chunk, depth, strict=True)], np.uint8))
        out = zarr.open_array(self.output("map_overlap"))
        planes = DEPTH[dims]
        start = time.perf_counter()
        x = da.from_zarr(self.raw)[:planes].rechunk(chunk)
        classes = da.map_overlap(
            predict, x, depth=depth, boundary="reflect", trim=False, dtype="uint8",
            chunks=x.chunks, meta=np.empty((0,) * 3, np.uint8),
        )  # fmt: skip
        with dask.config.set(scheduler="threads", num_workers=THREADS):
            da.store(classes, out, lock=False, regions=(slice(planes), slice(None), slice(None)))
        return (time.perf_counter() - start) * self.place.shape[0] / planes


def in_new_process(timed: Callable[[], float]) -> tuple[float, int]:
    """Return the seconds that ``timed`` returns in a new process, and the peak of this in MiB."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as pool:
        return pool.submit(_with_peak, timed).result()


def _with_peak(timed: Callable[[], float]) -> tuple[float, int]:
    return timed(), peak_mib()


@contextmanager
def _memory(*, keeps: bool) -> Iterator[None]:
    """Let the processes started inside keep freed memory, or use glibc's defaults."""
    kept = {name: os.environ[name] for name in KEPT_MEMORY}
    if not keeps:
        for name in kept:
            del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(kept)
