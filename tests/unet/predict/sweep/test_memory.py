"""The memory of a sweep is what is stated, and does not grow with the tile's depth."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deploy.clusters.worker_environment import KEPT_MEMORY
from pipeline.base.geometry import Shape
from unet import UNetConfig, UNetPredictor
from unet.network.model import UNet
from unet.predict.sweep.column import ColumnSweep
from unet.predict.sweep.geometry import (
    column_layers,
    gathered_planes,
    planes_before_pools,
    slab_planes,
    waiting_limits,
)
from unet.predict.sweep.steps import Step, SweptConvolution, SweptPool

Weights = Callable[..., Path]

ANISOTROPIC = UNetConfig(
    dims=3, base_channels=2, levels=3,
    kernels=((1, 3, 3), 3, (5, 1, 3)), pooling=((1, 2, 2), (3, 2, 1)),
)  # fmt: skip


@given(
    config=st.sampled_from((UNetConfig(dims=3, base_channels=2, levels=4), ANISOTROPIC)),
    slab=st.integers(1, 20),
)
def test_no_more_planes_wait_than_the_limit(config: UNetConfig, slab: int) -> None:
    shape = config.input_shape((30, 2, 2))
    sweep = ColumnSweep(UNet(config).eval().requires_grad_(False), shape[1:], slab=slab)
    limits = waiting_limits(config, slab=slab)
    with torch.inference_mode():
        for start in range(0, shape[0], slab):
            sweep.push(torch.zeros(1, 1, *shape)[:, :, start : start + slab])
            assert all(n <= most for n, most in zip(sweep.waiting_planes, limits, strict=True))


def test_a_sweep_s_memory_does_not_depend_on_its_depth(weights_file: Weights) -> None:
    predictor = UNetPredictor(weights_file(UNetConfig(dims=3, base_channels=8, levels=3)))
    assert predictor.sweep_memory_bytes((16, 64, 64)) == predictor.sweep_memory_bytes((512, 64, 64))


@pytest.mark.parametrize(
    ("config", "slab"),
    [*((UNetConfig(dims=3, base_channels=2, levels=5), slab) for slab in (4, 8, 16, 32)),
     (ANISOTROPIC, 9), (UNetConfig(dims=3, base_channels=2, levels=3, pooling=3), 9)],
)  # fmt: skip
def test_no_layer_reads_more_planes_at_once_than_its_memory_is_counted_for(
    monkeypatch: pytest.MonkeyPatch, config: UNetConfig, slab: int
) -> None:
    shape = config.input_shape((60, 2, 2))
    sweep = ColumnSweep(UNet(config).eval().requires_grad_(False), shape[1:], slab=slab)
    most, kept = Counter[int](), Counter[int]()
    for kind in (SweptConvolution, SweptPool):

        def counted(
            self: Step, x: torch.Tensor, compute: Callable[..., torch.Tensor] = kind.compute
        ) -> torch.Tensor | None:
            most[id(self)] = max(most[id(self)], x.shape[2])
            y = compute(self, x)
            kept[id(self)] = max(kept[id(self)], self._kept._count)  # type: ignore[attr-defined]
            return y

        monkeypatch.setattr(kind, "compute", counted)
    scores = 0
    with torch.inference_mode():
        for start in range(0, shape[0], slab):
            given = sweep.push(torch.zeros(1, 1, *shape)[:, :, start : start + slab])
            scores = max(scores, 0 if given is None else given.shape[2])
    assert scores == max(slab, config.divisor[0])
    stated = gathered_planes(config, slab=slab)
    names = [
        layer.name
        for layer in column_layers(config, shape[1:])
        if layer.kind.startswith(("convolution", "pool"))
    ]
    steps = [step for step in sweep._steps if isinstance(step, SweptConvolution | SweptPool)]
    found = {name: most[id(step)] for name, step in zip(names, steps, strict=True)}
    assert {name: found[name] for name in stated} == stated
    pools = [step for step in steps if isinstance(step, SweptPool)]
    assert tuple(kept[id(pool)] for pool in pools) == planes_before_pools(config, slab=slab)


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
@pytest.mark.parametrize(("levels", "core"), [(3, (48, 120, 120)), (5, (1, 100, 100))])
def test_the_stated_memory_of_a_sweep_is_the_measured_peak(
    weights_file: Weights, levels: int, core: Shape
) -> None:
    path = weights_file(UNetConfig(dims=3, base_channels=16, levels=levels))
    command = f"""
import ctypes
import numpy as np
from unet import UNetPredictor
def kilobytes(key):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if key in line)
predictor = UNetPredictor({str(path)!r}, precision="fp32", device="cpu")
def sweep(core):
    shape = predictor.input_shape(core)
    read = lambda start, stop: np.full((1, stop - start, *shape[1:]), 0.5, np.float32)
    for scores in predictor.sweep(read, shape):
        pass
sweep((1, 1, 1))
ctypes.CDLL(None).malloc_trim(0)
before = kilobytes("VmRSS")
open("/proc/self/clear_refs", "w").write("5")
sweep({core})
print((kilobytes("VmHWM") - before) * 1024 / predictor.sweep_memory_bytes({core}))
"""
    done = subprocess.run(
        [sys.executable, "-c", command],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[4]), **KEPT_MEMORY},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert 1 / 1.25 < float(done.stdout) < 1.25


def test_a_2d_network_and_layers_with_statistics_of_the_tile_are_not_swept(
    weights_file: Weights,
) -> None:
    for number, config in enumerate(
        (UNetConfig(base_channels=2, levels=2),
         UNetConfig(dims=3, base_channels=2, levels=2, norm="group"))
    ):  # fmt: skip
        predictor = UNetPredictor(weights_file(config, name=f"{number}.safetensors"))
        assert predictor.sweep_memory_bytes((8, 8, 8)) is None


def test_a_slab_is_whole_steps_of_the_pooling_grid_or_an_equal_part_of_one() -> None:
    assert slab_planes(UNetConfig(dims=3, levels=3)) == 8
    assert slab_planes(UNetConfig(dims=3, levels=4)) == 8
    assert slab_planes(UNetConfig(dims=3, levels=5)) == 8
    assert slab_planes(UNetConfig(dims=3, levels=6)) == 8
    assert slab_planes(ANISOTROPIC) == 9
    assert slab_planes(UNetConfig(dims=3, levels=4, pooling=(2, 3, 3))) == 9
