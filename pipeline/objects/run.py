"""One run: labels blocks, merges them by a tree, names and numbers the objects, writes the labels.

Every stage is a task per block or group, in any order, on the workers. The driver holds counts,
and one entry per million objects. The ledger records the blocks whose labels are written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from distributed import Client, Future

from ..base.errors import OvertileError, RunDrainedError, RunError
from ..base.geometry import Shape
from ..base.live_run import LiveRun
from ..base.scheduling import drive, reason
from ..base.text import counted
from ..ledger.block_result import BlockResult
from ..ledger.coarser_levels import build_levels, level_jobs
from ..ledger.figures import Figures
from ..ledger.ledger import BlockState, Ledger
from ..ledger.messages import drained_text, resume_advice
from ..ledger.opening import open_output
from ..ledger.progress import Progress, RunStage, progress_of
from ..ledger.tally import Tally
from ..output.ome_write import create_images, list_label, require_folder
from .preparation.memory import check_memory, check_room
from .preparation.prepare import PreparedObjects
from .preparation.run_clock import RunClock
from .preparation.summary import ObjectsSummary
from .table.table import write_missing_csv
from .tasks.cluster_tasks import cluster_group, clusters_at, rename_block, touch_block
from .tasks.ids import IdIndex, LayerNames, dtype_of_ids
from .tasks.intermediates import file_name, missing
from .tasks.row_tasks import CARRIED, TABLES, sweep_axis, sweep_layer, write_table
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

Item = TypeVar("Item")


class ObjectsRun(LiveRun):
    """A run whose output exists and whose ledger is open. Create it with :meth:`start`."""

    def __init__(
        self, prepared: PreparedObjects, job: ObjectsJob, ledger: Ledger, client: Client
    ) -> None:
        super().__init__(client)
        self.prepared, self.job = prepared, job
        self.resumed_blocks = ledger.count(BlockState.DONE)
        self._ledger = ledger
        self._tally = Tally(earlier=Figures())
        self._clock = RunClock("label")
        self._done = 0

    @classmethod
    def start(cls, prepared: PreparedObjects, client: Client) -> ObjectsRun:
        """Check the cluster, then create the output or resume it.

        Raises kinds of OvertileError for what the user can fix.
        """
        check_memory(prepared, client)
        check_room(prepared)
        ledger, token = open_output(
            prepared.request.output, prepared.job, action=prepared.output_action,
            grid=prepared.plan.grid, version=prepared.request.format,
            provenance=prepared.provenance(workers=len(client.nthreads())),
        )  # fmt: skip
        job = ObjectsJob(
            scores=prepared.scores,
            output=prepared.request.output,
            run_token=token,
            plan=prepared.plan,
            method=prepared.method,
            kept=prepared.kept,
            path=prepared.image("uint32").level_path(0),
            axes=prepared.axes,
            intensity=prepared.intensity,
            fills_holes=prepared.request.fill_holes,
            reused=prepared.request.reused,
        )
        return cls(prepared, job, ledger, client)

    def complete(
        self, watch: Callable[[ObjectsRun], AbstractContextManager[Any] | None] | None = None
    ) -> int:
        """Do all that is left; return the number of objects.

        Raises kinds of OvertileError for what the user can fix, RunError if a block failed,
        RunDrainedError after :meth:`drain`.
        """
        try:
            with (watch(self) if watch else None) or nullcontext():
                if self._ledger.noted("pyramid") != "complete":
                    self._find_objects()
                if self.prepared.request.csv:
                    write_missing_csv(self.job.output / TABLES)
                if not self.prepared.request.keep_intermediates:
                    self.job.files.delete()  # also those of a run that was killed right here
                self._clock.enter("done")
        except BaseException:
            self._stop.set()
            raise
        return self.objects

    @property
    def objects(self) -> int:
        """The number of objects, once they are numbered."""
        return int(self._ledger.noted("objects") or 0)

    def summary(self) -> ObjectsSummary:
        """Return what is left of the run, once it is complete."""
        return ObjectsSummary(
            prepared=self.prepared,
            job=self.job,
            objects=self.objects,
            blocks_done_before=self.resumed_blocks,
            stage_seconds=self._clock.seconds,
            provenance=self._ledger.noted_of_output("provenance"),
        )

    def _find_objects(self) -> None:
        if self._ledger.noted("table") != "complete":
            self._label_and_merge()
            self._write(self._numbered())
            self._write_table()
        self._build_pyramid()

    def _label_and_merge(self) -> None:
        job = self.job
        blocks = [block.index for block in job.plan.blocks()]
        self._each("label", partial(label, job), blocks, files=GRAPHS)
        self._merge(job)
        if job.method.agglomerate != "none":
            self._agglomerate(job, blocks)
        if job.fills_holes:
            holes = job.of_background
            call = partial(label_background, job)
            self._each("merge", call, blocks, files=GRAPHS, of=holes)
            self._merge(holes)

    def _merge(self, job: ObjectsJob) -> None:
        """Merge the fragments of all blocks by the tree, then name them from its top."""
        tree = job.tree
        for level in range(1, tree.depth + 1):
            call = partial(merge_group, job, level)
            self._each("merge", call, tree.groups(level), files=groups_at(level), of=job)
        for level in range(tree.depth - 1, -1, -1):
            call = partial(name_group, job, level)
            self._each("merge", call, tree.groups(level), files=names_at(level), of=job)

    def _agglomerate(self, job: ObjectsJob, blocks: Sequence[Shape]) -> None:
        """Merge objects that touch at low scores."""
        tree = job.tree
        self._each("merge", partial(touch_block, job), blocks, files=clusters_at(0))
        for level in range(1, tree.depth + 1):
            call = partial(cluster_group, job, level)
            self._each("merge", call, tree.groups(level), files=clusters_at(level))
        self._each("merge", partial(rename_block, job), blocks, files=CLUSTERED)

    def _numbered(self) -> IdIndex:
        number = partial(number_layer, self.job)
        every = range(self.job.plan.grid[0])
        found = self._results("merge", number, every, key="objects-numbers")
        layers: list[LayerNames] = sorted(found, key=lambda layer: layer.layer)
        self._ledger.note(objects=sum(layer.count for layer in layers))
        return IdIndex.of(layers)

    def _write(self, ids: IdIndex) -> None:
        request = self.prepared.request
        image = self.prepared.image(dtype_of_ids(self.objects))
        create_images(request.output, (image,), version=request.format)
        if request.is_inside:
            list_label(request.scores, image.name, version=request.format)
        has_rows = self.job.files.names(ROWS)
        left = [
            block.index
            for block in self.job.plan.blocks()
            if self._ledger.is_left(block.index) or file_name(block.index) not in has_rows
        ]
        write = partial(write_block, self.job, ids)
        for result in self._results("write", write, left, key="objects-write"):
            self._ledger.record([result.index], BlockState.DONE)
        self._ledger.check()

    def _write_table(self) -> None:
        job = self.job
        swept = job.files.names(CARRIED)
        for layer in range(job.plan.grid[sweep_axis(job.plan.grid)]):
            if str(layer) not in swept:
                self._once("objects-sweep", partial(sweep_layer, job), layer)
        spec, with_csv = self.prepared.table_spec, self.prepared.request.csv
        require_folder(job.output, TABLES, version=self.prepared.request.format)
        write = partial(write_table, job, spec)
        self._once("objects-table", write, with_csv)
        self._ledger.note(table="complete")

    def _once(self, key: str, call: Callable[[Item], Any], argument: Item) -> None:
        for _ in self._results("table", call, [argument], key=key):
            pass

    def _build_pyramid(self) -> None:
        self._clock.enter("pyramid")
        image = self.prepared.image(dtype_of_ids(self.objects))
        levels = level_jobs((image,), self.job.output, self.job.run_token)
        if not build_levels(
            levels, self._ledger, self._client,
            is_drained=lambda: self._limit.is_drained, stop=self._stop,
        ):  # fmt: skip
            raise RunDrainedError(f"drained: the coarser levels are not all built; {self._advice}")

    def _each(
        self, stage: RunStage, call: Callable[[Shape], Any], items: Iterable[Shape], *,
        files: str, of: ObjectsJob | None = None,
    ) -> None:  # fmt: skip
        """Do what has no file yet; files: the stage whose files the tasks write last."""
        job = of or self.job
        done = job.files.names(files)
        key = f"objects-{job.folder}{files}"
        for _ in self._results(stage, call, missing(items, done), key=key):
            pass

    def _results(
        self, stage: RunStage, call: Callable[[Item], Any], items: Iterable[Item], *, key: str
    ) -> Iterator[Any]:
        """Yield the results of a stage's tasks; raise once all others are done if one failed."""
        if stage != self._clock.stage:  # a stage has its own speed
            self._tally = Tally(earlier=Figures())
        self._clock.enter(stage)
        self._done = 0
        failed: list[str] = []

        def submit(some: list[Item]) -> list[Future]:
            futures: list[Future] = self._client.map(
                call, some, key=[(f"{key}-{self.job.run_token}", str(one)) for one in some],
                retries=self.prepared.request.retries, pure=False,
            )  # fmt: skip
            return futures

        # In no variable: an error's traceback would keep it, and its tasks in flight, alive until
        # the garbage collector closes it in any thread, which can wait for itself.
        for outcomes in drive(
            self._client, iter(items), submit, limit=self._limit, stop=self._stop
        ):
            self._limit.ended(len(outcomes))
            for outcome in outcomes:
                if isinstance(outcome.error, OvertileError):
                    raise outcome.error
                if outcome.error is not None:
                    failed.append(f"{outcome.item}: {reason(outcome)}")
                    continue
                self._done += 1
                if isinstance(outcome.result, BlockResult):
                    self._tally.add([outcome.result], [])
                yield outcome.result
        is_whole = not self._limit.is_drained and not self._stop.is_set()
        if failed:
            raise RunError(f"{counted(len(failed), 'block')} failed ({failed[0]}); {self._advice}")
        if not is_whole:
            raise RunDrainedError(f"{drained_text(self._done, self.blocks)}; {self._advice}")

    def progress(self) -> Progress:
        """Return how far the current stage is, with the figures of this run."""
        written = progress_of(self._ledger.states, figures=self._tally.session)
        done = written.done if self._clock.stage not in ("label", "merge") else self._done
        return replace(
            written,
            stage=self._clock.stage,
            done=min(done, written.blocks),
            workers=self._workers(),
        )

    @property
    def blocks(self) -> int:
        """Number of blocks, completed ones included."""
        return len(self.prepared.plan)

    @property
    def _advice(self) -> str:
        return resume_advice(overwrite=self.prepared.request.overwrite)
