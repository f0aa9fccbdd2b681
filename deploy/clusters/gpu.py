"""Checks that the GPUs of a cluster exist: there is no silent fallback to the CPU."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.metadata import version

from pipeline.base.errors import ClusterError

VISIBLE = "CUDA_VISIBLE_DEVICES"
PRETEND = "DASK_CUDA_TEST_DISABLE_DEVICE_SPECIFIC"
"""dask-cuda's own switch for tests without a GPU: GPUs are not checked."""
ON_CPU = ": use --cluster local for the CPU"
"""The remedy for a run, at the end of a message."""
_ABSENT = frozenset(("NVMLError_LibraryNotFound", "NVMLError_DriverNotLoaded"))
"""Errors of NVIDIA's library on a machine without a GPU."""


def pretends() -> bool:
    """Return whether a test simulates GPUs."""
    return bool(int(os.environ.get(PRETEND, "0")))


def checked_devices(devices: Sequence[str]) -> list[str]:
    """Return the requested devices, by default all visible ones.

    Raises ClusterError unless the driver lists each of them.
    """
    if not devices and VISIBLE in os.environ:
        devices = [name for name in os.environ[VISIBLE].split(",") if name.strip()]
        if not devices:
            raise ClusterError(f"cluster cuda needs a GPU, but {VISIBLE} hides all: unset it")
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
    except Exception as error:  # NVMLError, of pynvml, which we do not import
        raise ClusterError(_without_driver(error)) from error
    if not count:
        raise ClusterError("cluster cuda needs an NVIDIA GPU, but the driver lists none")
    for device in devices:
        try:
            get_gpu_handle(device)
        except Exception as error:
            raise ClusterError(
                f"GPU {device!r} not found: the driver lists 0 to {count - 1}; set devices by "
                "these numbers, or by UUID (nvidia-smi -L)"
            ) from error
    return list(devices) or [str(number) for number in range(count)]


def _without_driver(error: Exception) -> str:
    """Return why the driver did not answer; a library that is absent means no driver, no more."""
    if type(error).__name__ in _ABSENT:
        why = "this machine has none, or its driver is not installed"
    else:
        why = f"the driver does not answer ({error})"
    return f"cluster cuda needs an NVIDIA GPU, but {why}{ON_CPU}"


def missing_gpu() -> str | None:
    """Return why torch on this worker cannot use a GPU; None if it can."""
    if pretends():
        return None
    from ..ranks.process_group import find_device  # torch: on workers only

    if find_device().name != "cpu":
        return None
    return (
        f"torch {version('torch')} of the workers finds no GPU: install the build for this driver "
        "(pip install 'overtile[cuda]', or 'overtile[cuda12]' for CUDA 12)"
    )
