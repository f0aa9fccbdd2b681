"""What a table of objects depends on besides the rows: its units, axes, scores and channels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...volume.micrometres import SizesUm


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSpec:
    """Decides the columns of a table, which are known before any row."""

    is_flat: bool = False
    """Whether objects lie in one z each (one z in all, or ``--per-slice``): areas, not volumes."""
    voxel_size_um: SizesUm = (None, None, None)
    """z, y, x; None where unknown. Columns in µm exist where all axes of the objects have one."""
    origin_um: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Where the centre of voxel (0, 0, 0) of the level lies."""
    score_scale: int | None = None
    """The stored integer of score 1, such as 255; None without scores."""
    channel_names: tuple[str, ...] = ()
    """Of the intensities. Empty and repeated names are replaced by the channel's number."""
    intensity_dtype: str = "uint8"
    """Of the image."""

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes along which an object extends: y and x of flat objects, else z, y and x."""
        return (1, 2) if self.is_flat else (0, 1, 2)

    @property
    def spacing_um(self) -> NDArray[np.float64] | None:
        """Voxel size along ``axes``, above 0 for axes stored backwards too; None if unknown."""
        sizes = [self.voxel_size_um[axis] for axis in self.axes]
        if any(size is None for size in sizes):
            return None
        return np.abs(np.array(sizes, np.float64))

    @property
    def channels(self) -> tuple[str, ...]:
        """One distinct name per channel, for the names of columns."""
        names = self.channel_names
        numbers = tuple(str(number) for number in range(len(names)))
        is_distinct = all(name.strip() for name in names) and len(set(names)) == len(names)
        return names if is_distinct else numbers
