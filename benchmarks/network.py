"""The network alone, in a bare loop: FLOP/s, and their share of the machine's matrix rate.

    python -m benchmarks.network [--cases NAME,…] [--rounds N]

One thread, and freed memory is kept, as in overtile's worker processes; matrix product and network
are interleaved. Inference of a freshly initialised network; FLOPs come from the config, two per
multiply-add of every convolution. Formats: channels-last, or contiguous (torch's default).
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from typing import Any

import torch

from unet import UNet, UNetConfig

from .limit import SIZE
from .measuring import (
    at_least_one,
    cases_kept,
    commit,
    in_turn,
    keep,
    ratios,
    restart_with_memory_kept,
    some_of,
    spread,
)

CASES = {
    "2-D base 64, 572": (UNetConfig(dims=2, base_channels=64), 572),
    "2-D base 64, 956": (UNetConfig(dims=2, base_channels=64), 956),
    "2-D base 32, 572": (UNetConfig(dims=2, base_channels=32), 572),
    "2-D base 32, 956": (UNetConfig(dims=2, base_channels=32), 956),
    "3-D base 32, 132": (UNetConfig(dims=3, base_channels=32, levels=4), 132),
    "3-D base 32, 172": (UNetConfig(dims=3, base_channels=32, levels=4), 172),
}
FORMATS = {"channels-last": True, "contiguous": False}
PRECISIONS = {"bf16": torch.bfloat16, "fp32": torch.float32}


def timed_pass(
    config: UNetConfig, size: int, *, precision: str, channels_last: bool
) -> Callable[[], float]:
    """Return a function that does one pass through a network and returns its seconds."""
    layout = torch.contiguous_format
    if channels_last:
        layout = torch.channels_last if config.dims == 2 else torch.channels_last_3d
    dtype = PRECISIONS[precision]
    torch.manual_seed(0)
    model: Any = UNet(config).eval().requires_grad_(False).to(dtype=dtype)
    model = model.to(memory_format=layout)
    tile = torch.randn(1, config.in_channels, *(size,) * config.dims).to(dtype)

    def one() -> float:
        start = time.perf_counter()
        with torch.inference_mode():
            model(tile)
        return time.perf_counter() - start

    return one


def timed_product(precision: str) -> Callable[[], float]:
    """Return a function that multiplies large matrices and returns the seconds of one product."""
    operand = torch.randn(SIZE, SIZE).to(PRECISIONS[precision])

    def one() -> float:
        start = time.perf_counter()
        for _ in range(8):
            operand @ operand
        return (time.perf_counter() - start) / 8

    return one


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    short = {name.replace(",", ""): name for name in CASES}
    parser.add_argument("--cases", type=some_of(short), default=list(short))
    parser.add_argument("--precisions", type=some_of(PRECISIONS), default=["bf16"])
    parser.add_argument("--formats", type=some_of(FORMATS), default=["channels-last"])
    parser.add_argument("--rounds", type=at_least_one, default=5)
    options = parser.parse_args()
    restart_with_memory_kept()
    torch.set_num_threads(1)
    figures = cases_kept("network")
    for case, precision, layout in itertools.product(
        options.cases, options.precisions, options.formats
    ):
        name = short[case]
        config, size = CASES[name]
        passes = timed_pass(config, size, precision=precision, channels_last=FORMATS[layout])
        seconds = in_turn(
            {"product": timed_product(precision), "network": passes}, rounds=options.rounds
        )
        flops = config.flops((size,) * config.dims)
        network = [flops / one for one in seconds["network"]]
        product = [2 * SIZE**3 / one for one in seconds["product"]]
        figures[f"{name}, {precision}, {layout}"] = found = {
            "network_flops_per_s": spread(network),
            "matrix_flops_per_s": spread(product),
            "share": ratios(network, product),
            "commit": commit(),
        }
        print(
            f"{name}, {precision}, {layout}: {found['network_flops_per_s']['median'] / 1e9:.0f} "
            f"GFLOP/s, {found['share']['median']:.2f} of the matrix rate",
            flush=True,
        )
    print(keep("network", {"threads": 1, "cases": figures}))


if __name__ == "__main__":
    main()
