"""Numbers and pictures for TensorBoard, which is an optional package."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from numpy.typing import NDArray


def tensorboard_is_installed() -> bool:
    """Return whether files for TensorBoard can be written here."""
    return find_spec("tensorboard") is not None


class EventFile:
    """A file that TensorBoard shows; each start of a training adds one to its directory."""

    def __init__(self, directory: Path, *, first_step: int) -> None:
        """Hide what an earlier start wrote of steps from ``first_step`` on: they come again."""
        from torch.utils.tensorboard.writer import SummaryWriter

        self._writer = SummaryWriter(str(directory), purge_step=first_step, flush_secs=10)

    def add(
        self,
        step: int,
        *,
        numbers: Mapping[str, float],
        pictures: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        """Add the numbers and pictures, (y, x, 3) uint8, of one step. Raises OSError."""
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)
        for name, picture in (pictures or {}).items():
            self._writer.add_image(name, picture, step, dataformats="HWC")
        self._writer.flush()
