"""The ledger holds what was done, for the next run too; another job is rejected."""

from __future__ import annotations

import errno
import shutil
import threading

import boto3
import numpy as np
import pytest
import zarr
from botocore.exceptions import EndpointConnectionError
from hypothesis import given, settings
from hypothesis import strategies as st
from moto.server import ThreadedMotoServer

from pipeline.base.errors import OutputError, RunError
from pipeline.base.geometry import Box
from pipeline.base.location import Location
from pipeline.ledger.chunkwise import raise_if_unreachable
from pipeline.ledger.creation import begin_run_group, complete_run_group
from pipeline.ledger.identity import Job, check_job
from pipeline.ledger.ledger import (
    BlockState,
    Ledger,
    blocks_left,
    stored_job,
    was_created,
)
from pipeline.ledger.progress import blocks_done, read_progress, unfinished_notes
from pipeline.output.ome_write import create_images
from pipeline.planning.blocks import Region

JOB = Job({"weights": "a" * 64, "block": [4, 16, 16], "precision": "fp32", "time": None})


@pytest.fixture
def made(tmp_path):
    """Return a function that creates an output with an empty ledger."""

    def make(grid, job=JOB):
        out = Location.parse(tmp_path / "out.zarr")
        create_images(out, (), version="0.5")
        assert begin_run_group(out, job, version="0.5", owner="first")
        complete_run_group(out, grid=grid, version="0.5", in_shares=False)
        return out, Ledger.open(out, job, owner="first")

    return make


@pytest.mark.parametrize("grid", [(1, 1, 1), (3, 5, 40), (33, 1, 70)])
def test_the_next_run_reads_what_was_recorded(grid, made):
    out, ledger = made(grid)
    random = np.random.default_rng(1)
    chosen = random.random(grid) < 0.4
    for index in np.argwhere(chosen):
        ledger.record([tuple(map(int, index))], BlockState.DONE)
    again = Ledger.open(out, JOB, owner="second")
    assert again.count(BlockState.DONE) == chosen.sum() == blocks_done(out)
    np.testing.assert_array_equal(again.states == BlockState.DONE, chosen)
    np.testing.assert_array_equal(zarr.open_array(f"{out}/run/done", mode="r")[...] == 1, chosen)


def test_a_block_is_on_disk_when_record_returns(made):
    out, ledger = made((2, 40, 40))
    for index in [(0, 0, 0), (1, 39, 39), (0, 31, 32)]:
        assert not zarr.open_array(f"{out}/run/done", mode="r")[index]
        ledger.record([index], BlockState.DONE)
        assert zarr.open_array(f"{out}/run/done", mode="r")[index] == BlockState.DONE


def test_blocks_that_were_set_aside_are_tried_again_by_the_next_run(made):
    out, ledger = made((1, 2, 3))
    ledger.record([(0, 0, 0), (0, 1, 2)], BlockState.DONE)
    ledger.record([(0, 1, 1)], BlockState.SET_ASIDE)
    (share,) = read_progress(out)
    assert (share.done, share.set_aside, share.left) == (2, ((0, 1, 1),), 4)
    again = Ledger.open(out, JOB, owner="second")
    assert again.count(BlockState.SET_ASIDE) == 0
    region = Region(0, Box((0, 0, 0), (1, 2, 3)))
    assert blocks_left(again, region.indices) == [(0, 0, 1), (0, 0, 2), (0, 1, 0), (0, 1, 1)]


def test_an_image_of_which_blocks_are_left_is_noted(made, tmp_path):
    out, ledger = made((1, 2, 3))
    ledger.record([(0, 0, 0), (0, 1, 2)], BlockState.DONE)
    (note,) = unfinished_notes(out)
    assert f"{out} is not complete: 4 of its 6 blocks are not done" in note
    ledger.record([(0, 0, 1), (0, 0, 2), (0, 1, 0), (0, 1, 1)], BlockState.DONE)
    assert list(unfinished_notes(out)) == []
    assert list(unfinished_notes(Location.parse(tmp_path))) == []


