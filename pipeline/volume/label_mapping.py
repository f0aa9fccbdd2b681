"""From painted labels to classes: stored 0 is unknown, stored k + 1 is class k."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base.errors import LabelError
from .label_values import UNKNOWN


@dataclass(frozen=True, slots=True)
class LabelMapping:
    """Painted labels of a network's classes. class_names: of the classes 0, 1, 2 …"""

    class_names: tuple[str, ...]

    def classes(self, stored: NDArray[Any], *, where: object) -> NDArray[np.int64]:
        """Return the classes of stored values, ``UNKNOWN`` where nothing is painted.

        Raises LabelError for values that stand for no class.
        """
        wide = stored.astype(np.int64)
        if wide.size and not 0 <= (wrong := self._farthest(wide)) <= len(self.class_names):
            raise LabelError(
                f"{where} holds the value {wrong}: expected {self.text}; erase it, or paint one of "
                "these"
            )
        return np.where(wide == 0, UNKNOWN, wide - 1)

    @property
    def text(self) -> str:
        """The values and what they stand for.

        >>> LabelMapping(("cell", "membrane")).text
        '0 (unknown), 1 (cell) or 2 (membrane)'
        """
        known = [f"{number} ({name})" for number, name in enumerate(self.class_names, start=1)]
        *first, last = ["0 (unknown)", *known]
        return f"{', '.join(first)} or {last}"

    def _farthest(self, values: NDArray[np.int64]) -> int:
        least = int(values.min())
        return least if least < 0 else int(values.max())
