"""Applies corrections to a copy of an output: painted voxels get their class, and a score of 1.

Only the blocks with a painted voxel that changes are written anew, and the shards of coarser levels
that are made from them; all other files are copied. The result is that of a full computation, byte
by byte, and its ledger has the digests of all files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import numpy as np
import zarr

from ..base.errors import LabelError, OutputError, RunError, VolumeError
from ..base.geometry import Box, Shape
from ..base.location import Location
from ..base.redaction import command_text
from ..base.store_errors import explained
from ..base.stores import open_shards, open_store
from ..ledger.block_result import BlockResult
from ..ledger.coarser_levels import COPIED, keep_level
from ..ledger.digests import StoredDigests
from ..ledger.earlier_output import EarlierOutput, known_digests
from ..ledger.identity import Job, check_job
from ..ledger.ledger import BlockState, Ledger, read_states, run_attributes, run_group, stored_job
from ..ledger.liveness import alive
from ..ledger.opening import open_output
from ..ledger.output_action import choose_output_action
from ..ledger.ownership import check_owner
from ..output.cells import CellDigest, written_block
from ..output.copied_cells import copied_cell
from ..output.guard import check_apart
from ..output.kinds import OUTPUT_KINDS, OutputKind
from ..output.pyramid import LevelJob, write_share
from ..volume.volume import VolumeSource, read_box
from .corrected import corrected, has_changes
from .documents import copy_documents
from .painted import Painted
from .segmented import Segmented

THREADS: Final = 4
_SHARES: Final = 16

OnBlock = Callable[[int, int], None]
"""Called after each block with the number of blocks that are done, and of all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What was written. Shards: of coarser levels."""

    output: Location
    painted: Painted
    blocks: int
    blocks_written: int
    shards: int
    shards_copied: int


def apply_corrections(
    segmented: Segmented, corrections: VolumeSource, target: Location, *, painted: Painted,
    overwrite: bool = False, on_block: OnBlock = lambda *_: None,
) -> Applied:  # fmt: skip
    """Write the output with its corrections to ``target``; one that is complete stays unchanged.

    painted: what is painted in the corrections. Raises OutputError for an output that is not
    complete, and where the target belongs to another job or is the corrections, LabelError where
    nothing is painted, RunError where a file of the output is damaged.
    """
    if segmented.attributes.get("pyramid") != "complete":
        raise OutputError(
            f"{segmented.output} is not complete: start its run again to resume, then apply"
        )
    if not painted.total:
        raise LabelError(f"nothing is painted in {corrections.location}: paint some voxels first")
    check_apart(target, corrections.store, name="corrections")
    job = Job({**segmented.job, "corrections": painted.digest})
    action = choose_output_action(
        target, source=segmented.output, share=None, overwrite=overwrite, finishing=False
    )
    if action == "resumed":
        check_job(target, job, stored_job(target))
    work = _Work(segmented=segmented, corrections=corrections, target=target)
    if action != "resumed" or run_attributes(target).get("pyramid") != "complete":
        ledger, token = open_output(
            target, job, action=action, grid=segmented.grid, version=segmented.job["format"],
            provenance=_provenance(segmented, corrections, painted),
        )  # fmt: skip
        with alive(target, token=token):
            replace(work, token=token).write(ledger, painted, on_block)
    written = run_attributes(target)
    copied, shards = written.get(COPIED) or (0, 0)
    return Applied(
        output=target, painted=painted, blocks=len(list(segmented.blocks())),
        blocks_written=written[WRITTEN], shards=shards, shards_copied=copied,
    )  # fmt: skip


WRITTEN: Final = "corrected_blocks"
"""Attribute of the run group: how many blocks were written, and not copied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """Writes the blocks and coarser levels of the target."""

    segmented: Segmented
    corrections: VolumeSource
    target: Location
    token: str = ""

    def write(self, ledger: Ledger, painted: Painted, on_block: OnBlock) -> None:
        """Write all, and record it. Raises RunError."""
        run = run_group(self.segmented.output)
        states = read_states(self.segmented.output, run)
        copy_documents(
            self.segmented.output, self.target, images=[kind.path for kind in self.kinds],
            version=self.segmented.job["format"],
        )  # fmt: skip
        skipped = states == BlockState.SKIPPED
        for index in painted.blocks:
            skipped[index] = False
        ledger.skip(skipped)
        ledger.note(**{"levels": [], COPIED: [0, 0]})  # a run that was killed may have left some
        earlier = EarlierOutput.find(self.segmented.output)
        indices = [index for index in self.segmented.blocks() if not skipped[index]]
        written = 0
        with ThreadPoolExecutor(THREADS, thread_name_prefix="corrections") as pool:
            block = partial(self._block, painted.blocks, earlier.digests)
            for done, (result, is_new) in enumerate(pool.map(block, indices), start=1):
                ledger.record_done([result])
                written += is_new
                on_block(done, len(indices))
            levels: Any = run.attrs.get("levels") or []
            for level in self._levels(levels, earlier.digests):
                level = earlier.with_copies(level, known_digests(self.target))
                shares = pool.map(partial(write_share, level, shares=_SHARES), range(_SHARES))
                keep_level(ledger, level, [cell for cells in shares for cell in cells])
        ledger.note(**{WRITTEN: written, "pyramid": "complete"})

    @property
    def kinds(self) -> list[OutputKind]:
        """The kinds of images that the output has."""
        return [OUTPUT_KINDS[name] for name in self.segmented.job["outputs"]]

    def _block(
        self, painted: Mapping[Shape, int], digests: Mapping[str, StoredDigests], index: Shape
    ) -> tuple[BlockResult, bool]:
        """Write a block; return its result, and whether a voxel has changed."""
        check_owner(self.target, self.token)
        cells, is_new = [], False
        for kind in self.kinds:
            cell = self._corrected(kind, index) if index in painted else None
            is_new |= cell is not None
            cells.append(cell or self._copied(kind, index, digests))
        voxels = self.segmented.core(index).voxels
        return BlockResult(
            index=index, voxels=voxels, bytes_read=0, bad_voxels=0, class_voxels=(), seconds={},
            digests=tuple(cells),
        ), is_new  # fmt: skip

    def _corrected(self, kind: OutputKind, index: Shape) -> CellDigest | None:
        """Write an array's voxels of a block with its corrections; None if none of them changes."""
        core, path = self.segmented.core(index), _level(kind, 0)
        source, target = _opened(self.segmented.output, path), self._shards(path)
        spatial = core.slices[kind.per_class + 3 - source.ndim :]
        place = (slice(None),) * kind.per_class + spatial
        with explained(VolumeError, self.segmented.output / path):
            stored = np.asarray(source[place])
        painted = read_box(self.corrections, core)[0].reshape(stored.shape[kind.per_class :])
        if not has_changes(stored, painted, per_class=kind.per_class):
            return None
        target[place] = corrected(stored, painted, per_class=kind.per_class)
        return written_block(
            target, path, core=core, block=self.segmented.block, channels=kind.per_class
        )

    def _copied(
        self, kind: OutputKind, index: Shape, digests: Mapping[str, StoredDigests]
    ) -> CellDigest:
        """Copy an array's files of a block. Raises RunError for files that are damaged."""
        path, array = _level(kind, 0), self._shards(_level(kind, 0))
        output, core = self.segmented.output, self.segmented.core(index)
        first = 3 - (array.ndim - kind.per_class)
        channels = array.shape[: int(kind.per_class)]
        box = Box((0,) * len(channels) + core.start[first:], channels + core.stop[first:])
        size = channels + self.segmented.block[first:]
        cell = copied_cell(array, path, box=box, size=size, source=output, source_path=path)
        known = digests.get(path)
        if known is not None and known.values[cell.index] not in (0, 1, cell.value):
            raise RunError(
                f"block {','.join(map(str, index))} of {output} is not as it was written: see "
                + command_text(["overtile", "verify", output.uri])
            )
        return cell

    def _shards(self, path: str) -> Any:
        return open_shards(self.target, path, token=self.token)

    def _levels(self, paths: list[str], digests: Mapping[str, StoredDigests]) -> Iterator[LevelJob]:
        """Yield the coarser levels of the target, each after the next finer one."""
        for kind in self.kinds:
            number = 1
            while (path := _level(kind, number)) in paths:
                finer, coarser = self._shards(_level(kind, number - 1)), self._shards(path)
                known = digests.get(path)
                pairs = zip(finer.shape, coarser.shape, strict=True)
                yield LevelJob(
                    output=self.target, run_token=self.token, finer_path=_level(kind, number - 1),
                    path=path, shape=coarser.shape,
                    factor=tuple(1 if n == m else 2 for n, m in pairs),
                    shard=tuple(known.size if known else coarser.shards or coarser.chunks),
                    chunk=coarser.chunks, reduction=kind.reduction,
                )  # fmt: skip
                number += 1


def _opened(output: Location, path: str) -> Any:
    with explained(VolumeError, output / path):
        return zarr.open_array(open_store(output), path=path, mode="r")


def _level(kind: OutputKind, number: int) -> str:
    return f"{kind.path}/{number}" if kind.path else str(number)


def _provenance(
    segmented: Segmented, corrections: VolumeSource, painted: Painted
) -> dict[str, Any]:
    """Return that of the output, with what was corrected. It has no secrets."""
    return {
        **(segmented.attributes.get("provenance") or {}),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "corrected": {
            "output": str(segmented.output),
            "corrections": str(corrections.store),
            "voxels": list(painted.voxels),
        },
    }
