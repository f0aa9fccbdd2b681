"""The record of a round: a line of JSON in the file that FAULT_OUT names."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One fault that happened, and what came of it. moment: the part of the run, or a dash."""

    family: str
    fault: str
    command: str
    seed: str
    seconds: float
    moment: str = "—"
    outcome: str = "identical"

    def append(self) -> None:
        """Append it to the file of the environment, if there is one."""
        if out := os.environ.get("FAULT_OUT"):
            with Path(out).open("a") as file:
                file.write(json.dumps(asdict(self)) + "\n")
