"""Names of flow runs and task runs that state what they do: ``segment out.zarr``.

Prefect's own names (``whimsical-guan``) are replaced; a name that a person gave is kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

from pipeline.base.errors import OvertileError
from pipeline.base.location import Location

LONGEST = 60
"""Characters of a file's name in the name of a run."""
_GREEK = (
    "alpha|beta|gamma|delta|epsilon|zeta|eta|theta|iota|kappa|lambda|mu|nu|xi|omicron|pi|rho|sigma|"
    "tau|upsilon|phi|chi|psi|omega"
)
_ADJECTIVES = (
    "Awesome|Rustic|Small|Gorgeous|Fantastic|Sleek|Intelligent|Unbranded|Refined|Licensed|Generic|"
    "Practical|Ergonomic|Handcrafted|Tasty|Handmade|Incredible"
)
_MADE_BY_FORM = re.compile(rf"({_GREEK})\d*(-[a-z]+){{1,2}}|({_ADJECTIVES})-[A-Z]\w+")
"""Names from the form (``gamma457-gault-quadrant``), and from the newer one (``Sleek-Brug``)."""


NAMED_AFTER: Final = {
    "segment-volume": ("segment", "output"),
    "train-unet": ("train", "out"),
    "evaluate-volume": ("evaluate", "prediction"),
}
"""Of each flow, the verb and the parameter with the file that name its runs."""


def named_after(flow: str) -> Callable[[], str]:
    """Return what Prefect calls for the name of a flow's run: the verb, and a file."""

    def flow_run_name() -> str:
        from prefect.runtime import flow_run

        given = str(flow_run.name or "")
        if given and not is_made_by_prefect(given):
            return given
        return name_of(flow, flow_run.parameters or {})

    return flow_run_name


def name_of(flow: str, parameters: Mapping[str, Any]) -> str:
    """Return the name of a run of one of our flows with these parameters.

    >>> name_of("train-unet", {"out": "weights/membranes.safetensors"})
    'train membranes.safetensors'
    """
    verb, parameter = NAMED_AFTER[flow]
    return run_name(verb, parameters.get(parameter, ""))


def is_made_by_prefect(name: str) -> bool:
    """Return whether Prefect's server or form made a name, of its lists of words.

    >>> [is_made_by_prefect(name) for name in ("whimsical-guan", "mouse-brain", "test-run")]
    [True, False, False]
    """
    words = name.split("-")
    return bool(_MADE_BY_FORM.fullmatch(name)) or (len(words) == 2 and _words().issuperset(words))


@cache
def _words() -> frozenset[str]:
    """Return the words of coolname, with which Prefect's server names runs."""
    from coolname import data

    lists: Any = data.config
    return frozenset(word for part in lists.values() for word in part.get("words", ()))


def run_name(verb: str, path: object) -> str:
    """Return the verb and the last part of a path or URI, without secrets and control characters.

    >>> run_name("segment", "s3://me:secret@bucket/brains/out.zarr/")
    'segment out.zarr'
    >>> run_name("segment", "s3://me:secret@bucket"), run_name("segment", "")
    ('segment ***@bucket', 'segment')
    """
    try:
        name = str(Location.parse(str(path))).rpartition("/")[2]
    except OvertileError:  # the run itself reports it
        return verb
    shown = "".join(letter for letter in name if letter.isprintable()).strip()
    if len(shown) > LONGEST:
        shown = f"{shown[: LONGEST // 2]}…{shown[1 - LONGEST // 2 :]}"
    return f"{verb} {shown}".rstrip()


def region_name(parameters: dict[str, Any]) -> str:
    """Return the name of a region's task run, such as ``region 1 of 4, 12 blocks``."""
    from pipeline.base.text import counted

    run, region = parameters["run"], parameters["region"]
    blocks = counted(run.prepared.selection.count(region), "block")
    total = sum(map(len, run.prepared.shares))
    return f"region {region.number + 1} of {total}, {blocks}"
