"""The start of a run: checks against the cluster, then creates or resumes the output.

Nothing is written before all checks have passed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from distributed import Client

from ..base.errors import ClusterError, OutputError, PlanError, RunError, VolumeError
from ..base.location import Location
from ..base.scheduling import run_all, workers_of
from ..base.stores import open_group
from ..base.text import size_text
from ..base.versions import VERSION
from ..ledger.creation import CREATED, create_once, make_root
from ..ledger.identity import Job, check_digest
from ..ledger.ledger import Ledger, begin_run_group, make_states, run_attributes
from ..ledger.ownership import SHARDS, new_token
from ..ledger.shares import check_kind
from ..models.protocol import Predictor
from ..output.guard import RUN_GROUP, delete_output
from ..output.ome_write import create_image, create_root
from ..volume.intensity import Intensity
from ..volume.measure_intensity import measure_intensity
from ..volume.volume import VolumeSource, open_volume
from .block import BlockJob
from .prepare import Prepared, with_settled
from .provenance import provenance


def start_run(
    prepared: Prepared, client: Client, *, tell: Callable[[str], None] = lambda text: None
) -> tuple[Prepared, BlockJob, Ledger]:
    """Return the run with all settings decided, the job for its workers, and its open ledger.

    tell: takes a line for the user, when this run waits for another one. Raises kinds of
    OvertileError for what the user can fix.
    """
    request = prepared.request
    token = new_token(request.share.number if request.share else None)
    _check_reach(prepared, client)
    settled = _settle(prepared, client, token)
    prepared = with_settled(prepared, settled)
    _check_memory(prepared, client)
    job = prepared.job(settled)
    if request.share and prepared.output_action == "created":
        _create_shared(prepared, job, client, token, tell)
    if request.share or prepared.output_action == "resumed":
        ledger = Ledger.resume(request.output, job, owner=token)
        intensity = Intensity.from_json(ledger.noted_of_output("intensity"))
    else:
        intensity = _measure(prepared, client, token)
        if prepared.output_action == "replaced":
            delete_output(request.output)
        ledger = _create(prepared, job, intensity, client, token)
    block_job = BlockJob(
        source=prepared.source,
        output=request.output,
        run_token=token,
        plan=prepared.plan,
        predictor=settled,
        intensity=intensity,
        outputs=prepared.outputs,
    )
    return prepared, block_job, ledger


def _check_reach(prepared: Prepared, client: Client) -> None:
    """Raise if there are no workers, or if they cannot see a ``memory://`` store."""
    addresses = list(workers_of(client))
    if not addresses:
        raise ClusterError("the cluster has no workers: start workers, then run again")
    locations = (prepared.source.store, prepared.request.output)
    if any(location.scheme == "memory" for location in locations) and not all(
        address.startswith("inproc://") for address in addresses
    ):
        raise VolumeError(
            "memory:// exists in one process, and the workers are other processes: use a store "
            "that they can reach, or a client with processes=False"
        )


def _check_memory(prepared: Prepared, client: Client) -> None:
    """Raise if a worker's memory cannot hold a tile, and a block for each of its threads."""
    budget = prepared.budget
    for worker in workers_of(client).values():
        need = budget.tile_memory_bytes + worker["nthreads"] * budget.block_memory_bytes
        has = worker.get("memory_limit") or need
        if need <= has:
            continue
        raise PlanError(
            f"a worker needs {size_text(need)} of memory and has {size_text(has)}: "
            "use fewer workers, smaller blocks (--block), or smaller tiles (--tile-memory)"
        )


def _settle(prepared: Prepared, client: Client, token: str) -> Predictor:
    """Settle the predictor on a worker; this also checks that it has the code and the files."""
    calls = [(_settled_on_worker, (prepared.predictor, prepared.source))]
    try:
        settled: Predictor = run_all(
            client, calls, key="settle-predictor", token=token, stop=threading.Event(), retries=0
        )[0]
    except RunError as error:
        raise ClusterError(
            f"a worker cannot start ({error}): every worker needs overtile's packages, the "
            "weights and the input"
        ) from error
    return settled


def _settled_on_worker(predictor: Predictor, source: VolumeSource) -> Predictor:
    open_volume(source)
    return predictor.settled()


def _measure(prepared: Prepared, client: Client, token: str) -> Intensity:
    source = prepared.source
    if "level" in prepared.record:
        source = prepared.request.find_source(level=prepared.record["level"])
    return measure_intensity(source, prepared.record, client, token=token)


def _create(
    prepared: Prepared, job: Job, intensity: Intensity, client: Client, token: str
) -> Ledger:
    """Create the output; the ledger first, so that an interrupted creation can be recognised."""
    request = prepared.request
    try:
        create_root(request.output, version=request.format)
        ledger = Ledger.create(
            request.output, job, grid=prepared.plan.grid, version=VERSION, owner=token
        )
        ledger.note(
            intensity=intensity.to_json(),
            provenance=provenance(prepared, workers=len(client.nthreads())),
        )
        for image in prepared.images:
            create_image(request.output, image, version=request.format)
        ledger.note(**{CREATED: True})
    except OSError as error:
        raise _unwritable(request.output, error) from error
    return ledger


def _unwritable(output: Location, error: OSError) -> OutputError:
    return OutputError(
        f"{output} cannot be written ({error.strerror or error}): choose another output"
    )


def _create_shared(
    prepared: Prepared, job: Job, client: Client, token: str, tell: Callable[[str], None]
) -> None:
    """Create the output, or wait until another share has created it; all check its job first.

    The creating share measures the normalisation, the others read it.
    """
    request = prepared.request

    def create(check: Callable[[], None]) -> None:
        intensity = _measure(prepared, client, token)
        check()
        run: Any = open_group(request.output, mode="r+")[RUN_GROUP]
        make_states(run, prepared.plan.grid)
        run.require_group(SHARDS)
        for image in prepared.images:
            create_image(request.output, image, version=request.format)
        made = provenance(prepared, workers=len(client.nthreads()))
        check()
        run.attrs.update({"intensity": intensity.to_json(), "provenance": made, CREATED: True})

    try:
        make_root(request.output, version=request.format)
        begin_run_group(
            request.output, job, **{"overtile": VERSION, SHARDS: list(prepared.share_blocks)}
        )
        check_kind(request.output, request.share, finishing=False)
        check_digest(request.output, job, run_attributes(request.output))
        create_once(request.output, create, token=token, tell=tell)
    except OSError as error:
        raise _unwritable(request.output, error) from error
