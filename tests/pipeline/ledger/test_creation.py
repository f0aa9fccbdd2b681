"""Any number of runs may create one output at once; wherever they die, it comes out the same."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from faults.commands import PROGRAM
from pipeline.base.errors import OutputError
from pipeline.base.location import Location
from pipeline.base.stores import read_node
from pipeline.ledger import creation
from pipeline.ledger.creation import begin_run_group, complete_run_group, turn_to_measure
from pipeline.ledger.identity import Job
from pipeline.ledger.ledger import BlockState, Ledger, run_attributes
from pipeline.ledger.progress import read_progress
from pipeline.output import documents
from pipeline.output.documents import put_new
from pipeline.output.guard import delete_output
from pipeline.output.image_spec import ImageSpec
from pipeline.output.ome_write import create_images

JOB = Job({"weights": "a" * 64})
RACERS = 3
METADATA = ("zarr.json", ".zarray", ".zattrs", ".zgroup")


def image(path, axes="zyx", **changes):
    fields = {
        "name": path or "scores", "is_label": bool(path), "path": path, "axes": axes,
        "dtype": "uint8", "class_names": ("background", "cell"), "shapes": ((4, 8, 8),),
        "shards": ((4, 8, 8),), "chunks": ((2, 8, 8),), "voxel_sizes": ((1.0, 1.0, 1.0),),
        "translations": ((0.0, 0.0, 0.0),), "unit": (None, None, None),
    }  # fmt: skip
    return ImageSpec(**(fields | changes))


def create(output, number, version="0.5"):
    """Create an output as share ``number`` does; return the number whose run group counts."""
    begin_run_group(
        output, JOB, version=version, overtile="1", shards=[1] * RACERS, intensity=number
    )
    complete_run_group(output, grid=(1, 1, RACERS), version=version, in_shares=True)
    create_images(output, [image(""), image("labels/classes")], version=version)
    return run_attributes(output)["intensity"]


def metadata_of(folder):
    """Return every document but those of the run group and of the shares' own ledgers."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in Path(folder).rglob("*")
        if path.name in METADATA
        and path.parent != Path(folder, "run")
        and Path(folder, "run/shards") not in path.parent.parents
    }


@pytest.fixture(scope="module", params=["0.5", "0.4"])
def reference(request, tmp_path_factory):
    """Return a version of the format, and all documents that one run creates in it."""
    folder = tmp_path_factory.mktemp("reference") / "out.zarr"
    create(Location.parse(folder), 1, request.param)
    root = read_node(Location.parse(folder))
    assert "multiscales" in root.attributes.get("ome", root.attributes)
    return request.param, metadata_of(folder)


# ---- any interleaving, killed anywhere ---------------------------------------------------------


class Killed(BaseException):
    """The end of a process, at any access to the store."""


class Turns:
    """Threads that take their accesses to the store one at a time, in a given order."""

    def __init__(self, order, deaths):
        self._order, self._left = list(order), dict(enumerate(deaths, start=1))
        self._condition = threading.Condition()
        self._waiting, self._turn, self._running = set(), None, set()
        self._errors = []

    def step(self):
        """Wait until it is this thread's turn; die where its accesses are used up."""
        name = threading.current_thread().name
        if name not in self._running:
            return
        with self._condition:
            self._waiting.add(name)
            self._condition.notify_all()
            self._condition.wait_for(lambda: self._turn == name)
            self._turn = None
            self._waiting.discard(name)
        number = int(name)
        self._left[number] -= 1
        if self._left[number] < 0:
            raise Killed

    def run(self, calls):
        """Run the calls to their ends."""
        threads = [
            threading.Thread(target=self._guarded, args=(call,), name=str(number))
            for number, call in enumerate(calls, start=1)
        ]
        self._running = {thread.name for thread in threads}
        for thread in threads:
            thread.start()
        while self._running:
            with self._condition:
                self._condition.wait_for(
                    lambda: self._turn is None and self._waiting == self._running
                )
                if self._running:
                    names = sorted(self._running)
                    wanted = self._order.pop() if self._order else 0
                    self._turn = names[wanted % len(names)]
                    self._condition.notify_all()
        for thread in threads:
            thread.join()
        for error in self._errors:
            raise error

    def _guarded(self, call):
        try:
            call()
        except Killed:
            pass
        except BaseException as error:
            self._errors.append(error)
        with self._condition:
            self._running.discard(threading.current_thread().name)
            self._condition.notify_all()


