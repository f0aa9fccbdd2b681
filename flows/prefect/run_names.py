"""Names of flow runs and task runs that state what they do: ``segment out.zarr``.

Prefect's own names (``whimsical-guan``) are replaced; a name that a person gave is kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from pipeline.base.errors import OvertileError
from pipeline.base.location import Location

LONGEST = 60
"""Characters of a file's name in the name of a run."""
_GREEK = (
    "alpha|beta|gamma|delta|epsilon|zeta|eta|theta|iota|kappa|lambda|mu|nu|xi|omicron|pi|rho|sigma|"
    "tau|upsilon|phi|chi|psi|omega"
)
_MADE_BY_PREFECT = re.compile(rf"[A-Z]?[a-z]+-[A-Z]?[a-z]+|({_GREEK})\d*(-[a-z]+){{1,2}}")
"""Names from the server (``whimsical-guan``) and from the form (``gamma457-gault-quadrant``)."""


def named_after(verb: str, parameter: str) -> Callable[[], str]:
    """Return what Prefect calls for a flow run's name: the verb, and the file in a parameter."""

    def flow_run_name() -> str:
        from prefect.runtime import flow_run

        given = str(flow_run.name or "")
        if given and not _MADE_BY_PREFECT.fullmatch(given):
            return given
        return run_name(verb, (flow_run.parameters or {}).get(parameter, ""))

    return flow_run_name


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
