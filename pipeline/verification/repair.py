"""Marks what a check has found as not done, so that the same command computes exactly that again.

What was made from it is marked too: the coarser levels of the image, and the objects of the output.
Shards stay as they are until they are written again; documents that cannot be read are deleted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import zarr

from ..base.errors import OutputError
from ..base.location import Location
from ..base.shard_store import ShardStore
from ..base.store_errors import ANSWER_WITHIN_S, explained
from ..base.stores import open_store, read_node, wait_for
from ..ledger.digests import forget_digests, node_path
from ..ledger.ledger import REPAIRED, BlockState, run_group
from ..ledger.ownership import OWNER, SHARDS, new_token
from ..objects.tasks.ids import IdIndex
from ..objects.tasks.intermediates import Intermediates
from ..output.guard import RUN_GROUP
from ..output.kinds import OBJECTS_PATH
from .finding import Finding, Verification
from .recorded import Recorded, read_recorded


def repair_output(result: Verification) -> int:
    """Mark what was found as not done; return the number of blocks that must be computed again.

    Takes the output over first: a run that has slept for a long time writes nothing any more.
    Raises OutputError if the ledger cannot be written.
    """
    output, findings = result.output, result.findings
    with explained(OutputError, output):
        run = run_group(output, mode="r+")
        parts = read_recorded(output)
        _take_over(run, parts)
        _delete(output, torn_documents(findings))
        for part in parts:
            _mend_digests(output, run, part)
        is_objects = result.job.get("kind") == "objects"
        if is_objects and _must_find_again(output, findings, parts):
            return _reset_objects(output)
        levels: Any = run.attrs.get("levels") or []
        kept = [path for path in levels if not _depends(path, findings)]
        changes: dict[str, Any] = {REPAIRED: True, "levels": kept}
        is_lost = any(part.lost.any() for part in parts)
        if kept != levels or is_lost or any(finding.level == 0 for finding in findings):
            changes["pyramid"] = None
        if is_objects and "pyramid" in changes:
            changes["table"] = None
        run.attrs.update(changes)
        return sum(_mark(output, part, findings) for part in parts)


def repair_objects_of(result: Verification) -> bool:
    """Mark the objects inside a segmentation as not found if what they are made from is damaged.

    Returns whether they are. When the damage happened is not known: maybe before they were found.
    """
    output = result.output / OBJECTS_PATH
    node = read_node(output, path=RUN_GROUP)
    if node is None or "job" not in node.attributes:
        return False
    job: Any = node.attributes["job"]
    if not any(finding.path == job.get("input_path") for finding in result.findings):
        return False
    with explained(OutputError, output):
        _take_over(run_group(output, mode="r+"), read_recorded(output))
        _reset_objects(output)
    return True


def torn_documents(findings: Iterable[Finding]) -> Iterator[str]:
    """Yield the keys of the documents that cannot be read: the next run writes them again."""
    for finding in findings:
        if finding.problem == "torn" and finding.box is None:
            yield from (key for key in finding.files if not key.endswith("/"))


def _take_over(run: zarr.Group, parts: list[Recorded]) -> None:
    if SHARDS not in run.attrs or OWNER in run.attrs:
        run.attrs[OWNER] = new_token()
    for part in parts:
        if part.path != RUN_GROUP:
            group: Any = run[_below_run(part.path)]
            group.attrs[OWNER] = new_token(int(part.path.rpartition("/")[2]))


def _must_find_again(
    output: Location, findings: Iterable[Finding], parts: Iterable[Recorded]
) -> bool:
    """Return whether objects must be found again: something is damaged, and cannot be rewritten.

    Labels of single blocks can be written again from kept intermediate results.
    """
    damaged = [finding for finding in findings if not finding.path.startswith(f"{RUN_GROUP}/")]
    if not damaged and not any(part.lost.any() for part in parts):
        return False
    has_arrays = all(finding.box is not None for finding in damaged)
    return not has_arrays or IdIndex.stored(Intermediates(output)) is None


def _delete(output: Location, keys: Iterable[str]) -> None:
    store = open_store(output, read_only=False)
    for key in keys:
        wait_for(store.delete(key), timeout_s=ANSWER_WITHIN_S)


def _depends(level: str, findings: Iterable[Finding]) -> bool:
    """Return whether a coarser level is damaged, or made from a level that is."""
    image, _, number = level.rpartition("/")
    return any(
        finding.level is not None and finding.image == image and finding.level <= int(number)
        for finding in findings
    )


def _mark(output: Location, part: Recorded, findings: Iterable[Finding]) -> int:
    """Write the states of the blocks of one ledger; return how many are no longer done."""
    states, done = part.states.copy(), part.done
    for finding in findings:
        if finding.ledger == part.path and finding.block is not None:
            states[finding.block] = BlockState.MISSING
    states[part.lost] = BlockState.MISSING
    changed = int(((states != part.states) & done).sum()) + int(part.lost.sum())
    if changed:
        _write(output, f"{part.path}/done", states)
    return changed


def _write(output: Location, path: str, values: Any) -> None:
    """Write an array of the ledger, also where a chunk is torn."""
    store = ShardStore(open_store(output, read_only=False))
    zarr.open_array(store, path=path, mode="r+")[...] = values


def _mend_digests(output: Location, run: zarr.Group, part: Recorded) -> None:
    """Forget digests that cannot be read: their blocks are not checked any more."""
    readable = {stored.path for stored in part.digests}
    if part.states.size:
        ledger: Any = run if part.path == RUN_GROUP else run[_below_run(part.path)]
        for path in set(part.digested) - readable:
            forget_digests(ledger, path)
    for stored in part.digests:
        if stored.is_damaged:
            _write(output, f"{part.path}/{node_path(stored.path)}", stored.values)


def _below_run(path: str) -> str:
    return path.removeprefix(f"{RUN_GROUP}/")


def _reset_objects(output: Location) -> int:
    """Mark all objects as not found; return the number of blocks whose labels were written."""
    count = 0
    for part in read_recorded(output):
        count += int(part.done.sum())
        states = part.states.copy()
        states[states != BlockState.SKIPPED] = BlockState.MISSING
        if states.size:  # else the next run creates it again
            _write(output, f"{part.path}/done", states)
    Intermediates(output).delete()
    nothing: dict[str, Any] = {"objects": None, "table": None, "pyramid": None, "levels": []}
    run_group(output, mode="r+").attrs.update({REPAIRED: True, **nothing})
    return count
