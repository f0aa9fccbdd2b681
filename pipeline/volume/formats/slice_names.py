"""The order of slices by the numbers in their file names; gaps and duplicates are refused."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

from ...base.errors import VolumeError
from ...base.location import Location

_SHOWN: Final = 5


def in_order(files: Sequence[Location], where: Location) -> tuple[list[Location], tuple[str, ...]]:
    """Return files sorted by slice number, and a note if the numbers have a step above 1.

    The number is the only one that varies in the names. Raises VolumeError if several vary, if a
    number is missing or appears twice. Names without a varying number are sorted as text.
    """
    if len(files) == 1:
        return list(files), ()
    numbers = [_numbers(file.name) for file in files]
    texts = {re.sub(r"\d+", "#", file.name) for file in files}
    if len(texts) > 1 or not numbers[0]:
        raise VolumeError(
            f"{where}: the file names differ in more than a number (e.g. "
            f"{files[0].name}, {_other(files)}): pass a pattern that matches one stack, e.g. "
            "'folder/slice_*.tif'"
        )
    varying = [
        place for place in range(len(numbers[0])) if len({one[place] for one in numbers}) > 1
    ]
    if len(varying) != 1:
        raise VolumeError(
            f"{where}: {len(varying)} numbers vary in the file names (e.g. "
            f"{files[0].name}, {files[1].name}): pass a pattern for one channel, e.g. "
            "'folder/*_c1.tif'"
            if varying
            else f"{where}: several files have the same slice number ({_other(files)})"
        )
    by_number = [one[varying[0]] for one in numbers]
    note = _check_sequence(by_number, where)
    order = sorted(range(len(files)), key=by_number.__getitem__)
    return [files[place] for place in order], note


def _numbers(name: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", name)]


def _other(files: Sequence[Location]) -> str:
    first = re.sub(r"\d+", "#", files[0].name)
    return next((f.name for f in files if re.sub(r"\d+", "#", f.name) != first), files[-1].name)


def _check_sequence(numbers: Sequence[int], where: Location) -> tuple[str, ...]:
    """Raise VolumeError for duplicates and gaps; return a note for a step above 1."""
    twice = sorted(number for number, count in Counter(numbers).items() if count > 1)
    if twice:
        raise VolumeError(
            f"{where}: slice number {twice[0]} appears {numbers.count(twice[0])} times"
        )
    ordered = sorted(numbers)
    steps = Counter(b - a for a, b in itertools.pairwise(ordered))
    step = min(steps)
    if len(steps) > 1:
        every, present = range(ordered[0], ordered[-1] + 1, step), set(ordered)
        missing = (number for number in every if number not in present)
        listed = ", ".join(map(str, itertools.islice(missing, _SHOWN)))
        count = (every[-1] - every[0]) // step + 1 - sum(number in every for number in ordered)
        more = f" and {count - _SHOWN:,} more" if count > _SHOWN else ""
        raise VolumeError(
            f"{where}: slice number {listed}{more} missing between {ordered[0]} and {ordered[-1]}: "
            "add the files, or pass a pattern that matches slices without a gap"
        )
    if step > 1:
        return (f"slice numbers have a step of {step}: taken as neighbouring slices",)
    return ()
