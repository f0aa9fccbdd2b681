"""Labels that a person paints: 0 is unknown, and value k + 1 is class k; an attribute states it.

Viewers paint from 1 on and erase with 0, so that a class 0 (background) needs a value above 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

ATTRIBUTE: Final = "overtile_corrections"
"""Attribute of the group and of the array of painted labels."""
UNKNOWN_VALUE: Final = 0


def painted_attributes(
    class_names: tuple[str, ...], *, of: str, sample: str | None = None
) -> dict[str, Any]:
    """Return the attribute of painted labels.

    of: the output that they correct, without secrets. sample: the digest of a sample of the image
    that it was made from.
    """
    values = {str(number + 1): name for number, name in enumerate(class_names)}
    stated = {"unknown": UNKNOWN_VALUE, "classes": values, "output": of}
    return {ATTRIBUTE: stated if sample is None else {**stated, "input_sample": sample}}


def painted_sample(attributes: Mapping[str, Any]) -> str | None:
    """Return the digest of a sample of the image on which labels were painted; None if unknown."""
    stated = attributes.get(ATTRIBUTE)
    found = stated.get("input_sample") if isinstance(stated, Mapping) else None
    return found if isinstance(found, str) else None


def painted_classes(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the classes 0, 1, 2 … of painted labels; none for any other array.

    >>> painted_classes(painted_attributes(("cell", "membrane"), of="out.zarr"))
    ('cell', 'membrane')
    """
    stated = attributes.get(ATTRIBUTE)
    names = stated.get("classes") if isinstance(stated, Mapping) else None
    if not isinstance(names, Mapping):
        return ()
    found = [names.get(str(number + 1)) for number in range(len(names))]
    return tuple(map(str, found)) if all(found) else ()
