"""The unit of LSF's memory limits, which its administrators choose."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

_UNITS: Final = {unit: 1024**power for power, unit in enumerate(("KB", "MB", "GB", "TB"), 1)}
_STATED: Final = re.compile(r"^\s*LSF_UNIT_FOR_LIMITS\s*=\s*\"?([KMGT]B?)\b", re.M | re.I)


def limit_unit_bytes() -> int:
    """Return the unit of ``bsub -M`` in bytes: by ``LSF_UNIT_FOR_LIMITS`` in lsf.conf, else a KB.

    lsf.conf is in the folder ``LSF_ENVDIR``, which LSF's own profile sets.
    """
    path = Path(os.environ.get("LSF_ENVDIR", "/etc"), "lsf.conf")
    try:
        stated = _STATED.search(path.read_text(errors="replace"))
    except OSError:
        stated = None
    return _UNITS["KB" if stated is None else f"{stated[1].upper().rstrip('B')}B"]
