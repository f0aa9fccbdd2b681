"""An S3 server on loopback that fails for a while: the same command ends with the same bytes."""

from __future__ import annotations

import time

import pytest

from faults.laws import check_alone, check_content, check_words
from faults.reference import Moment
from faults.s3 import BUCKET, CREDENTIALS, Trouble, bucket_content, proxy, put_files, server
from faults.small import COMMANDS

pytestmark = pytest.mark.faults
REFUSALS = ("500", "503", "403", "drop")
STORED = ("segment", "objects", "convert")
"""They also write to the bucket; an evaluation and a training only read from it."""
LIST_AGAIN = ("segment", "objects")
"""They list what they have written, at the latest when they are started again. A conversion lists
its output once, before it has written anything."""
MOST_STARTS = 12
FEW = 4
"""Failures that the store's client and Dask retry, so that the run does not end."""
GIVEN_UP_S = 90.0
"""The client's timeout is a minute."""


class Store:
    """A server that holds the inputs, and how many requests the commands make."""

    def __init__(self, address):
        self.address = address
        self._requests = {}

    def requests(self, trial, name):
        """Return the requests of an undisturbed run, which has the bytes of one on files."""
        if name not in self._requests:
            trouble = Trouble(how="500", generator=trial.generator, stop=0)
            with proxy(self.address, trouble) as address:
                check_words(started(trial, name, f"undisturbed-{name}", address).ended())
            check_stored(trial, name, self.address, f"undisturbed-{name}")
            self._requests[name] = trouble.seen
        return self._requests[name]


@pytest.fixture(scope="session")
def store(place):
    """Return a server that holds the inputs."""
    with server() as address:
        for name in ("raw", "scores", "labels", "truth"):
            put_files(address, f"in/{name}.zarr", place.inputs / f"{name}.zarr")
        yield Store(address)


def output_of(trial, name, prefix):
    """Return where a command on the bucket writes: into it, or a file."""
    output = COMMANDS[name].output
    return f"s3://{BUCKET}/{prefix}/{output}" if name in STORED else trial.folder / prefix / output


def started(trial, name, prefix, address, *, words=()):
    """Start a command that reads from the bucket and, if it can, writes to it."""
    output = output_of(trial, name, prefix)
    if name not in STORED:
        output.parent.mkdir(exist_ok=True)
    inputs = str(trial.place.inputs)
    given = [
        f"s3://{BUCKET}/in/{word.rpartition('/')[2]}"
        if word.startswith(inputs) and word.endswith(".zarr") else word
        for word in COMMANDS[name].words(trial.place.inputs, output)
    ]  # fmt: skip
    environment = {**CREDENTIALS, "AWS_ENDPOINT_URL": address}
    return trial.commands.start([*given, *words], environment=environment)


def check_stored(trial, name, address, prefix):
    """Raise AssertionError unless a command has the bytes of an undisturbed run on files."""
    small, expected = COMMANDS[name], trial.place.reference(COMMANDS[name]).content
    if name in STORED:
        content = bucket_content(address, f"{prefix}/{small.output}")
        found = {name: text for name, text in content.items() if name.split("/")[0] != "run"}
    else:
        found = small.promised(output_of(trial, name, prefix))
    if name == "evaluate":  # it names its inputs
        named = dict.fromkeys(("prediction", "truth"), b"")
        found, expected = {**found, **named}, {**expected, **named}
    check_content(found, expected)


def wait_for_requests(running, trouble, number):
    """Wait until a command has made this many requests; it must not have ended before."""
    while running.poll() is None and trouble.seen < number:
        time.sleep(0.01)
    assert running.poll() is None, f"it ended before the fault: {running.text[-2000:]}"


