"""Types of options with more than one part: what the form takes, and how the shell spells them."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal, TypeAlias, get_args

from pydantic import AfterValidator, Field, PositiveInt

from pipeline.base.choices import DEFAULT_THRESHOLDS, OutputName
from pipeline.base.voxel_sizes import size_problem

from .declared import Spelling, write_number

MOST_THRESHOLDS = 1000
ZYX: TypeAlias = tuple[int, int, int]
_SIZES_AND_UNIT: Final = re.compile(r"(.*?[\d.])\s*([^\W\d]+)?")
_UM_PER_UNIT: Final = {"um": 1.0, "µm": 1.0, "μm": 1.0, "nm": 1e-3, "mm": 1e3}


def _as_text(value: int | str | list[int | str]) -> str | list[str]:
    """Return numbers as text: a text is a name first and then a number, for every entry point.

    So channels named 405 and 488, or levels named 1, 2, 3, are found by name, and a number that a
    form sends is the same channel as that number in the shell or in a batch script.
    """
    return list(map(str, value)) if isinstance(value, list) else str(value)


def _numbers_or_names(text: str) -> list[int | str]:
    return [part.strip() for part in text.split(",")]


def _names(text: str) -> list[str]:
    return text.split(",")


def _outputs(text: str) -> list[str]:
    outputs, known = text.split(","), get_args(OutputName)
    if set(outputs) - set(known):
        raise ValueError(f"expected {' or '.join(known)}, or several, comma-separated")
    return outputs


def _sizes(text: str) -> tuple[int, ...]:
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError:
        sizes = ()
    if len(sizes) not in (2, 3) or min(sizes) < 1:
        raise ValueError("expected three sizes as Z,Y,X, such as 64,256,256, or Y,X of one slice")
    return (1,) * (3 - len(sizes)) + sizes


def _voxel_size(text: str) -> tuple[float, ...]:
    found = _SIZES_AND_UNIT.fullmatch(text.strip())
    numbers, unit = (found[1], found[2] or "um") if found else (text, "um")
    try:
        sizes = [float(part) for part in numbers.split(",")]
    except ValueError:
        raise ValueError("expected numbers as Z,Y,X or Y,X and one unit, as 50,4,4nm") from None
    if unit not in _UM_PER_UNIT:
        raise ValueError(f"unknown unit {unit}: expected nm, um or mm, as 50,4,4nm")
    sizes_um = tuple(round(size * _UM_PER_UNIT[unit], 9) for size in sizes)
    if problem := size_problem(sizes_um):
        raise ValueError(problem)
    return sizes_um


def _gibibytes(text: str) -> float:
    from deploy.clusters.units import size_bytes

    try:
        size = float(text)
    except ValueError:
        try:
            size = size_bytes(text + "iB" if text[-1:] in set("MGT") else text) / 2**30
        except RuntimeError:  # ClusterError
            size = 0.0
    if not 0 < size < 2**20:
        raise ValueError("expected a number of GiB above 0, or a size such as 512MiB")
    return size


def _auto_or_gibibytes(text: str) -> float | Literal["auto"]:
    return "auto" if text == "auto" else _gibibytes(text)


def _write_auto_or_number(value: float | Literal["auto"]) -> str:
    return value if isinstance(value, str) else write_number(value)


def _range(text: str) -> tuple[int, int]:
    first, _, end = text.partition(":")
    return int(first), int(end)


def _slices(text: str) -> tuple[int, int]:
    try:
        return _range(text)
    except ValueError:
        raise ValueError("expected slices as A:B, such as 20:24") from None


def _box(text: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    try:
        (z0, z1), (y0, y1), (x0, x1) = map(_range, text.split(","))
    except ValueError:
        raise ValueError("expected a box as Z0:Z1,Y0:Y1,X0:X1, such as 0:32,0:256,0:256") from None
    return (z0, y0, x0), (z1, y1, x1)


def _write_box(box: tuple[ZYX, ZYX]) -> str:
    return ",".join(f"{start}:{stop}" for start, stop in zip(*box, strict=True))


def _thresholds(text: str) -> list[float]:
    try:
        if ":" not in text:
            return [float(part) for part in text.split(",")]
        first, last, step = (float(part) for part in text.split(":"))
        count = round((last - first) / step) + 1
    except (ValueError, ZeroDivisionError, OverflowError):
        raise ValueError("expected thresholds as 0.1,0.5 or as 0.05:0.95:0.05") from None
    if count > MOST_THRESHOLDS:
        raise ValueError(f"expected at most {MOST_THRESHOLDS:,} thresholds (got {count:,})")
    return [round(first + step * n, 6) for n in range(count)]


def _write_thresholds(thresholds: list[float]) -> str:
    is_default = tuple(thresholds) == DEFAULT_THRESHOLDS
    return "0.05:0.95:0.05" if is_default else ",".join(map(str, thresholds))


def _ids_or_class(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def _object_ids(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError("expected ids as 1,2,3") from None


def _write_range(ends: tuple[Any, Any]) -> str:
    return f"{ends[0]}:{ends[1]}"


NumberOrName = Annotated[int | str, AfterValidator(_as_text), Spelling("N|NAME", str)]
Channels = Annotated[
    int | str | list[int | str], AfterValidator(_as_text), Spelling("N|NAME,…", _numbers_or_names)
]
Names = Annotated[list[str], Spelling("A,B,…", _names)]
Outputs = Annotated[list[OutputName], Spelling("classes,scores", _outputs)]
Sizes = Annotated[tuple[PositiveInt, PositiveInt, PositiveInt], Spelling("Z,Y,X", _sizes)]
VoxelSizeUm = Annotated[tuple[float, ...], Spelling("Z,Y,X[UNIT]", _voxel_size)]
TileMemory = Annotated[
    Annotated[float, Field(gt=0)] | Literal["auto"],
    Spelling("auto|GIB", _auto_or_gibibytes, _write_auto_or_number),
]
ObjectIds = Annotated[
    list[Annotated[int, Field(ge=0)]], Field(min_length=1), Spelling("1,2,3", _object_ids)
]
Slices = Annotated[tuple[int, int], Spelling("A:B", _slices, _write_range)]
BoxCorners = Annotated[tuple[ZYX, ZYX], Spelling("Z0:Z1,Y0:Y1,X0:X1", _box, _write_box)]
Thresholds = Annotated[
    list[float],
    Field(min_length=1),
    Spelling("T,T,…|A:B:STEP", _thresholds, _write_thresholds),
]
IdsOrClass = Annotated[int | str, Spelling("ids|CLASS", _ids_or_class)]
