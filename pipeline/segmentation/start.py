"""The start of a run: checks against the cluster, then creates or resumes the output.

Nothing is written before all checks have passed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from distributed import Client

from ..base.errors import ClusterError, OutputError, RunError
from ..base.scheduling import run_all
from ..base.store_errors import not_written
from ..base.versions import VERSION
from ..base.worker_memory import check_worker_memory
from ..base.workers import check_reach, present_workers
from ..ledger.creation import begin_run_group, complete_run_group, turn_to_measure
from ..ledger.identity import Job, check_digest
from ..ledger.ledger import Ledger, run_attributes, stored_job
from ..ledger.ownership import OWNER, SHARDS, SKIPPED, new_token
from ..ledger.shares import check_kind
from ..models.protocol import Predictor
from ..output.guard import delete_output
from ..output.into_input import image_of_labels
from ..output.ome_write import create_images, list_label
from ..volume.fingerprint import measured_note
from ..volume.intensity import Intensity, stated_intensity
from ..volume.measure_intensity import measure_intensity
from ..volume.volume import VolumeSource, open_volume
from .engines.block import BlockJob
from .engines.part_done import pause_between_messages
from .prepare import Prepared, with_settled, with_sizes_of
from .provenance import provenance
from .room import ask_device, fit_to_workers


def start_run(
    prepared: Prepared, client: Client, *, notify: Callable[[str], None] = lambda text: None
) -> tuple[Prepared, BlockJob, Ledger]:
    """Return the run with all settings decided, the job for its workers, and its open ledger.

    notify: takes a line for the user, when this run waits for another one. Raises kinds of
    OvertileError for what the user can fix.
    """
    request = prepared.request
    token = new_token(request.share.number if request.share else None)
    _check_reach(prepared, client)
    prepared = fit_to_workers(prepared, client)
    settled = _settle(prepared, client, token)
    prepared = with_settled(prepared, settled)
    _check_memory(prepared, client)
    job = prepared.job(settled)
    try:
        if prepared.output_action != "resumed" and not _begin(prepared, job, client, token, notify):
            prepared = with_sizes_of(prepared, stored_job(request.output))
            _check_memory(prepared, client)
            job = prepared.job(settled)
        ledger = _open_ledger(prepared, job, token)
        ledger.skip(prepared.selection.skipped(prepared.regions))
    except OSError as error:
        raise not_written(request.output, error, remedy="choose another output") from error
    block_job = BlockJob(
        source=prepared.source,
        output=request.output,
        run_token=token,
        plan=prepared.plan,
        predictor=settled,
        intensity=Intensity.from_json(ledger.noted_of_output("intensity")),
        outputs=prepared.outputs,
        mask=prepared.part.mask,
        skip=prepared.part.skip,
        report_every_s=pause_between_messages(sum(client.nthreads().values())),
    )
    return prepared, block_job, ledger


def _check_reach(prepared: Prepared, client: Client) -> None:
    mask, earlier = prepared.part.mask, prepared.request.earlier
    others = [mask.source.store if mask else None, earlier]
    locations = [prepared.source.store, prepared.request.output, *filter(None, others)]
    check_reach(client, locations)


def _check_memory(prepared: Prepared, client: Client) -> None:
    """Raise if a worker's memory cannot hold a tile, and a block for each of its threads.

    A tile on a GPU is not in it; where the plan did not depend on the workers, they are asked.
    """
    budget, room = prepared.budget, prepared.room
    device_bytes = room.device_bytes if room else ask_device(client, prepared.predictor)
    tile = budget.tile_memory_bytes if device_bytes is None else 0
    for worker in present_workers(client).values():
        need = tile + worker["nthreads"] * budget.block_memory_bytes
        check_worker_memory(
            need, has_bytes=worker.get("memory_limit"),
            smaller="smaller blocks (--block), smaller tiles (--tile-memory), or an input of "
            "smaller chunks (overtile convert)",
        )  # fmt: skip


def _settle(prepared: Prepared, client: Client, token: str) -> Predictor:
    """Settle the predictor on a worker; this also checks that it has the code and the files."""
    sources = (prepared.source, *([prepared.part.mask.source] if prepared.part.mask else []))
    calls = [(_settled_on_worker, (prepared.predictor, sources))]
    try:
        settled: Predictor = run_all(
            client, calls, key="settle-predictor", token=token, stop=threading.Event(), retries=0
        )[0]
    except RunError as error:
        raise ClusterError(
            f"a worker cannot start ({error}): every worker needs overtile's packages, the "
            "weights, the input and the mask, if there is one"
        ) from error
    return settled


def _settled_on_worker(predictor: Predictor, sources: tuple[VolumeSource, ...]) -> Predictor:
    for source in sources:
        open_volume(source)
    return predictor.settled()


def _measure(
    prepared: Prepared, client: Client, token: str, notify: Callable[[str], None]
) -> Intensity:
    source = prepared.source
    if "level" in prepared.record:
        source = prepared.request.find_source(level=prepared.record["level"])
    intensity = measure_intensity(source, prepared.record, client, token=token)
    if note := measured_note(prepared.source, intensity, prepared.record):
        notify(f"note: {note}")
    return intensity


def _begin(
    prepared: Prepared, job: Job, client: Client, token: str, notify: Callable[[str], None]
) -> bool:
    """Create the run group with the measured grey values, unless another share has created it.

    Return whether this run has.
    """
    request, share = prepared.request, prepared.request.share
    is_stated = stated_intensity(prepared.record, prepared.source.dtype) is not None
    turn: AbstractContextManager[bool] = nullcontext(True)
    if share and not is_stated:
        turn = turn_to_measure(request.output, token=token, notify=notify)
    with turn as is_mine:
        is_created = is_mine and _create_run_group(prepared, job, client, token, notify)
    if share:
        check_kind(request.output, share, finishing=False)
    elif not is_created:
        raise OutputError(
            f"another run is creating {request.output} at this moment: "
            "wait for it, or choose another output"
        )
    return is_created


def _create_run_group(
    prepared: Prepared, job: Job, client: Client, token: str, notify: Callable[[str], None]
) -> bool:
    request = prepared.request
    intensity = _measure(prepared, client, token, notify)
    if prepared.output_action == "replaced":
        delete_output(request.output)
    held = _blocks_of_shares(prepared) if request.share else {OWNER: token}
    return begin_run_group(
        request.output,
        job,
        version=request.format,
        overtile=VERSION,
        **held,
        intensity=intensity.to_json(),
        provenance=provenance(prepared, workers=len(client.nthreads())),
    )


def _blocks_of_shares(prepared: Prepared) -> dict[str, Any]:
    """Return the attributes that state how many blocks each share has, and how many it skips."""
    selection, shares = prepared.selection, prepared.shares
    held: dict[str, Any] = {SHARDS: [sum(map(len, share)) for share in shares]}
    if selection.chosen is not None:
        computed = (sum(map(selection.count, share)) for share in shares)
        held[SKIPPED] = [of - own for of, own in zip(held[SHARDS], computed, strict=True)]
    return held


def _open_ledger(prepared: Prepared, job: Job, token: str) -> Ledger:
    """Open the ledger; complete an output that has no block yet, for its creator may have died."""
    request = prepared.request
    check_digest(request.output, job, run_attributes(request.output))
    complete_run_group(
        request.output,
        grid=prepared.plan.grid,
        version=request.format,
        in_shares=request.share is not None,
    )
    ledger = Ledger.open(request.output, job, owner=token)
    if ledger.needs_arrays:
        create_images(request.output, prepared.images, version=request.format)
    image = image_of_labels(request.output) if request.into_input else None
    if image is not None:  # at each start: a run beside it may have undone it
        list_label(image, request.output.name, version=request.format)
    return ledger
