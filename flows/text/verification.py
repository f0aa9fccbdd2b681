"""What a check of an output prints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pipeline.base.redaction import command_text
from pipeline.base.text import counted

if TYPE_CHECKING:
    from pipeline.base.geometry import Box
    from pipeline.verification.finding import Finding, Verification

MOST_FILES = 3


def lines_of(result: Verification) -> Iterator[str]:
    """Yield what was checked, and a line for everything that is not as it was written."""
    intact = result.checked - sum(finding.box is not None for finding in result.findings)
    yield f"{result.output}: {intact:,} of {result.checked:,} blocks and shards intact"
    if result.unrecorded_blocks or result.unrecorded_levels:
        blocks = counted(result.unrecorded_blocks, "block")
        levels = counted(result.unrecorded_levels, "coarser level")
        yield f"not checked, since no digest is recorded: {blocks}, {levels}"
    if result.left:
        yield f"not done yet: {counted(result.left, 'block')}"
    yield from map(finding_text, result.findings)


def finding_text(finding: Finding) -> str:
    """Return one finding: problem, block, voxels, array and files.

    >>> from pipeline.base.geometry import Box
    >>> from pipeline.verification.finding import Finding
    >>> box = Box((0, 0, 64), (4, 16, 128))
    >>> finding_text(Finding(problem="torn", path="0", files=("0/c/0/0/1",), ledger="run",
    ...                      block=(0, 0, 1), box=box))
    'torn: block 0,0,1, voxels 0:4,0:16,64:128 of 0: 0/c/0/0/1'
    """
    block = "" if finding.block is None else f"block {','.join(map(str, finding.block))}, "
    voxels = "" if finding.box is None else f"voxels {_box_text(finding.box)} of "
    files = ", ".join(finding.files[:MOST_FILES])
    more = len(finding.files) - MOST_FILES
    rest = f" and {more} more" if more > 0 else ""
    return f"{finding.problem}: {block}{voxels}{finding.path or 'the root'}: {files}{rest}"


def damage_text(
    results: Sequence[Verification], repaired: Sequence[tuple[int, Verification]] | None
) -> str:
    """Return what is wrong in one line, and what to do; nothing if all is well.

    repaired: how many blocks of which output are marked as not done.
    """
    damaged = [result for result in results if result.findings]
    if not damaged:
        return ""
    count = sum(len(result.findings) for result in damaged)
    is_one = "is" if count == 1 else "are"
    problem = f"{counted(count, 'part')} of {results[0].output} {is_one} missing, torn or changed"
    if repaired is None:
        command = command_text(["overtile", "verify", results[0].output.uri, "--repair"])
        return f"{problem}: mark with {command} what to redo"
    marked = "; ".join(
        f"{counted(blocks, 'block')} of {result.output} marked as not done: start the command "
        "again that made it"
        for blocks, result in repaired
    )
    return f"{problem}; {marked}"


def _box_text(box: Box) -> str:
    return ",".join(f"{a}:{b}" for a, b in zip(box.start, box.stop, strict=True))
