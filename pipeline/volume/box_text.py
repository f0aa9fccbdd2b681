"""A box of a volume as a user writes it: ``0:32,100:200,:`` in voxels, or ``10um:20um`` in lengths.

The ends are those of Python's slices: either may be left out. Lengths are measured from the outer
edge of the volume's first voxel, and are rounded to the nearest border between voxels.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, NoReturn

from ..base.errors import PlanError
from ..base.geometry import Box
from ..base.text import shape_text
from .micrometres import voxel_size_um
from .volume import VolumeSource

_UM_PER_UNIT: Final = {"nm": 1e-3, "um": 1.0, "µm": 1.0, "μm": 1.0, "mm": 1e3}
_END: Final = re.compile(r"(\d{1,18}(?:\.\d{1,18})?)\s*(nm|um|µm|μm|mm)|(\d{1,18})")
_FORM: Final = (
    "expected Z0:Z1,Y0:Y1,X0:X1 (or Y0:Y1,X0:X1 of an image) in voxels, or with nm, um or mm, such "
    "as 0:32,100um:200um,:"
)


@dataclass(frozen=True, slots=True)
class End:
    """One end of a range, in voxels, or in micrometres."""

    value: float
    is_length: bool

    def voxels(self, size_um: float | None) -> int | None:
        """Return the end in voxels; None for a length if the voxel size is unknown."""
        if not self.is_length:
            return int(self.value)
        return None if size_um is None else round(self.value / size_um)


Range = tuple[End | None, End | None]


def parse_box(text: str) -> tuple[Range, ...]:
    """Return the ranges of a box, one per axis. Raises PlanError for other text.

    >>> parse_box("0:8,2.5um:,:")[1]
    (End(value=2.5, is_length=True), None)
    """
    ranges = tuple(_range(text, part) for part in text.split(","))
    if len(ranges) not in (2, 3):
        _refuse(text, _FORM)
    return ranges


def _range(text: str, part: str) -> Range:
    first, colon, last = (side.strip() for side in part.partition(":"))
    if not colon:
        _refuse(text, _FORM)
    ends = _end(text, first), _end(text, last)
    kinds = {end.is_length for end in ends if end and end.value}  # 0 needs no unit
    if len(kinds) > 1:
        _refuse(text, f"expected a unit at both ends of {part.strip()}, or at neither")
    return ends


def _end(text: str, side: str) -> End | None:
    if not side:
        return None
    match = _END.fullmatch(side)
    if match is None:
        _refuse(text, _FORM)
    if match[3] is not None:
        return End(int(match[3]), is_length=False)
    return End(float(match[1]) * _UM_PER_UNIT[match[2]], is_length=True)


def resolve_box(text: str, source: VolumeSource) -> Box:
    """Return the box in voxels of the volume (z, y, x). Raises PlanError if it is empty or outside.

    A volume without z takes y and x alone; its z is then 0:1.
    """
    ranges = parse_box(text)
    if len(ranges) == 2:
        if source.shape_zyx[0] > 1:
            _refuse(text, f"expected three ranges for the volume {shape_text(source.shape_zyx)}")
        ranges = ((None, None), *ranges)
    sizes = voxel_size_um(source)
    ends = []
    for axis, (first, last), length, size_um in zip(
        "zyx", ranges, source.shape_zyx, sizes, strict=True
    ):
        start = 0 if first is None else first.voxels(size_um)
        stop = length if last is None else last.voxels(size_um)
        if start is None or stop is None:
            _refuse(
                text,
                f"the volume states no voxel size of {axis} in a unit: pass voxels, or "
                "--voxel-size",
            )
        if start >= stop:
            _refuse(text, f"it is empty along {axis} ({start}:{stop} in voxels)")
        if stop > length:
            _refuse(
                text,
                f"it ends at {stop} along {axis}, outside the volume "
                f"{shape_text(source.shape_zyx)}: expected at most {length}",
            )
        ends.append((start, stop))
    return Box(tuple(a for a, _ in ends), tuple(b for _, b in ends))


def _refuse(text: str, why: str) -> NoReturn:
    raise PlanError(f"--box {text!r}: {why}")
