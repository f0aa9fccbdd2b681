"""From a prepared run to its output: checked against the cluster, then created or resumed.

Nothing is written before everything is checked.
"""

from __future__ import annotations

import threading
from uuid import uuid4

from distributed import Client
from zarr.errors import ContainsGroupError

from .errors import ClusterError, OutputError, PlanError, RunError, VolumeError
from .explain import redacted
from .intensity import Intensity
from .ledger import Job, Ledger
from .measure import measure_intensity
from .ome import create_image, create_root
from .output import delete_output
from .predictor import Predictor
from .prepare import VERSION, Prepared, with_settled
from .provenance import provenance
from .schedule import run_all
from .segment import BlockJob
from .stores import scheme_of
from .volume import VolumeSource, find_volume, open_volume


def start_run(prepared: Prepared, client: Client) -> tuple[Prepared, BlockJob, Ledger]:
    """Return the run's settled plan, what its workers are told, and its open ledger.

    Raises kinds of OvertileError for what the user can mend.
    """
    token = uuid4().hex[:12]
    request = prepared.request
    _check_reach(prepared, client)
    _check_memory(prepared, client)
    settled = _settle(prepared, client, token)
    prepared = with_settled(prepared, settled)
    job = prepared.job(settled)
    if prepared.fate == "resumed":
        ledger = Ledger.resume(request.output, job, owner=token)
        intensity = Intensity.from_json(ledger.noted("intensity"))
    else:
        intensity = _measure(prepared, client, token)
        if prepared.fate == "replaced":
            delete_output(request.output)
        ledger = _create(prepared, job, intensity, client, token)
    block_job = BlockJob(
        source=prepared.source,
        output_uri=request.output,
        run_token=token,
        plan=prepared.plan,
        predictor=settled,
        intensity=intensity,
        outputs=prepared.outputs,
    )
    return prepared, block_job, ledger


def _check_reach(prepared: Prepared, client: Client) -> None:
    """Raise where a ``memory://`` store is asked of workers in other processes."""
    addresses = list(client.scheduler_info(n_workers=-1)["workers"])
    if not addresses:
        raise ClusterError("the cluster has no workers: start some, then run again")
    uris = (prepared.source.uri, prepared.request.output)
    if any(scheme_of(uri) == "memory" for uri in uris) and not all(
        address.startswith("inproc://") for address in addresses
    ):
        raise VolumeError(
            "memory:// lives in one process and the workers are others: use a store that they can "
            "reach, or a client with processes=False"
        )


def _check_memory(prepared: Prepared, client: Client) -> None:
    """Raise where a worker cannot hold a tile and a block for each of its threads."""
    budget = prepared.budget
    for worker in client.scheduler_info(n_workers=-1)["workers"].values():
        need = budget.tile_memory_bytes + worker["nthreads"] * budget.block_memory_bytes
        has = worker.get("memory_limit") or need
        if need <= has:
            continue
        raise PlanError(
            f"a worker would need {need / 2**30:.1f} GiB and has {has / 2**30:.1f} GiB: "
            "take fewer workers, smaller blocks (--block), or smaller tiles (--tile-memory)"
        )


def _settle(prepared: Prepared, client: Client, token: str) -> Predictor:
    """Settle the predictor on a worker, which proves that it can import us and see the files."""
    calls = [(_settled_on_worker, (prepared.predictor, prepared.source))]
    try:
        settled: Predictor = run_all(
            client, calls, key="settle-predictor", token=token, stop=threading.Event(), retries=0
        )[0]
    except RunError as error:
        raise ClusterError(
            f"a worker cannot begin ({error}): overtile's packages, weights and input must be "
            "there for every worker too"
        ) from error
    return settled


def _settled_on_worker(predictor: Predictor, source: VolumeSource) -> Predictor:
    open_volume(source)
    return predictor.settled()


def _measure(prepared: Prepared, client: Client, token: str) -> Intensity:
    request, source = prepared.request, prepared.source
    if "level" in prepared.record:
        source = find_volume(
            request.input, level=prepared.record["level"], channel=request.channel,
            time=request.time, axes=request.axes,
        )  # fmt: skip
    return measure_intensity(source, prepared.record, client, token=token)


def _create(
    prepared: Prepared, job: Job, intensity: Intensity, client: Client, token: str
) -> Ledger:
    """Create the output; the ledger first, so that a run that dies here is known as ours."""
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
        ledger.note(created=True)
    except ContainsGroupError as error:
        raise OutputError(
            f"another run is making {redacted(request.output)} at this moment: "
            "wait for it, or choose another output"
        ) from error
    except OSError as error:
        raise OutputError(
            f"{redacted(request.output)} cannot be written ({error.strerror or error}): "
            "choose another output"
        ) from error
    return ledger
