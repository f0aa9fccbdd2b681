"""What a check finds: a part of an output that is not what the ledger recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from ..base.geometry import Box, Shape
from ..base.location import Location

Problem: TypeAlias = Literal["missing", "torn", "changed", "unreadable"]
"""torn: it cannot be decoded. unreadable: the device reports an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One block, shard or document that is not as it was written."""

    problem: Problem
    path: str
    """Of the array or group in the output."""
    files: tuple[str, ...]
    """Keys in the output: the files that are torn, or else all of the block."""
    ledger: str
    """Path of the group with the part of the ledger that lists it."""
    block: Shape | None = None
    """Index (z, y, x), of level 0."""
    box: Box | None = None
    """Its voxels, in the axes of the array."""

    @property
    def level(self) -> int | None:
        """The level of the array that it is in; None for a document."""
        return None if self.box is None else int(self.path.rpartition("/")[2])

    @property
    def image(self) -> str:
        """Path of the image of the array that it is in."""
        return self.path.rpartition("/")[0]

    def to_json(self) -> dict[str, Any]:
        """Return the finding as JSON values."""
        return {
            "problem": self.problem,
            "array": self.path,
            "block": None if self.block is None else list(self.block),
            "start": None if self.box is None else list(self.box.start),
            "stop": None if self.box is None else list(self.box.stop),
            "files": list(self.files),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """The result of a check of one output."""

    output: Location
    job: Mapping[str, Any]
    """What is computed, see ledger/identity.py."""
    checked: int
    """Blocks and shards of coarser levels that were compared, per array."""
    done: int
    """Blocks that the ledger lists as done."""
    left: int
    """Blocks that are not done yet."""
    unrecorded_blocks: int
    """Blocks that were done before digests were recorded: not checked."""
    unrecorded_levels: int
    """Coarser levels that were built before digests were recorded: not checked."""
    findings: tuple[Finding, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return {
            "output": str(self.output),
            "checked": self.checked,
            "done": self.done,
            "left": self.left,
            "unrecorded_blocks": self.unrecorded_blocks,
            "unrecorded_levels": self.unrecorded_levels,
            "findings": [finding.to_json() for finding in self.findings],
        }
