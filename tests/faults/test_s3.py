"""An S3 server on loopback that fails for a while: the same command ends with the same bytes."""

from __future__ import annotations

import time

import pytest

from faults.laws import check_alone, check_content, check_words
from faults.s3 import BUCKET, CREDENTIALS, Trouble, bucket_content, proxy, put_files, server
from faults.small import COMMANDS

pytestmark = pytest.mark.faults
TROUBLES = ("500", "503", "403", "drop", "late", "slow")
MOST_STARTS = 12
FEW = 4
"""Failures that the store's client and Dask retry, so that the run does not end."""


@pytest.fixture(scope="session")
def store(place):
    """Return the address of a server that holds the inputs."""
    with server() as address:
        for name in ("raw", "scores"):
            put_files(address, f"in/{name}.zarr", place.inputs / f"{name}.zarr")
        yield address


def started(trial, name, prefix, address):
    """Start a command that reads from the bucket and writes to it."""
    words = COMMANDS[name].words(trial.place.inputs, trial.folder / "out.zarr")
    source = words[1].rpartition("/")[2]
    words[1:3] = [f"s3://{BUCKET}/in/{source}", f"s3://{BUCKET}/{prefix}/out.zarr"]
    return trial.commands.start(words, environment={**CREDENTIALS, "AWS_ENDPOINT_URL": address})


def stored_in(address, prefix):
    content = bucket_content(address, f"{prefix}/out.zarr")
    return {name: text for name, text in content.items() if name.split("/")[0] != "run"}


@pytest.mark.parametrize("name", ["segment", "objects", "convert"])
@pytest.mark.parametrize("how", TROUBLES)
def test_a_store_that_fails_for_a_while_ends_with_the_same_bytes(
    how, name, trial, store, fault_round
):
    random = trial.generator
    trouble = Trouble(
        how=how, generator=random, stop=random.choice((FEW, 20, 100)),
        share=random.choice((0.1, 0.5, 1.0)), is_on=False,
    )  # fmt: skip
    prefix = f"{random.getrandbits(32)}-{name}-{how}"
    with proxy(store, trouble) as address:
        running = started(trial, name, prefix, address)
        begins_at = time.monotonic() + random.uniform(0, 3)
        while running.poll() is None and time.monotonic() < begins_at:
            time.sleep(0.01)
        trouble.is_on = True
        for number in range(MOST_STARTS):
            ended = running.ended()
            check_words(ended, codes=(0, 1, 2))
            check_alone(running)
            if ended.code == 0:
                break
            if number == MOST_STARTS - 2:  # a start that is refused at once meets few failures
                trouble.is_on = False
            running = started(trial, name, prefix, address)
        assert ended.code == 0, f"{trouble.failures} failures: {ended.text}"
    expected = trial.place.reference(COMMANDS[name]).content
    check_content(stored_in(store, prefix), expected)
    trial.record(name, f"S3: {how}")


@pytest.mark.parametrize("how", ["500", "403", "drop"])
def test_a_chunk_that_can_never_be_read_is_named_and_all_others_are_done(
    how, trial, store, fault_round
):
    trouble = Trouble(how=how, generator=trial.generator, stop=10**6, key="raw.zarr/c/1/1/2")
    prefix = f"{trial.generator.getrandbits(32)}-never-{how}"
    with proxy(store, trouble) as address:
        running = started(trial, "convert", prefix, address)
        ended = running.ended()
        check_words(ended, codes=(1,))
        assert "1 of 12 blocks failed and were set aside (block 1,1,2: " in ended.last_line, ended
        trial.record(
            "convert", f"S3: one chunk always fails: {how}", outcome="named, the rest done"
        )
        trouble.is_on = False
        running = started(trial, "convert", prefix, address)
        check_words(running.ended())
    expected = trial.place.reference(COMMANDS["convert"]).content
    check_content(stored_in(store, prefix), expected)
    trial.record("convert", f"S3: one chunk always failed, then repaired: {how}")
