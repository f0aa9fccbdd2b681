"""``segment_volume``: one run, top to bottom."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Unpack

from distributed import Client

from .base.errors import OutputError
from .base.local_client import local_client
from .base.location import Location
from .ledger.figures import Figures
from .models.protocol import Predictor
from .segmentation.prepare import prepare
from .segmentation.request import SegmentRequest, SegmentSettings
from .segmentation.run import SegmentRun
from .segmentation.sequence import Watch, complete


def segment_volume(
    input: str,  # noqa: A002
    output: str,
    predictor: Predictor,
    *,
    client: Client | None = None,
    watch: Watch | None = None,
    **settings: Unpack[SegmentSettings],
) -> Figures:
    """Segment a volume, Zarr in, Zarr out, and return its figures.

    input, output: local paths or URIs. predictor: see models/protocol.py. client: a Dask client; by
    default, threads of this process do the work. watch: takes the open run and may return a context
    manager for the time of the work, such as a progress bar. settings: fields of SegmentRequest.
    The output gets a report, ``run/report.html``. Raises kinds of OvertileError for what the user
    can fix, RunError for a run that did not complete.
    """
    request = SegmentRequest(
        input=Location.parse(input), output=Location.parse(output, kind=OutputError), **settings
    )
    with local_client() if client is None else nullcontext(client) as active:
        prepared = prepare(request, predictor)
        run = SegmentRun.start(prepared, active)
        return complete(run, watch=watch).figures
