"""The report of a run: a verdict, pictures of three planes, charts, figures, what to do next.

It reads a bounded number of bytes, however large the volume is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np

from ..base.errors import OvertileError, RunError
from ..base.stores import open_store, wait_for
from ..base.text import counted, duration_text, shape_text, voxel_rate_text
from ..ledger.kept_scores import read_scores
from ..ledger.ledger import BlockState
from ..ledger.ownership import check_owner
from ..output.guard import RUN_GROUP, write_beside_ledger
from ..output.kinds import OBJECTS_PATH
from ..output.viewing import view_commands
from ..report.block_map import STATES, block_map
from ..report.charts import Chart
from ..report.extras import NO_EXTRAS, ReportExtras
from ..report.pictures import channel_colours, class_colour
from ..report.plane_pictures import PlaneLayers
from ..report.planes import PlaneName
from ..report.report import (
    REPORT_FILE,
    Command,
    LegendEntry,
    Link,
    Plane,
    Report,
    Row,
    Table,
    table_of,
    to_html,
)
from ..report.run_figures import seam_table
from ..report.seams import SeamStatistics
from ..report.sureness import (
    FAIR,
    SURE,
    ScoreCounts,
    channel_scores_chart,
    class_scores_chart,
    percent,
    sureness_chart,
)
from ..report.throughput_chart import throughput_chart
from ..volume.micrometres import voxel_size_um
from ..volume.size_text import size_origin, size_with_origin
from .report_layers import plane_layers
from .report_planes import plane, plane_names, seams_of
from .report_scores import count_scores
from .report_tables import (
    class_shares,
    class_table,
    job_table,
    outputs_of_run,
    report_path,
    run_figures,
    share_table,
)
from .report_verdict import verdict_of
from .summary import RunSummary
from .trained_scale import has_other_scale

SIDE = 640
_OF_OBJECTS = "Report of the objects: what counts as one, the largest and the smallest"


def run_report(
    run: RunSummary, *, side: int = SIDE, extras: ReportExtras = NO_EXTRAS, all_planes: bool = True
) -> Report:
    """Return the report of a run; a share's report has no pictures.

    side: width and height of the pictures in pixels, at most. all_planes: XZ and YZ too.
    """
    seen = _Seen(run, side=side, with_objects=extras.objects is not None, all_planes=all_planes)
    warnings = [run.error] if run.error else []
    warnings += seen.problems
    if bad := run.figures.bad_voxels:
        warnings.append(f"{bad:,} voxels of the input are NaN or infinite: read as 0")
    progress, request, figures = run.progress, run.prepared.request, run_figures(run)
    seams = [seam_table(one, plane=name) for name, one in seen.seams.items()]
    share = request.share
    return Report(
        title=f"overtile: {request.output.name}",
        verdict=verdict_of(
            progress, error=run.error, share=None if share is None else str(share),
            seams=tuple(seen.seams.values()), classes=class_shares(run),
            objects=None if extras.objects is None else extras.objects.count,
            undecided=None if seen.sureness is None else seen.sureness.share(0, FAIR),
            has_other_scale=has_other_scale(run.prepared.predictor, run.prepared.source),
        ),
        summary=f"{request.input} → {request.output}: "
        f"{progress.done:,} of {progress.computed:,} blocks done",
        key_figures=tuple(_key_figures(run, seen.sureness, extras)),
        warnings=(*warnings, *run.prepared.notes),
        legend=tuple(_legend(run, extras)),
        planes=seen.planes,
        scores=() if share else read_scores(run.job.output),
        pictures=() if extras.objects is None else extras.objects.pictures,
        charts=tuple(_charts(run, seen)),
        tables=(*class_table(run), *_tables(extras)),
        commands=(*_look(run), *extras.commands),
        folded=(
            *figures.tables(), *share_table(run), *seams, job_table(run),
            table_of("Versions", run.provenance["versions"]),
        ),
        links=_links(run),
    )  # fmt: skip


class _Seen:
    """What a report reads of input and output; a part that cannot be read is a problem."""

    def __init__(self, run: RunSummary, *, side: int, with_objects: bool, all_planes: bool) -> None:
        self.planes: tuple[Plane, ...] = ()
        self.seams: dict[PlaneName, SeamStatistics] = {}
        self.scores: tuple[ScoreCounts, bool] | None = None
        self.problems: list[str] = []
        self._has_classes = outputs_of_run(run).has_classes
        if run.prepared.request.share:
            return
        with self._tried("no picture"):
            layers = plane_layers(run, with_objects=with_objects)
            for name in plane_names(run)[: None if all_planes else 1]:
                with self._tried(f"no picture of the plane {name}"):
                    shown = plane(run, layers, name, side=side)
                    self.planes += () if shown is None else (shown,)
                    if shown is None:
                        self.problems.append(
                            f"no picture of the plane {name}: it would read too much of the input, "
                            "whose chunks are large; overtile convert writes smaller ones"
                        )
            self._check(run, layers)

    @property
    def sureness(self) -> ScoreCounts | None:
        """The scores, where they show how sure the network was: where each voxel has one class."""
        return self.scores[0] if self.scores is not None and self._has_classes else None

    @contextmanager
    def _tried(self, what: str) -> Iterator[None]:
        """Note an error: the one that ended the run may have damaged the output too."""
        try:
            yield
        except Exception as unreadable:
            why = " ".join(str(unreadable).split())
            self.problems.append(f"{what}: the middle of the volume cannot be read ({why})")

    def _check(self, run: RunSummary, layers: PlaneLayers) -> None:
        if layers.scores is not None:
            within = run.prepared.plan.computed
            self.scores = count_scores(layers.scores.levels[0], within=within)
        if not run.progress.skipped and not run.progress.left:  # else borders look like seams
            self.seams = seams_of(run, layers)


def write_report(run: RunSummary, extras: ReportExtras = NO_EXTRAS) -> None:
    """Write the report as HTML beside the ledger of the output.

    Raises OutputError or RunError where it cannot be written or another run has taken the output
    over; not for a run that failed, since its error states this already.
    """
    page = to_html(run_report(run, extras=extras)).encode()
    try:
        check_owner(run.job.output, run.job.run_token)
        name = report_path(run).removeprefix(f"{RUN_GROUP}/")
        write_beside_ledger(run.job.output, name, page)
    except (OvertileError, RunError):
        if run.error is None:
            raise


def _links(run: RunSummary) -> tuple[Link, ...]:
    """Return a link to the report of the objects, once they have been found."""
    page = f"{OBJECTS_PATH}/{RUN_GROUP}/{REPORT_FILE}"
    has_page = False
    with suppress(Exception):  # a store that does not answer may be why the run has ended
        store = open_store(run.job.output)
        has_page = not run.prepared.request.share and wait_for(store.exists(page), timeout_s=None)
    return (Link(text=_OF_OBJECTS, address=f"../{page}"),) if has_page else ()


def _look(run: RunSummary) -> Iterator[Command]:
    """Yield the commands that open the result."""
    if run.prepared.request.share:
        return
    for one in view_commands(run.job.output):
        yield Command(text=f"Look at the result ({one.viewer}):", command=one.command)


def _key_figures(
    run: RunSummary, scores: ScoreCounts | None, extras: ReportExtras
) -> Iterator[Row]:
    """Yield the figures that a person looks for first."""
    plan, sizes = run.prepared.plan, voxel_size_um(run.prepared.source)
    extent = ""
    if None not in sizes:
        lengths = (n * (size or 0) for n, size in zip(plan.shape, sizes, strict=True))
        extent = f" ({' × '.join(f'{length:.3g}' for length in lengths)} µm)"
    yield "volume (z, y, x)", f"{shape_text(plan.shape)} voxels{extent}"
    if size_origin(run.prepared.source) == "option":
        yield "voxel size", size_with_origin(run.prepared.source)
    if extras.objects is not None:
        yield "objects", f"{extras.objects.count:,}"
    if scores is not None:
        yield "the network was sure in", f"{percent(scores.share(SURE))} of the voxels"
    figures = run_figures(run)
    yield "time", f"{duration_text(figures.seconds)}, {voxel_rate_text(figures.voxels_per_s)}"
    if run.progress.skipped:
        yield "skipped", counted(run.progress.skipped, "block")


def _legend(run: RunSummary, extras: ReportExtras) -> Iterator[LegendEntry]:
    names = run.prepared.predictor.class_names
    shares = dict(enumerate(share for _, share in class_shares(run)))
    if outputs_of_run(run).has_classes:
        for number, name in enumerate(names):
            text = percent(shares[number]) if number in shares else ""
            yield LegendEntry(name=name, colour=class_colour(number), text=text)
    else:
        for name, colour in zip(names, channel_colours(len(names)), strict=False):
            yield LegendEntry(name=name, colour=colour, is_class=False)
    if extras.objects is not None:
        count = counted(extras.objects.count, "object")
        yield LegendEntry(name=f"{count}, each in its own colour", colour=None, is_class=False)
    if run.progress.left:
        yield LegendEntry(name="not computed", colour=(0, 0, 0), is_class=False)


def _tables(extras: ReportExtras) -> Iterator[Table]:
    if extras.objects is not None:
        yield extras.objects.table
    if extras.scores is not None:
        yield extras.scores


def _charts(run: RunSummary, seen: _Seen) -> Iterator[Chart]:
    if seen.scores is not None:
        counts, is_sample = seen.scores
        names = run.prepared.predictor.class_names
        if seen.sureness is not None:
            yield sureness_chart(counts, classes=len(names), is_sample=is_sample)
            yield class_scores_chart(counts, names, is_sample=is_sample)
        else:
            yield channel_scores_chart(counts, names, is_sample=is_sample)
    progress = run.progress
    if not run.prepared.request.share and (progress.skipped or progress.left):
        yield _map(run)
    speed = throughput_chart(
        run.throughput.voxels, interval_s=run.throughput.interval_s,
        seconds=progress.figures.seconds if progress.figures.blocks else run.figures.seconds,
    )  # fmt: skip
    if speed is not None:
        yield speed


def _map(run: RunSummary) -> Chart:
    names = [name for name, _ in STATES]
    ranks = np.full(run.states.shape, names.index("done"), np.uint8)
    kinds = {
        BlockState.SKIPPED: "skipped", BlockState.MISSING: "missing",
        BlockState.LABELLED: "missing", BlockState.SET_ASIDE: "aside",
    }  # fmt: skip
    for state, name in kinds.items():
        ranks[run.states == state] = names.index(name)
    counts = {name: int((ranks == number).sum()) for number, name in enumerate(names)}
    source, core = run.prepared.source, run.prepared.plan.core
    spacing = [n * size for n, size in zip(core, source.voxel_size, strict=True)]
    return block_map(ranks, counts=counts, spacing=spacing)
