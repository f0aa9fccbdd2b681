"""One run: labels blocks, merges them by a tree, names and numbers the objects, writes the labels.

Every stage is a task per block or group, in any order, on the workers. The driver holds counts,
and one entry per million objects. The ledger records the blocks that are labelled, and those whose
final labels are written. Shares label and write blocks of their own, and one run without a share
does all that lies between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from distributed import Client

from ..base.errors import RunDrainedError
from ..ledger.coarser_levels import COPIED, build_levels, level_jobs
from ..ledger.earlier_output import EarlierOutput
from ..ledger.ledger import BlockState, Ledger
from ..ledger.liveness import alive
from ..ledger.opening import discard_output, open_output
from ..ledger.ownership import ENDED
from ..ledger.progress import Progress, progress_of, read_progress
from ..ledger.shares import end_shares
from ..output.into_input import image_of_labels
from ..output.ome_write import create_images, list_label, require_folder
from .definition.scores import NotScoresError
from .preparation.memory import check_memory, check_room
from .preparation.prepared import PreparedObjects
from .preparation.shares import check_labelled, own_share
from .preparation.summary import ObjectsSummary
from .table.table import TABLES, write_missing_csv
from .task_run import TaskRun
from .tasks.cluster_tasks import cluster_group, clusters_at, rename_block, touch_block
from .tasks.ids import IdIndex, LayerNames, dtype_of_ids
from .tasks.intermediates import file_name
from .tasks.row_tasks import SWEPT, sweep_axis, sweep_layer, write_table
from .tasks.tasks import (
    CLUSTERED,
    GRAPHS,
    ROWS,
    ObjectsJob,
    groups_at,
    label,
    merge_group,
    name_group,
    names_at,
    number_layer,
)
from .tasks.write_tasks import label_background, write_block

TAKEN_OVER = "blocks_taken_over"
"""Attribute of the run group: how many blocks have the fragments of the output of ``since``."""
KEPT = "keeps_intermediates"
"""Attribute of the run group: a complete run was asked to keep its intermediate results."""


def job_for(prepared: PreparedObjects, *, run_token: str) -> ObjectsJob:
    """Return what the workers need for the tasks of a run."""
    return ObjectsJob(
        scores=prepared.scores,
        output=prepared.request.output,
        run_token=run_token,
        plan=prepared.plan,
        method=prepared.method,
        kept=prepared.kept,
        path=prepared.image("uint32").level_path(0),
        axes=prepared.axes,
        intensity=prepared.intensity,
        fills_holes=prepared.request.fill_holes,
        reused=prepared.request.reused,
        since=prepared.request.earlier,
    )


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of a run, by name: label, merge, agglomerate, fill-holes, number, write, …"""

    name: str
    _call: Callable[[], None]

    def do(self) -> None:
        """Do all of it that is left. Raises as :meth:`ObjectsRun.complete` does."""
        self._call()