@given(
    order=st.lists(st.integers(0, RACERS - 1), max_size=120),
    deaths=st.lists(st.integers(0, 45) | st.just(10**6), min_size=RACERS, max_size=RACERS),
)
@example(order=[0, 1, 2] * 40, deaths=[10**6] * RACERS)
@example(order=[], deaths=[3, 7, 10**6])
@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_however_runs_interleave_and_wherever_they_die_the_output_is_complete_and_the_same(
    reference, tmp_path_factory, order, deaths
):
    version, expected = reference
    output = Location.parse(tmp_path_factory.mktemp("raced") / "out.zarr")
    turns, survivors = Turns(order, deaths), {}

    def race(number):
        intensity = create(output, number, version)
        assert metadata_of(output.path) == expected, (
            "it would start to work on an incomplete output"
        )
        ledger = Ledger.open(output, JOB, owner=f"token.{number}")
        ledger.record([(0, 0, number - 1)], BlockState.DONE)
        survivors[number] = intensity

    with pytest.MonkeyPatch.context() as patch:
        for name in ("read_bytes", "put_bytes", "_put_exclusively"):
            patch.setattr(documents, name, stepped(turns, getattr(documents, name)))
        patch.setattr(documents, "_one_at_a_time", contextlib.nullcontext())  # other processes
        turns.run([lambda number=number: race(number) for number in range(1, RACERS + 1)])
    if survivors:
        assert metadata_of(output.path) == expected
    last = create(output, 9, version)
    assert {last, *survivors.values()} == {run_attributes(output)["intensity"]}
    assert metadata_of(output.path) == expected
    done = {progress.number for progress in read_progress(output) if progress.done}
    assert done == set(survivors)


def stepped(turns, function):
    def call(*arguments):
        turns.step()
        return function(*arguments)

    return call


# ---- several processes, files and S3 -----------------------------------------------------------

RACER = """
import pathlib, sys, time
sys.path.insert(0, sys.argv[1])
from test_creation import RACERS, create
from pipeline.base.location import Location
from pipeline.output import documents

documents.SETTLE_S = 0.1
number, meet, *uris = sys.argv[2:]
broken = pathlib.Path(meet, "broken")
try:
    for place, uri in enumerate(uris):
        root = pathlib.Path(meet, str(place))
        root.mkdir(exist_ok=True)
        (root / number).touch()
        while len(list(root.iterdir())) < RACERS:
            time.sleep(0.002)
            if broken.exists():
                raise SystemExit("another one failed")
        print(create(Location.parse(uri), int(number)), flush=True)
except BaseException:
    broken.touch()
    raise
"""


def test_of_several_runs_that_create_an_output_exactly_one_decides_what_differs(
    s3, reference, tmp_path, commands
):
    version, expected = reference
    if version == "0.4":
        pytest.skip("0.5 is enough: the documents are written alike")
    uris = [str(tmp_path / f"{n}.zarr") for n in range(12)] + [f"{s3}/{n}.zarr" for n in range(3)]
    (tmp_path / "meet").mkdir()
    program = tmp_path / "racer.py"
    program.write_text(RACER)
    words = [program, Path(__file__).parent]
    racers = [
        commands.start([*words, number, tmp_path / "meet", *uris], call=PROGRAM)
        for number in range(1, RACERS + 1)
    ]
    ended = [racer.ended(within_s=200) for racer in racers]
    assert [racer.code for racer in ended] == [0] * RACERS, ended
    found = [racer.printed.splitlines() for racer in racers]
    assert found[0] == found[1] == found[2]
    assert found[0] == [str(run_attributes(Location.parse(uri))["intensity"]) for uri in uris]
    for n in range(12):
        assert metadata_of(tmp_path / f"{n}.zarr") == expected


