"""Connected components of one block."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def label_components(
    mask_zyx: NDArray[np.bool_], offsets: NDArray[np.int64]
) -> tuple[NDArray[np.int32], int]:
    """Return labels 1, 2 … of the components in the order of their first voxels, and their number.

    offsets: of the neighbours, see neighbourhood.py.
    """
    structure = np.zeros((3, 3, 3), np.bool_)
    structure[1, 1, 1] = True
    structure[tuple((offsets + 1).T)] = True
    labels: Any = np.empty(mask_zyx.shape, np.int32)
    count: Any = ndimage.label(mask_zyx, structure=structure, output=labels)
    return labels, int(count)
