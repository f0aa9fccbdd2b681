"""One run on a cluster, the same for the shell and for the Prefect flow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from deploy import ClusterSpec, open_cluster
from pipeline.segmentation.prepare import Prepared
from pipeline.segmentation.run import SegmentRun
from pipeline.segmentation.sequence import Steps, Watch, complete
from pipeline.segmentation.summary import RunSummary

from ..preflight.checks import check_before_start


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontEnd:
    """Where a run shows its messages, its progress and its result."""

    say: Callable[[str], None]
    warn: Callable[[str], None]
    checked: Callable[[Prepared, str], None]
    """Called after the preflight checks, with the address of the Dask dashboard."""
    watch: Watch
    steps: Steps


def segment_on_cluster(
    prepared: Prepared, *, weights: str, spec: ClusterSpec, front_end: FrontEnd
) -> RunSummary:
    """Open the cluster, check it, then do the run. Raises kinds of OvertileError, RunError."""
    with open_cluster(spec, notify=front_end.say) as client:
        check_before_start(client, prepared, weights=weights, notify=front_end.warn)
        front_end.checked(prepared, client.dashboard_link)
        run = SegmentRun.start(prepared, client, notify=front_end.say)
        return complete(run, steps=front_end.steps, watch=front_end.watch)
