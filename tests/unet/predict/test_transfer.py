"""Slabs go up while their predecessors are computed; memory that runs out is a MemoryError."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.base.tile_request import TileRequest
from unet import UNetConfig, UNetPredictor
from unet.predict import transfer as transfer_module
from unet.predict.sweep.column import ColumnSweep
from unet.predict.transfer import Arrays, HostTransfer, streamed

Weights = Callable[..., Path]

SOLID = UNetConfig(dims=3, base_channels=2, levels=2)
CPU = torch.device("cpu")


class Recorded(HostTransfer):
    """Also writes down its calls."""

    def __init__(self, calls: list[str]) -> None:
        super().__init__(CPU)
        self.calls = calls

    def upload(self, array: NDArray[Any]) -> Tensor:
        self.calls.append(f"upload {array[0]}")
        return super().upload(array)

    def download(self, results: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        self.calls.append(f"download {int(results[0])}")
        return super().download(results)

    def arrays(self, download: tuple[Tensor, ...]) -> Arrays:
        self.calls.append(f"await {int(download[0])}")
        return super().arrays(download)

    def mark(self) -> Any:
        return self.calls[-1]  # what was called last before the mark

    def wait(self, mark: Any) -> None:
        self.calls.append(f"wait for {mark}")


def numbers(count: int, calls: list[str]) -> Iterator[NDArray[Any]]:
    for number in range(count):
        calls.append(f"read {number}")
        yield np.array([number])


def test_the_next_array_goes_up_and_the_last_comes_down_around_each_computation() -> None:
    calls: list[str] = []

    def compute(x: Tensor) -> tuple[Tensor, ...] | None:
        calls.append(f"compute {int(x[0])}")
        return None if x[0] == 0 else (x[0],)  # the first planes of a sweep give nothing

    found = streamed(numbers(4, calls), compute, Recorded(calls), shape=(1,))
    assert [int(result) for (result,) in found] == [1, 2, 3]
    assert calls == [
        "read 0", "upload 0",
        "compute 0", "read 1", "upload 1",
        "compute 1", "download 1", "wait for compute 0", "read 2", "upload 2",
        "compute 2", "download 2", "wait for download 1", "read 3", "upload 3", "await 1",
        "compute 3", "download 3", "wait for download 2", "await 2", "await 3",
    ]  # fmt: skip


def test_uploads_do_not_run_ahead_where_nothing_comes_down() -> None:
    calls: list[str] = []

    def compute(x: Tensor) -> None:
        calls.append(f"compute {int(x[0])}")

    assert not list(streamed(numbers(4, calls), compute, Recorded(calls), shape=(1,)))
    assert calls == [
        "read 0", "upload 0",
        "compute 0", "read 1", "upload 1",
        "compute 1", "wait for compute 0", "read 2", "upload 2",
        "compute 2", "wait for compute 1", "read 3", "upload 3",
        "compute 3", "wait for compute 2",
    ]  # fmt: skip


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_arrays_give_all_their_results(count: int) -> None:
    calls: list[str] = []
    found = streamed(numbers(count, calls), lambda x: (x + 1,), HostTransfer(CPU), shape=(1,))
    assert [int(result[0]) for (result,) in found] == list(range(1, count + 1))


def stored(predictor: UNetPredictor, reads: list[int] | None = None, **request: Any) -> list[Any]:
    core = (20, 4, 4)
    shape = predictor.input_shape(core)

    def read(start: int, stop: int) -> NDArray[Any]:
        if reads is not None:
            reads.append(stop)
        return np.zeros((1, stop - start, *shape[1:]), np.uint8)

    asked = TileRequest(offset=(0.0,), scale=(1.0,), outputs=(), **request)
    return list(predictor.stored_planes(read, asked, input_shape=shape, core_shape=core))


def test_no_plane_is_read_after_the_last_one_of_the_core_is_given(weights_file: Weights) -> None:
    predictor = UNetPredictor(weights_file(SOLID), precision="fp32", device="cpu")
    core = (20, 4, 4)
    reads: list[int] = []
    planes = stored(predictor, reads, traversal="sweep")
    assert sum(len(one.classes_zyx) for one in planes) == core[0]
    assert reads[-2] - 2 * predictor.halo[0] < core[0]


@pytest.mark.parametrize(
    ("owner", "name"),
    [(HostTransfer, "upload"), (ColumnSweep, "__init__"), (ColumnSweep, "push"),
     (HostTransfer, "download")],
)  # fmt: skip
def test_memory_that_runs_out_anywhere_is_a_memory_error(
    owner: type, name: str, weights_file: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = UNetPredictor(weights_file(SOLID), precision="fp32", device="cpu")

    def fails(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried")

    monkeypatch.setattr(owner, name, fails)
    with pytest.raises(MemoryError, match="does not fit cpu"):
        stored(predictor, traversal="sweep")


def test_a_device_has_one_transfer_whose_streams_are_used_again() -> None:
    assert transfer_module.transfer_to(CPU) is transfer_module.transfer_to(torch.device("cpu"))