def test_threads_that_record_in_one_chunk_lose_nothing(made):
    out, ledger = made((1, 16, 16))

    def record(row):
        for x in range(16):
            ledger.record([(0, row, x)], BlockState.DONE)

    threads = [threading.Thread(target=record, args=(row,)) for row in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert blocks_done(out) == 256


values = st.none() | st.integers() | st.text(max_size=8) | st.lists(st.integers(), max_size=3)
parts = st.dictionaries(st.text(min_size=1, max_size=6), values, max_size=5)


@given(parts, parts)
@settings(max_examples=200)
def test_two_jobs_have_one_digest_exactly_when_they_do_not_differ(one, other):
    present = {name for name, value in one.items() if value is not None}
    alike = present == {name for name, value in other.items() if value is not None} and all(
        one[name] == other[name] for name in present
    )
    if "auto" not in one.values():
        assert (Job(one).differences(other) == "") == alike
    assert (Job(one).digest == Job(other).digest) == (one == other)


def test_the_digest_ignores_order_and_tuples():
    turned = Job(dict(reversed(JOB.parts.items())) | {"block": (4, 16, 16)})
    assert turned.digest == JOB.digest


def test_another_job_is_refused_and_the_differences_are_named(made):
    out, _ = made((1, 1, 1))
    other = Job({**JOB.parts, "block": [8, 16, 16], "weights": "b" * 64})
    for refuse in (
        lambda: Ledger.open(out, other, owner="second"),
        lambda: check_job(out, other, stored_job(out)),
    ):
        with pytest.raises(OutputError, match=r"--overwrite") as caught:
            refuse()
        assert "block was [4, 16, 16], now [8, 16, 16]" in str(caught.value)
        assert "weights was aaaaaaaaaaaa…, now bbbbbbbbbbbb…" in str(caught.value)
        assert "precision" not in str(caught.value)
        assert "\n" not in str(caught.value)


def test_an_output_of_a_version_whose_jobs_had_fewer_parts_is_resumed(made):
    older = Job({name: value for name, value in JOB.parts.items() if value is not None})
    out, ledger = made((1, 1, 2), job=older)
    ledger.record([(0, 0, 1)], BlockState.DONE)
    again = Ledger.open(out, JOB, owner="second")
    assert blocks_left(again, [(0, 0, 0), (0, 0, 1)]) == [(0, 0, 0)]
    with pytest.raises(OutputError, match="time was null, now 3"):
        Ledger.open(out, Job({**JOB.parts, "time": 3}), owner="third")


def test_an_output_whose_record_of_the_job_was_changed_is_refused(made):
    out, _ = made((1, 1, 1), job=Job({**JOB.parts, "block": [8, 16, 16]}))
    group = zarr.open_group(f"{out}/run")
    group.attrs["job"] = dict(JOB.parts)
    with pytest.raises(OutputError, match=r"another job \(its record was changed\)"):
        Ledger.open(out, JOB, owner="second")


def test_an_undecided_setting_does_not_differ_from_the_stored_one(made):
    out, _ = made((1, 1, 1))
    check_job(out, Job({**JOB.parts, "precision": "auto"}), stored_job(out))
    with pytest.raises(OutputError, match="precision was fp32, now bf16"):
        Ledger.open(out, Job({**JOB.parts, "precision": "bf16"}), owner="second")


def test_notes_are_kept_beside_the_job(made):
    out, ledger = made((1, 1, 1))
    assert was_created(out)
    ledger.note(figures={"blocks": 3})
    assert was_created(out)
    again = Ledger.open(out, JOB, owner="second")
    assert again.noted("figures") == {"blocks": 3}
    assert again.noted("nothing") is None
    assert dict(stored_job(out)) == dict(JOB.parts)


def test_a_run_that_was_taken_over_stops_writing(made):
    out, first = made((1, 1, 3))
    first.record([(0, 0, 0)], BlockState.DONE)
    second = Ledger.open(out, JOB, owner="second")
    for late in (lambda: first.record([(0, 0, 1)], BlockState.DONE), lambda: first.note(pyramid=1)):
        with pytest.raises(RunError, match="another run has taken over"):
            late()
    assert blocks_done(out) == 1
    second.record([(0, 0, 2)], BlockState.DONE)
    second.check()
    assert blocks_done(out) == 2


def test_a_ledger_that_lost_blocks_is_detected(made):
    out, ledger = made((1, 1, 3))
    ledger.record([(0, 0, 0)], BlockState.DONE)
    zarr.open_array(f"{out}/run/done", mode="r+")[...] = 0
    with pytest.raises(RunError, match="lost blocks"):
        ledger.check()


def test_an_output_that_vanishes_ends_the_run(made):
    out, ledger = made((1, 1, 3))
    shutil.rmtree(out.path)
    with pytest.raises(RunError, match="was moved or deleted"):
        ledger.record([(0, 0, 0)], BlockState.DONE)


def test_a_store_that_is_gone_ends_a_run_so_that_the_same_command_resumes_it(monkeypatch, aws):
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        for name, value in {**aws, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}.items():
            monkeypatch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="gone")
        out = Location.parse("s3://gone/out.zarr")
        create_images(out, (), version="0.5")
        assert begin_run_group(out, JOB, version="0.5", owner="first")
        complete_run_group(out, grid=(1, 2, 2), version="0.5", in_shares=False)
        ledger = Ledger.open(out, JOB, owner="first")
    finally:
        server.stop()
    with pytest.raises(RunError, match=r"^s3://gone.*start the same run again$"):
        ledger.record([(0, 0, 0)], BlockState.DONE)


def test_a_store_that_does_not_answer_is_not_taken_for_damage():
    lost = EndpointConnectionError(endpoint_url="http://127.0.0.1:1")
    with pytest.raises(EndpointConnectionError):
        raise_if_unreachable(lost)
    raise_if_unreachable(ValueError("a codec that Zarr does not know"))
    raise_if_unreachable(OSError(errno.EIO, "the device cannot read it"))
