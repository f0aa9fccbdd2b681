"""The most memory that this process, or its GPU, holds at a time."""

from __future__ import annotations

import resource
from contextlib import suppress
from pathlib import Path

import torch

_PEAK_SINCE_RESET = "VmHWM:"


class PeakMemory:
    """The peak from now on: of the GPU's memory for ``cuda``, else of the process's."""

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            return
        with suppress(OSError):  # not Linux, or not allowed: the peak is that of the whole process
            Path("/proc/self/clear_refs").write_text("5")

    def peak_bytes(self) -> int:
        """Return the peak in bytes."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        with suppress(OSError, ValueError):
            lines = Path("/proc/self/status").read_text().splitlines()
            found = next((line for line in lines if line.startswith(_PEAK_SINCE_RESET)), "")
            if found:
                return int(found.split()[1]) * 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
