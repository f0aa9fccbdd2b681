"""Runs of shares: in any order and number, killed and repeated, they give the bytes of one run."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import zarr

from pipeline.base.errors import OutputError, PlanError, RunError
from pipeline.base.local_client import local_client
from pipeline.base.location import Location
from pipeline.ledger.status import read_status
from pipeline.objects import task_run
from pipeline.objects.definition.request import ObjectsRequest
from pipeline.objects.preparation.prepare import prepare_objects
from pipeline.objects.run import ObjectsRun

SHAPE, BLOCK, BLOCKS = (4, 16, 24), (2, 4, 6), 2 * 4 * 4
REGIONS, OWN = 4, 8
"""Regions, and blocks of each: the blocks of a share, where each region is one."""
WATERSHED = {"method": "watershed", "depth": 0.1, "connectivity": 18}
KINDS = {
    "components": {"threshold": 0.4},
    "watershed": WATERSHED,
    "all": {
        **WATERSHED, "threshold": 0.8, "agglomerate": "mean", "merge_threshold": 0.5,
        "fill_holes": True, "csv": True,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def threads():
    with local_client() as client:
        yield client


@pytest.fixture(scope="module")
def source(textured, tmp_path_factory):
    path = tmp_path_factory.mktemp("shares") / "scores.zarr"
    zarr.create_array(path, data=textured(SHAPE, seed=5), chunks=(6, 8, 8))
    return path


@pytest.fixture
def find(threads, source, tmp_path):
    """Return a function that does one run into one output."""

    def run(
        shard=None, *, output=tmp_path / "out.zarr", client=threads, completes=True, **options
    ):  # fmt: skip
        request = ObjectsRequest(
            scores=str(source), output=str(output), shard=shard, axes="zyx", role="boundary",
            **{"block": BLOCK, **options},
        )  # fmt: skip
        made = ObjectsRun.start(prepare_objects(request), client)
        if completes:
            made.complete()
        return made

    run.output = tmp_path / "out.zarr"
    return run


def files_of(output):
    """Return the content of every file of an output, without its ledger."""
    return {
        str(path.relative_to(output)): path.read_bytes()
        for path in output.rglob("*")
        if path.is_file() and path.relative_to(output).parts[0] != "run"
    }


@pytest.fixture(scope="module")
def alone(threads, source, tmp_path_factory):
    """Return a function from a kind of objects to the files of one run."""
    made = {}

    def files(kind):
        if kind not in made:
            output = tmp_path_factory.mktemp("alone") / "out.zarr"
            request = ObjectsRequest(
                scores=str(source), output=str(output), axes="zyx", role="boundary", block=BLOCK,
                **KINDS[kind],
            )  # fmt: skip
            assert ObjectsRun.start(prepare_objects(request), threads).complete() > 5
            made[kind] = files_of(output)
        return made[kind]

    return files


def order_of(count, seed):
    """Return the shares of a number of shares, in some order."""
    numbers = np.random.default_rng(seed).permutation(count) + 1
    return [f"{number}/{count}" for number in numbers]


@pytest.mark.parametrize(
    ("count", "kind"),
    [
        (2, "watershed"),
        pytest.param(2, "all", marks=pytest.mark.slow),
        pytest.param(1, "components", marks=pytest.mark.slow),
        pytest.param(3, "watershed", marks=pytest.mark.slow),
        pytest.param(REGIONS, "all", marks=pytest.mark.slow),
    ],
)
def test_shares_in_any_order_and_number_give_the_bytes_of_one_run(count, kind, alone, find):
    options = KINDS[kind]
    for shard in order_of(count, seed=1):
        find(shard, **options)
    assert not (find.output / "labels").exists(), "a share only labels"
    find(merge_only=True, **options)
    for shard in order_of(count, seed=2):
        find(shard, **options)
    find(**options)
    assert files_of(find.output) == alone(kind)
    assert not (find.output / "run/objects").exists()


@pytest.mark.slow
def test_the_last_run_merges_and_writes_itself_what_no_share_has_written(alone, find):
    options = KINDS["watershed"]
    for shard in order_of(3, seed=1):
        find(shard, **options)
    assert find(**options).resumed_blocks == 0
    assert files_of(find.output) == alone("watershed")


@pytest.mark.slow
def test_the_last_run_writes_only_what_shares_have_left(alone, find):
    options = KINDS["watershed"]
    for shard in order_of(3, seed=1):
        find(shard, **options)
    find(merge_only=True, **options)
    written = find("2/3", **options).blocks
    assert 0 < written < BLOCKS
    assert find(**options).resumed_blocks == written
    assert files_of(find.output) == alone("watershed")


def test_shares_that_are_killed_anywhere_and_repeated_give_the_same_bytes(alone, find, monkeypatch):
    options, random, drive = KINDS["watershed"], np.random.default_rng(3), task_run.drive
    killed = []

    def stopping(client, items, submit, *, limit, stop):
        for batch in drive(client, items, submit, limit=limit, stop=stop):
            yield batch
            left[0] -= len(batch)
            if left[0] < 0:
                raise RunError("killed by the test")

    monkeypatch.setattr(task_run, "drive", stopping)
    steps = [
        *({"shard": shard} for shard in order_of(3, seed=1)), {"merge_only": True},
        *({"shard": shard} for shard in order_of(3, seed=1)), {},
    ]  # fmt: skip
    for step in steps:
        for _ in range(60):
            left = [int(random.integers(5, 30))]
            try:
                find(**step, **options)
            except RunError as error:
                killed.append(str(error))
            else:
                break
        else:
            pytest.fail("it never ends")
    assert len(killed) >= 4
    assert files_of(find.output) == alone("watershed")


def test_two_shares_at_the_same_time_do_not_disturb_each_other(alone, find):
    options, failed = KINDS["watershed"], []

    def do(shard):
        try:
            with local_client() as client:
                find(shard, client=client, **options)
        except Exception as error:
            failed.append(error)

    for round_ in ("label", "write"):
        runs = [threading.Thread(target=do, args=(shard,)) for shard in ("1/2", "2/2")]
        for run in runs:
            run.start()
        for run in runs:
            run.join()
        assert not failed
        if round_ == "label":
            find(merge_only=True, **options)
    assert find(**options).resumed_blocks == BLOCKS
    assert files_of(find.output) == alone("watershed")


@pytest.mark.parametrize("last", [{}, {"merge_only": True}], ids=["last run", "merge only"])
def test_shares_that_have_not_labelled_all_their_blocks_are_named(last, find):
    find("2/4"), find("4/4")
    before = {path: path.stat().st_mtime_ns for path in find.output.rglob("*")}
    with pytest.raises(
        RunError,
        match=r"not every block of .*out\.zarr is labelled: shard 1/4 misses 8 of 8 blocks, "
        r"shard 3/4 misses 8 of 8 blocks; run the same command with --shard 1/4, 3/4, then this",
    ):
        find(**last)
    assert {path: path.stat().st_mtime_ns for path in find.output.rglob("*")} == before


def test_what_does_not_fit_together_is_refused_and_nothing_is_written(find, tmp_path):
    find("1/3")
    find(output=tmp_path / "plain.zarr", keep_intermediates=True)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    for shard, options, error, says in (
        ("2/3", {"threshold": 0.4}, OutputError, r"another job \(threshold was"),
        ("2/2", {}, OutputError, r"made in 3 shares, not 2: resume it with --shard i/3"),
        ("4/3", {}, PlanError, r"--shard '4/3': expected i/N"),
        ("1/5", {"output": tmp_path / "new.zarr"}, PlanError, r"the volume has 4 regions"),
        ("2/3", {"overwrite": True}, PlanError, r"--overwrite with --shard 2/3: each share"),
        ("2/3", {"merge_only": True}, PlanError, r"--merge-only with --shard 2/3"),
        (None, {"merge_only": True, "overwrite": True}, PlanError, r"with --overwrite"),
        ("2/3", {"output": tmp_path / "plain.zarr"}, OutputError, r"was started without --shard"),
        (None, {"output": tmp_path / "plain.zarr", "merge_only": True}, OutputError,
         r"--merge-only: .* is not made in shares"),
        (None, {"output": tmp_path / "none.zarr", "merge_only": True}, OutputError,
         r"--merge-only: .* is not made in shares"),
    ):  # fmt: skip
        with pytest.raises(error, match=says):
            find(shard, **options)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.slow
def test_a_share_that_comes_late_changes_nothing(alone, find):
    options = KINDS["watershed"]
    for shard in order_of(2, seed=1):
        find(shard, **options)
    find(**options)
    assert find("1/2", **options).has_ended
    assert files_of(find.output) == alone("watershed")
    assert not (find.output / "run/objects").exists()


@pytest.mark.parametrize(
    "is_merged", [pytest.param(False, marks=pytest.mark.slow), True], ids=["labelled", "merged"]
)
def test_a_share_whose_blocks_the_last_run_has_taken_over_ends_and_writes_nothing(
    is_merged, alone, find
):
    options = KINDS["watershed"]
    for shard in order_of(2, seed=1):
        find(shard, **options)
    if is_merged:
        find(merge_only=True, **options)
    late = find("1/2", completes=False, **options)
    last = find(completes=False, **options)
    with pytest.raises(RunError, match="another run has taken over"):
        late.complete()
    last.complete()
    assert files_of(find.output) == alone("watershed")
    assert not (find.output / "run/objects").exists()


@pytest.mark.slow
def test_the_status_counts_blocks_that_are_labelled_and_blocks_that_are_written(find):
    def counts():
        status = read_status(Location.parse(str(find.output)))
        shares = [(share.labelled, share.done) for share in status.shares]
        return shares, (status.total.labelled, status.total.done, status.total.computed)

    find("2/4")
    assert read_status(Location.parse(str(find.output))).intermediates >= 2 * OWN
    assert counts() == ([(0, 0), (OWN, 0), (0, 0), (0, 0)], (OWN, 0, BLOCKS))
    for shard in ("1/4", "3/4", "4/4"):
        find(shard)
    find(merge_only=True)
    find("3/4")
    assert counts() == (
        [(OWN, 0), (OWN, 0), (0, OWN), (OWN, 0)], (3 * OWN, OWN, BLOCKS)
    )  # fmt: skip
    find()
    assert counts() == ([(0, BLOCKS)], (0, BLOCKS, BLOCKS))
    complete = read_status(Location.parse(str(find.output)))
    assert (complete.pyramid, complete.intermediates) == (True, 0)