def test_a_store_without_exclusive_creation_still_has_one_winner(tmp_path, monkeypatch):
    def blind(store, key, content):
        raise NotImplementedError

    monkeypatch.setattr(documents, "_put_exclusively", blind)
    output = Location.parse(tmp_path / "out.zarr")
    assert put_new(output, "run/first", b"first")
    assert not put_new(output, "run/first", b"second")
    assert put_new(output, "run/first", b"first"), "the answer to a successful write was lost"


# ---- who measures ------------------------------------------------------------------------------


@pytest.fixture
def measure(tmp_path, monkeypatch):
    """Return a function that creates a run group as a share does, and the output."""
    monkeypatch.setattr(creation, "SILENT_AFTER_S", 0.5)
    output = Location.parse(tmp_path / "out.zarr")

    def run(token, *, work=lambda: None, notify=lambda text: None):
        with turn_to_measure(output, token=token, notify=notify) as is_mine:
            if is_mine:
                work()
                return begin_run_group(output, JOB, version="0.5", intensity=token)
            return None

    return run, output


def mark(token):
    return json.dumps({"token": token, "beat": 0}).encode()


def test_one_share_measures_and_the_others_wait_and_say_so_once(measure):
    run, output = measure
    said, started, results = [], threading.Event(), []

    def work():
        started.set()
        time.sleep(0.4)

    first = threading.Thread(target=lambda: results.append(run("first", work=work)))
    first.start()
    started.wait()
    assert run("second", work=pytest.fail, notify=said.append) is None
    first.join()
    assert results == [True]
    assert said == ["another share measures the normalisation: waiting for it"]
    assert run_attributes(output)["intensity"] == "first"
    assert not (output / "run/measuring").path.exists()


def test_a_share_that_failed_or_died_while_measuring_is_followed_by_the_next(measure):
    run, output = measure

    def fails():
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        run("fails", work=fails)
    assert not (output / "run/measuring").path.exists(), "the next one would wait"
    assert put_new(output, "run/measuring", mark("dead"))  # it never beats
    began = time.monotonic()
    assert run("next")
    assert time.monotonic() - began >= 0.5
    assert run_attributes(output)["intensity"] == "next"


def test_a_share_that_was_taken_for_dead_uses_what_the_other_one_measured(measure):
    run, output = measure
    assert run("slow", work=lambda: run("quick")) is False
    assert run_attributes(output)["intensity"] == "quick"


def test_a_share_does_not_wait_for_ever_for_one_that_is_alive(measure, monkeypatch):
    run, output = measure
    monkeypatch.setattr(creation, "SILENT_AFTER_S", 60.0)
    monkeypatch.setattr(creation, "LONGEST_WAIT_S", 0.6)
    assert put_new(output, "run/measuring", mark("other"))
    assert run("waits")
    assert run_attributes(output)["intensity"] == "waits"


def test_a_share_that_waits_while_the_output_is_deleted_creates_it(measure):
    run, output = measure
    assert begin_run_group(output, JOB, version="0.5")
    delete_output(output)
    assert read_node(output, path="run") is None
    assert run("next")


# ---- what is refused ---------------------------------------------------------------------------


def test_an_array_of_another_layout_is_refused(tmp_path):
    output = Location.parse(tmp_path / "out.zarr")
    create_images(output, [image("labels/classes")], version="0.5")
    with pytest.raises(OutputError, match=r"labels/classes/0 exists and is another array"):
        create_images(output, [image("labels/classes", dtype="uint16")], version="0.5")