class ObjectsRun(TaskRun):
    """A run whose output exists and whose ledger is open. Create it with :meth:`start`."""

    def __init__(
        self, prepared: PreparedObjects, job: ObjectsJob, ledger: Ledger, client: Client
    ) -> None:
        super().__init__(prepared, job, client)
        self.resumed_blocks = ledger.count(BlockState.DONE)
        self._ledger = ledger

    @classmethod
    def start(cls, prepared: PreparedObjects, client: Client) -> ObjectsRun:
        """Check the cluster, then create the output or resume it.

        Raises kinds of OvertileError for what the user can fix, RunError where shares have not
        labelled all of their blocks.
        """
        check_memory(prepared, client)
        check_room(prepared)
        check_labelled(prepared)
        request = prepared.request
        ledger, token = open_output(
            request.output, prepared.job, action=prepared.output_action,
            grid=prepared.plan.grid, version=request.format,
            provenance=prepared.provenance(workers=len(client.nthreads())),
            own=own_share(prepared),
        )  # fmt: skip
        if prepared.ends_shares:
            end_shares(request.output, owner=token)
            ledger = Ledger.open(request.output, prepared.job, owner=token)
        return cls(prepared, job_for(prepared, run_token=token), ledger, client)

    def complete(
        self,
        watch: Callable[[ObjectsRun], AbstractContextManager[Any] | None] | None = None,
        *,
        do: Callable[[Stage], Any] = Stage.do,
    ) -> int:
        """Do all that is left; return the number of objects, 0 until they are numbered.

        do: executes a stage. Raises kinds of OvertileError for what the user can fix, RunError if a
        block failed, RunDrainedError after :meth:`drain`.
        """
        try:
            with (
                alive(self.job.output, token=self.job.run_token),
                (watch(self) if watch else None) or nullcontext(),
            ):
                for stage in self._stages():
                    do(stage)
                if not self.prepared.is_partial:
                    self._tidy()
                self._clock.enter("done")
        except NotScoresError as error:
            self._stop.set()
            raise self._discarded(error) from None
        except BaseException:
            self._stop.set()
            raise
        return self.objects

    def _discarded(self, error: NotScoresError) -> NotScoresError:
        """Delete the output if this run has created it; return the error that says so.

        Scores must be corrected first: objects of the blocks before would be those of others.
        """
        request = self.prepared.request
        if request.share or self.prepared.output_action == "resumed":
            return error
        discard_output(request.output, owner=self.job.run_token)
        return NotScoresError(f"{error}; the unfinished {request.output} is deleted")

    @property
    def objects(self) -> int:
        """The number of objects, once they are numbered."""
        return int(self._ledger.noted("objects") or 0)

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to do, for any run."""
        return self._ledger.noted_of_output("pyramid") == "complete"

    @property
    def unwritten(self) -> tuple[int, ...]:
        """Blocks whose labels are not written, per share; one number without shares."""
        return tuple(share.left for share in read_progress(self.job.output))

    @property
    def has_ended(self) -> bool:
        """Whether a run of the whole has taken over the blocks of all shares, this one's too."""
        return bool(self.prepared.request.share and self._ledger.noted_of_output(ENDED))

    def summary(self) -> ObjectsSummary:
        """Return what is left of the run, once it is complete."""
        return ObjectsSummary(
            prepared=self.prepared,
            job=self.job,
            objects=self.objects,
            blocks_done_before=self.resumed_blocks,
            stage_seconds=self._clock.seconds,
            taken_over=self._ledger.noted(TAKEN_OVER),
            copied_shards=self._ledger.noted(COPIED),
            provenance=self._ledger.noted_of_output("provenance"),
        )

    def _stages(self) -> Iterator[Stage]:
        """Yield what is left to do, in order: each depends on what the ones before it have done."""
        if self.prepared.request.share:
            yield from self._stages_of_share()
            return
        if self._ledger.noted("pyramid") == "complete":
            return
        if self._ledger.noted("table") != "complete":
            if IdIndex.stored(self.job.files) is None:
                yield from self._stages_until_numbered()
            if self.prepared.request.merge_only:
                return
            yield Stage("write", self._write)
            yield Stage("table", self._write_table)
        yield Stage("pyramid", self._build_pyramid)

    def _stages_of_share(self) -> Iterator[Stage]:
        if self.has_ended:
            return
        if IdIndex.stored(self.job.files) is None:
            yield Stage("label", self._label)
        else:
            yield Stage("write", self._write)

    def _stages_until_numbered(self) -> Iterator[Stage]:
        yield Stage("label", self._label)  # of shares: checks that all is labelled
        yield Stage("merge", partial(self._merge, self.job))
        if self.job.method.agglomerate != "none":
            yield Stage("agglomerate", self._agglomerate)
        if self.job.fills_holes:
            yield Stage("fill-holes", self._fill_holes)
        yield Stage("number", self._number)

    def _label(self) -> None:
        """Find the fragments of the blocks that have none yet."""
        done = self.job.files.names(GRAPHS)
        self._ledger.record_labelled(i for i in self.indices() if file_name(i) in done)
        call, taken = partial(label, self.job), int(self._ledger.noted(TAKEN_OVER) or 0)
        for result in self.do_missing("label", call, self.indices(), files=GRAPHS):
            self._ledger.record_labelled([result.index])
            taken += result.is_copied
        if self.job.since is not None:
            self._ledger.note(**{TAKEN_OVER: taken})

    def _merge(self, job: ObjectsJob) -> None:
        """Merge the fragments of all blocks by the tree, then name them from its top."""
        tree = job.tree
        for level in range(1, tree.depth + 1):
            call = partial(merge_group, job, level)
            self.do_all_missing("merge", call, tree.groups(level), files=groups_at(level), of=job)
        for level in range(tree.depth - 1, -1, -1):
            call = partial(name_group, job, level)
            self.do_all_missing("merge", call, tree.groups(level), files=names_at(level), of=job)

    def _agglomerate(self) -> None:
        """Merge objects that touch at low scores."""
        job, tree = self.job, self.job.tree
        touch, rename = partial(touch_block, job), partial(rename_block, job)
        self.do_all_missing("merge", touch, self.indices(), files=clusters_at(0))
        for level in range(1, tree.depth + 1):
            call = partial(cluster_group, job, level)
            self.do_all_missing("merge", call, tree.groups(level), files=clusters_at(level))
        self.do_all_missing("merge", rename, self.indices(), files=CLUSTERED)

    def _fill_holes(self) -> None:
        """Label the background, merge and name it."""
        holes, call = self.job.of_background, partial(label_background, self.job)
        self.do_all_missing("merge", call, self.indices(), files=GRAPHS, of=holes)
        self._merge(holes)

    def _number(self) -> None:
        """Number the objects, and create the arrays of their labels."""
        number = partial(number_layer, self.job)
        every = range(self.job.plan.grid[0])
        found = self.results("merge", number, every, key="objects-numbers")
        layers: list[LayerNames] = sorted(found, key=lambda layer: layer.layer)
        ids = IdIndex.of(layers)
        self._ledger.note(objects=ids.count)
        self._create_labels(ids)
        ids.store(self.job.files)  # last: it states that all is there

    def _create_labels(self, ids: IdIndex) -> None:
        request = self.prepared.request
        image = self.prepared.image(ids.dtype, objects=ids.count)
        create_images(request.output, (image,), version=request.format)
        if request.is_inside:
            image_of = image_of_labels(request.output) or request.scores
            list_label(image_of, request.output.name, version=request.format)

    def _write(self) -> None:
        """Write the labels of the blocks that are left, and the rows of their objects."""
        ids = IdIndex.stored(self.job.files)
        assert ids is not None
        has_rows = self.job.files.names(ROWS)
        left = [
            index
            for index in self.indices()
            if self._ledger.is_left(index) or file_name(index) not in has_rows
        ]
        write = partial(write_block, self.job, ids)
        for result in self.results("write", write, left, key="objects-write"):
            self._ledger.record_done([result])
        self._ledger.check()

    def _write_table(self) -> None:
        job = self.job
        swept = job.files.names(SWEPT)
        for layer in range(job.plan.grid[sweep_axis(job.plan.grid)]):
            if str(layer) not in swept:
                self._once("objects-sweep", partial(sweep_layer, job), layer)
        spec, with_csv = self.prepared.table_spec, self.prepared.request.csv
        require_folder(job.output, TABLES, version=self.prepared.request.format)
        write = partial(write_table, job, spec)
        self._once("objects-table", write, with_csv)
        self._ledger.note(table="complete")

    def _once(self, key: str, call: Callable[[Any], Any], argument: Any) -> None:
        for _ in self.results("table", call, [argument], key=key):
            pass

    def _build_pyramid(self) -> None:
        self._clock.enter("pyramid")
        image = self.prepared.image(dtype_of_ids(self.objects))
        levels = level_jobs((image,), self.job.output, self.job.run_token)
        if not build_levels(
            levels, self._ledger, self._client,
            is_drained=lambda: self._limit.is_drained, stop=self._stop,
            earlier=None if self.job.since is None else EarlierOutput.find(self.job.since),
        ):  # fmt: skip
            raise RunDrainedError(f"drained: the coarser levels are not all built; {self.advice}")

    def _tidy(self) -> None:
        """Write a CSV that was requested later; delete intermediates unless they are to be kept."""
        if self.prepared.request.csv:
            write_missing_csv(self.job.output / TABLES)
        if self.prepared.request.keep_intermediates:
            self._ledger.note(**{KEPT: True})
        elif not self._ledger.noted(KEPT):
            self.job.files.delete()  # also those of a run that was killed right here

    def progress(self) -> Progress:
        """Return how far the current stage is, with the figures of this run."""
        counted = progress_of(self._ledger.states, figures=self._tally.session, blocks=self.blocks)
        done = counted.done
        if self._clock.stage == "label":
            done += counted.labelled
        elif self._clock.stage == "merge":
            done = min(self._done, counted.blocks)
        return replace(counted, stage=self._clock.stage, done=done, workers=self._workers())
