"""Whether there are the GPUs that a cluster asks for; no silent way back to the CPU."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.metadata import version

from pipeline.base.errors import ClusterError

VISIBLE = "CUDA_VISIBLE_DEVICES"
PRETEND = "DASK_CUDA_TEST_DISABLE_DEVICE_SPECIFIC"
"""dask-cuda's own switch for tests on machines without a GPU: nobody looks for one then."""


def pretends() -> bool:
    """Return whether GPUs are pretended, in a test."""
    return bool(int(os.environ.get(PRETEND, "0")))


def checked_devices(devices: Sequence[str]) -> list[str]:
    """Return the devices that are asked for, by default all that are visible.

    Raises ClusterError where the driver does not know each of them.
    """
    if not devices and VISIBLE in os.environ:
        devices = [name for name in os.environ[VISIBLE].split(",") if name.strip()]
        if not devices:
            raise ClusterError(f"cluster cuda needs a GPU, and {VISIBLE} hides all: unset it")
    return list(devices) or ["0"] if pretends() else _known_to_driver(devices)


def _known_to_driver(devices: Sequence[str]) -> list[str]:
    try:
        from dask_cuda.utils import get_gpu_count, get_gpu_handle
    except ImportError as error:
        raise ClusterError(
            f"cluster cuda needs dask-cuda ({error}): pip install 'overtile[cuda]', or "
            "'overtile[cuda12]' for CUDA 12"
        ) from error
    try:
        count = get_gpu_count()
    except Exception as error:  # NVMLError: pynvml is no dependency of ours
        raise ClusterError(
            f"cluster cuda needs an NVIDIA GPU, and there is no driver for one here ({error}): "
            "take --cluster local for the CPU"
        ) from error
    if not count:
        raise ClusterError("cluster cuda needs an NVIDIA GPU, and the driver knows none here")
    for device in devices:
        try:
            get_gpu_handle(device)
        except Exception as error:
            raise ClusterError(
                f"GPU {device!r} is not here: the driver knows 0 to {count - 1}; say devices by "
                "these numbers, or by UUID (nvidia-smi -L)"
            ) from error
    return list(devices) or [str(number) for number in range(count)]


def missing_gpu() -> str | None:
    """Return, on a worker, why its torch computes on no GPU; None where it does."""
    if pretends():
        return None
    from ..ranks.process_group import find_device  # torch: on workers only

    if find_device().name != "cpu":
        return None
    return (
        f"torch {version('torch')} of the workers finds no GPU: install the build for this driver "
        "(pip install 'overtile[cuda]', or 'overtile[cuda12]' for CUDA 12)"
    )
