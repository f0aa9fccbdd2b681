"""The example deploy/examples/new-volumes.yaml: a schedule checks, an event starts a run."""

import os
import time
from pathlib import Path

import pytest
import zarr

from flows.announce_volumes import (
    announced_in,
    changed_at,
    is_finished,
    note_announced,
    volumes_in,
)
from pipeline.base.location import Location

EXAMPLE = Path(__file__).parents[3] / "deploy/examples/new-volumes.yaml"


def make(uri, raw, **storage_options):
    zarr.create_array(
        str(uri), data=raw, chunks=(4, 32, 32), dimension_names=["z", "y", "x"],
        storage_options=storage_options or None,
    )  # fmt: skip


def aged(volume, *, by_s):
    """Set the times of a volume's files to some time ago."""
    then = time.time() - by_s
    for path in [volume, *volume.rglob("*")]:
        os.utime(path, (then, then))


@pytest.fixture
def raw(textured):
    return textured((1, 8, 64, 64))[0]


def test_a_volume_is_finished_when_none_of_its_files_has_changed_for_a_while(tmp_path, raw):
    make(tmp_path / "a.zarr", raw)
    volume = Location.parse(tmp_path / "a.zarr")
    assert not is_finished(volume, settle_s=60, marker=None)
    aged(tmp_path / "a.zarr", by_s=90)
    assert is_finished(volume, settle_s=60, marker=None)
    next((tmp_path / "a.zarr/c").rglob("0")).touch()
    assert not is_finished(volume, settle_s=60, marker=None), "one chunk was written again"


def test_with_a_marker_a_volume_is_finished_when_it_contains_the_marker(tmp_path, raw):
    make(tmp_path / "a.zarr", raw)
    aged(tmp_path / "a.zarr", by_s=90)
    volume = Location.parse(tmp_path / "a.zarr")
    assert not is_finished(volume, settle_s=0, marker="finished")
    (tmp_path / "a.zarr/finished").touch()
    assert is_finished(volume, settle_s=60, marker="finished")


def test_only_volumes_are_announced_and_never_outputs_of_overtile(tmp_path, raw):
    make(tmp_path / "a.zarr", raw)
    (tmp_path / "notes.txt").write_text("no volume")
    (tmp_path / "empty").mkdir()
    zarr.create_group(tmp_path / "segmented.zarr").create_group("run")
    assert volumes_in(Location.parse(tmp_path)) == [Location.parse(tmp_path / "a.zarr")]


def test_announced_volumes_are_recorded_per_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    data = Location("/data")
    note_announced(data, data / "a.zarr")
    note_announced(data, data / "b.zarr")
    assert announced_in(data) == {"/data/a.zarr", "/data/b.zarr"}
    assert announced_in(Location("/other")) == set()


@pytest.mark.slow
def test_a_prefix_of_an_object_store_is_checked_like_a_folder(raw, bucket):
    uri, options = bucket
    make(f"{uri}/a.zarr", raw, **options)
    volume = Location.parse(f"{uri}/a.zarr")
    assert volumes_in(Location.parse(uri)) == [volume]
    assert abs(time.time() - changed_at(volume)) < 60
    assert not is_finished(volume, settle_s=600, marker=None)
    assert is_finished(volume, settle_s=-5, marker=None)
    assert not is_finished(volume, settle_s=0, marker="finished")


@pytest.fixture
def bucket(monkeypatch):
    """Return a prefix on a real server of the S3 protocol, and a file system to write to it."""
    import fsspec
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    fsspec.filesystem("s3", endpoint_url=endpoint, skip_instance_cache=True).mkdir("incoming")
    yield "s3://incoming/day", {"endpoint_url": endpoint}
    server.stop()


@pytest.mark.slow
def test_volumes_that_arrive_are_segmented_once_and_only_when_finished(
    front, waiting, raw, tmp_path
):
    incoming, segmented = tmp_path / "incoming", tmp_path / "segmented"
    make(incoming / "finished.zarr", raw)
    aged(incoming / "finished.zarr", by_s=7200)
    make(incoming / "growing.zarr", raw)
    text = EXAMPLE.read_text()
    for shipped, here in {
        "/data/incoming": str(incoming), "/data/segmented": str(segmented),
        "settle_s: 300": "settle_s: 3600", "- interval: 300": "- interval: 15",
    }.items():  # fmt: skip
        assert text.count(shipped) == 1
        text = text.replace(shipped, here)
    (front.project / "new-volumes.yaml").write_text(text)
    front.done("prefect --no-prompt deploy --all --prefect-file new-volumes.yaml")

    waiting(lambda: front.flow_runs("segment-volume"), what="the event's run")
    (run,) = front.flow_runs("segment-volume")
    assert front.ended(run.id).is_completed()
    assert run.parameters["input"] == str(incoming / "finished.zarr")
    assert zarr.open_array(segmented / "finished.zarr/labels/classes/0").shape == (8, 64, 64)

    looks = len(front.flow_runs("announce-volumes", "COMPLETED"))
    waiting(
        lambda: len(front.flow_runs("announce-volumes", "COMPLETED")) > looks, what="another look"
    )
    assert len(front.flow_runs("segment-volume")) == 1, (
        "it was announced again, or growing.zarr was"
    )
    with front.client() as client:
        assert client.read_deployment_by_name("announce-volumes/arrivals").schedules[0].active
