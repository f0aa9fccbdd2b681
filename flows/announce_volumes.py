"""The Prefect flow ``announce-volumes``: emits an event for each new, finished volume in a folder.

Run on a schedule and with a triggered deployment, it segments volumes as they arrive:
deploy/examples/new-volumes.yaml.
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

from prefect import flow, get_run_logger
from prefect.events import Event
from prefect.events.clients import get_events_client
from zarr.storage import FsspecStore

from deploy.clusters.profiles import state_directory
from deploy.processes.state_folder import explained_state
from pipeline.base.errors import VolumeError
from pipeline.base.location import Location
from pipeline.base.store_errors import explained
from pipeline.base.stores import list_names, open_store, read_node, wait_for

from .prefect.without_credentials import Place, without_credentials

EVENT = "overtile.volume.finished"


@without_credentials
@flow(name="announce-volumes")
async def announce_volumes(
    folder: Place, settle_s: float = 300.0, marker: str | None = None
) -> list[str]:
    """Emit one event for each finished volume in a folder; return their URIs.

    A volume has Zarr metadata at its root. It is finished when it contains the marker file, or,
    without a marker, when none of its files has changed for settle_s seconds. Outputs of overtile
    are ignored. The list of announced volumes is stored on the machine that runs this flow.

    Args:
        folder: A folder or s3://bucket/prefix that contains volumes, one per subfolder
        settle_s: Seconds without a change after which a volume is finished
        marker: Name of a file that is written into a volume when it is complete
    """
    where = Location.parse(folder)
    known = announced_in(where)
    finished = [
        volume
        for volume in volumes_in(where)
        if str(volume) not in known and is_finished(volume, settle_s=settle_s, marker=marker)
    ]
    for volume in finished:
        await announce(volume)
        note_announced(where, volume)
        get_run_logger().info("announced: %s", volume)
    return [str(volume) for volume in finished]


def volumes_in(folder: Location) -> list[Location]:
    """Return the volumes directly in a folder, without outputs of overtile. Raises VolumeError."""
    names = list_names(folder)
    if names is None:
        raise VolumeError(
            f"cannot list {folder}: expected a folder, or a prefix whose store can be listed"
        )
    volumes = [folder / name for name in names if not name.startswith(".")]
    return [one for one in volumes if read_node(one) and not read_node(one, path="run")]


def is_finished(volume: Location, *, settle_s: float, marker: str | None) -> bool:
    """Return whether a volume is completely written."""
    if marker is not None:
        with explained(VolumeError, volume / marker):
            return wait_for(open_store(volume).exists(marker), timeout_s=30)
    return time.time() - changed_at(volume) >= settle_s


def changed_at(volume: Location) -> float:
    """Return when the newest file of a volume was written, in seconds since 1970."""
    if volume.is_local:
        times = [path.lstat().st_mtime for path in volume.path.rglob("*")]
        return max(times, default=0.0)
    store = open_store(volume)
    assert isinstance(store, FsspecStore)
    with explained(VolumeError, volume):
        found = wait_for(store.fs._find(store.path, detail=True), timeout_s=600)
    try:
        return max(float(each["LastModified"].timestamp()) for each in found.values())
    except KeyError:
        raise VolumeError(
            f"{volume}: the store does not report when files were written; set marker to the name "
            "of a file that marks a finished volume"
        ) from None


async def announce(volume: Location) -> None:
    """Send the event and wait until the server has received it."""
    event = Event(
        event=EVENT,
        resource={
            "prefect.resource.id": f"overtile.volume.{volume}",
            "prefect.resource.name": str(volume),
        },
        payload={"uri": str(volume), "name": volume.name.removesuffix(".zarr")},
    )
    async with get_events_client(checkpoint_every=1) as client:
        await client.emit(event)


def announced_in(folder: Location) -> set[str]:
    """Return the volumes of a folder that were announced from this machine."""
    try:
        return set(_record_of(folder).read_text().splitlines())
    except FileNotFoundError:
        return set()


def note_announced(folder: Location, volume: Location) -> None:
    """Record that a volume was announced; to announce it again, delete its line.

    Raises ClusterError if the record cannot be written.
    """
    record = _record_of(folder)
    with explained_state(record.parent):
        record.parent.mkdir(parents=True, exist_ok=True)
        with record.open("a") as file:
            file.write(f"{volume}\n")


def _record_of(folder: Location) -> Path:
    digest = hashlib.sha256(folder.uri.encode()).hexdigest()[:16]
    return state_directory() / "announced" / f"{digest}.txt"
