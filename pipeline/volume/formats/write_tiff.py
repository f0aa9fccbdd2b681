"""Writes small images as TIFF that ImageJ and Fiji open with their voxel size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tifffile
from numpy.typing import NDArray

from ...base.errors import OutputError
from ...base.location import Location
from ...base.store_errors import explained


def write_tiff(path: Path, image: NDArray[Any], *, voxel_size_um: Sequence[float]) -> None:
    """Write one stack, through a temporary file.

    image: axes (z, y, x), uint8, uint16 or float32. voxel_size_um: of (z, y, x), in µm.
    Raises OutputError where the file cannot be written.
    """
    z, y, x = voxel_size_um
    unfinished = path.with_name(f"{path.name}.part")
    with explained(OutputError, Location.parse(str(path))):
        tifffile.imwrite(
            unfinished, image, imagej=True, resolution=(1 / x, 1 / y),
            metadata={"axes": "ZYX", "spacing": z, "unit": "um"},
        )  # fmt: skip
        unfinished.replace(path)