def run_to_the_end(trial, name, prefix, address, trouble):
    """Start a command again until it succeeds."""
    for number in range(MOST_STARTS):
        running = started(trial, name, prefix, address)
        ended = running.ended()
        check_words(ended, codes=(0, 1, 2))
        check_alone(running)
        if ended.code == 0:
            return
        if number == MOST_STARTS - 2:  # a start that is refused at once meets few failures
            trouble.is_on = False
    raise AssertionError(f"{trouble.failures} failures: {ended.text}")


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("how", REFUSALS)
def test_a_store_that_fails_for_a_while_ends_with_the_same_bytes(
    how, name, trial, store, fault_round
):
    random, requests = trial.generator, store.requests(trial, name)
    moment = Moment("requests", random.uniform(0, 0.9))
    trouble = Trouble(
        how=how, generator=random, stop=random.choice((FEW, 20, 100)),
        after=int(moment.share * requests), share=random.choice((0.1, 0.5, 1.0)),
    )  # fmt: skip
    prefix = f"{random.getrandbits(32)}-{name}-{how}"
    with proxy(store.address, trouble) as address:
        run_to_the_end(trial, name, prefix, address, trouble)
    assert trouble.failures, "no request failed"
    check_stored(trial, name, store.address, prefix)
    trial.record(name, f"S3: {how}", moment)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_store_that_takes_seconds_to_answer_costs_no_voxel(name, trial, store, fault_round):
    random, requests = trial.generator, store.requests(trial, name)
    moment = Moment("requests", random.uniform(0, 0.9))
    trouble = Trouble(
        how="slow", generator=random, stop=FEW, after=int(moment.share * requests), share=0.5
    )
    prefix = f"{random.getrandbits(32)}-{name}-slow"
    with proxy(store.address, trouble) as address:
        run_to_the_end(trial, name, prefix, address, trouble)
    assert trouble.seconds > 2 * trouble.failures > 0, "no request was slow"
    check_stored(trial, name, store.address, prefix)
    trial.record(name, "S3: seconds per answer", moment)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_request_that_is_never_answered_holds_no_run_up_for_longer_than_its_timeout(
    name, trial, store, fault_round
):
    """The client gives up after a minute and asks again, or the run ends with one line."""
    random, requests = trial.generator, store.requests(trial, name)
    moment = Moment("requests", random.uniform(0, 0.9))
    trouble = Trouble(how="hang", generator=random, stop=1, after=int(moment.share * requests))
    prefix = f"{random.getrandbits(32)}-{name}-hang"
    with proxy(store.address, trouble) as address:
        run_to_the_end(trial, name, prefix, address, trouble)
    assert trouble.failures == 1
    assert trouble.seconds < GIVEN_UP_S, "the client waited for the server's end of the connection"
    check_stored(trial, name, store.address, prefix)
    trial.record(name, "S3: one request is never answered", moment)


@pytest.mark.parametrize("name", LIST_AGAIN)
def test_listings_of_before_lose_no_object_and_no_voxel(name, trial, store, fault_round):
    """No listing shows what was written a minute ago, also to a run that is resumed."""
    random, requests = trial.generator, store.requests(trial, name)
    moment = Moment("requests", random.uniform(0.3, 0.9))
    trouble = Trouble(how="late", generator=random, stop=0)
    prefix = f"{random.getrandbits(32)}-{name}-late"
    with proxy(store.address, trouble) as address:
        running = started(trial, name, prefix, address)
        wait_for_requests(running, trouble, moment.share * requests)
        running.kill()
        run_to_the_end(trial, name, prefix, address, trouble)
    assert trouble.failures, "no listing was that of before"
    check_stored(trial, name, store.address, prefix)
    trial.record(name, "S3: killed, and listings of before", moment)


def test_listings_that_always_fail_lose_no_object(trial, store):
    """The table is that of all objects, or the run ends with one line."""
    trouble = Trouble(how="500", generator=trial.generator, stop=10**6, key="objects%2Frows")
    prefix = f"{trial.generator.getrandbits(32)}-unlisted"
    with proxy(store.address, trouble) as address:
        run_to_the_end(trial, "objects", prefix, address, trouble)
    assert trouble.failures, "no listing failed"
    check_stored(trial, "objects", store.address, prefix)
    trial.record("objects", "S3: listings always fail")


def test_an_output_that_cannot_be_listed_is_not_replaced(trial, store):
    """Chunks of the earlier output that stay would be taken for those of the new one."""
    prefix = f"{trial.generator.getrandbits(32)}-replaced"
    trouble = Trouble(how="500", generator=trial.generator, stop=10**6, key=f"prefix={prefix}")
    trouble.is_on = False
    with proxy(store.address, trouble) as address:
        check_words(started(trial, "convert", prefix, address).ended())
        before = bucket_content(store.address, prefix)
        trouble.is_on = True
        ended = started(trial, "convert", prefix, address, words=["--overwrite"]).ended()
        check_words(ended, codes=(2,))
        assert "cannot be listed, so it is not deleted" in ended.last_line, ended
    check_content(bucket_content(store.address, prefix), before)
    trial.record("convert", "S3: output cannot be listed", outcome="stopped")


@pytest.mark.parametrize("how", ["500", "403", "drop"])
def test_a_chunk_that_can_never_be_read_is_named_and_all_others_are_done(
    how, trial, store, fault_round
):
    trouble = Trouble(how=how, generator=trial.generator, stop=10**6, key="raw.zarr/c/1/1/2")
    prefix = f"{trial.generator.getrandbits(32)}-never-{how}"
    with proxy(store.address, trouble) as address:
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
    check_stored(trial, "convert", store.address, prefix)
    trial.record("convert", f"S3: one chunk always failed, then repaired: {how}")
