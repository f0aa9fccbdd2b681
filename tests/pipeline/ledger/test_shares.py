"""Shares of a volume: independent runs give the same output as one run."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from pipeline import SegmentRequest, segment_volume
from pipeline.base.errors import OutputError, PlanError, RunError
from pipeline.base.geometry import Box
from pipeline.base.local_client import local_client
from pipeline.base.location import Location
from pipeline.base.stores import open_group
from pipeline.ledger import creation
from pipeline.ledger.figures import Figures
from pipeline.ledger.ledger import (
    BlockState,
    run_attributes,
)
from pipeline.ledger.progress import blocks_done, read_progress
from pipeline.ledger.shares import MERGED, incomplete_shares, merge_shares
from pipeline.planning.blocks import Region
from pipeline.planning.shares import Share, cut
from pipeline.segmentation import start
from pipeline.segmentation.prepare import prepare
from pipeline.segmentation.run import SegmentRun
from unet import UNetPredictor

SHAPE, BLOCK, SHARES = (4, 48, 264), (4, 16, 24), 3
PARTS = (12, 12, 9)
BLOCKS = sum(PARTS)


@pytest.fixture(scope="module")
def predictor(weights):
    return UNetPredictor(weights("3d"), precision="fp32", device="cpu")


@pytest.fixture(scope="module")
def source(textured, tmp_path_factory):
    path = tmp_path_factory.mktemp("shards") / "in.zarr"
    zarr.create_array(path, data=textured(SHAPE), chunks=(8, 16, 64))
    return str(path)


@pytest.fixture(scope="module")
def clients():
    """Return three separate clusters, as of three jobs."""
    with ExitStack() as stack:
        yield [stack.enter_context(local_client()) for _ in range(SHARES)]


@pytest.fixture
def segment(source, predictor, clients):
    """Return a function that runs one share, or the whole."""

    def run(out, shard=None, **options):
        number = int(shard.partition("/")[0]) if shard else 1
        values = {"block": BLOCK, "outputs": ("classes", "scores"), "shard": shard,
                  "normalisation": {"kind": "percentile"}}  # fmt: skip
        client = clients[(number - 1) % SHARES]
        return segment_volume(source, str(out), predictor, client=client, **(values | options))

    return run


def finish(out, source, predictor, client, **options):
    """Finish an output as ``overtile finish`` does."""
    request = SegmentRequest(
        input=source, output=str(out), block=BLOCK, outputs=("classes", "scores"),
        normalisation={"kind": "percentile"}, **options,
    )  # fmt: skip
    prepared = prepare(request, predictor, finishing=True)
    merge_shares(prepared.request.output)
    run = SegmentRun.start(prepared, client)
    for region in run.regions:
        run.segment_region(region)
    return run.finish()


def voxels_of(out):
    """Return every array of an output except the ledger."""
    group = open_group(Location.parse(out))
    paths = ["0", "1", "labels/classes/0", "labels/classes/1"]
    return {path: np.asarray(group[path][...]) for path in paths}


@pytest.fixture(scope="module")
def whole(source, predictor, clients, tmp_path_factory):
    """Return the arrays that one run makes."""
    out = tmp_path_factory.mktemp("whole") / "out.zarr"
    segment_volume(
        source, str(out), predictor, client=clients[0], block=BLOCK,
        outputs=("classes", "scores"), normalisation={"kind": "percentile"},
    )  # fmt: skip
    return voxels_of(out)


# ---- which regions -----------------------------------------------------------------------------


@given(st.lists(st.integers(1, 30), min_size=1, max_size=60), st.data())
def test_shares_are_contiguous_cover_every_region_once_and_are_near_equal(sizes, data):
    of = data.draw(st.integers(1, len(sizes)))
    edges = [0, *itertools.accumulate(sizes)]
    regions = [Region(n, Box((a,), (b,))) for n, (a, b) in enumerate(itertools.pairwise(edges))]
    shares = cut(regions, Share(1, of))
    assert [region for share in shares for region in share] == regions
    assert len(shares) == of
    assert all(shares)
    blocks = [sum(map(len, share)) for share in shares]
    assert all(abs(n - sum(sizes) / of) <= max(sizes) for n in blocks)


@pytest.mark.parametrize("text", ["", "2", "0/3", "4/3", "1/0", "a/b", "1/3/3", "-1/3", "1.5/3"])
def test_an_invalid_share_is_refused_in_one_line(text, source):
    with pytest.raises(PlanError, match=r"expected i/N, from 1/N to N/N") as caught:
        SegmentRequest(input=source, output="out.zarr", shard=text)
    assert "\n" not in str(caught.value)


def test_more_shares_than_regions_are_refused_with_the_number_that_fits(segment, tmp_path):
    with pytest.raises(PlanError, match=r"--shard 9/70: .* has 3 regions .* at most 3 shares"):
        segment(tmp_path / "out.zarr", "9/70")
    assert not (tmp_path / "out.zarr").exists()


# ---- the promise -------------------------------------------------------------------------------


@pytest.fixture
def measured(monkeypatch):
    """Return a list that grows when grey values are measured."""
    times, measure = [], start.measure_intensity

    def counted(*arguments, **options):
        times.append(1)
        return measure(*arguments, **options)

    monkeypatch.setattr(start, "measure_intensity", counted)
    return times


def together(segment, out, of, **options):
    """Run all shares at the same time; return their figures."""
    with ThreadPoolExecutor(of) as pool:
        futures = [pool.submit(segment, out, f"{n}/{of}", **options) for n in range(1, of + 1)]
        return [future.result() for future in futures]


def test_concurrent_shares_equal_one_run_and_measure_once(
    segment, whole, source, predictor, clients, measured, tmp_path
):
    out = tmp_path / "out.zarr"
    came_to = together(segment, out, SHARES)
    assert len(measured) == 1
    states = read_progress(Location.parse(out))
    assert [(s.number, s.of, s.done, s.left) for s in states] == [
        (n, SHARES, blocks, 0) for n, blocks in enumerate(PARTS, start=1)
    ]
    assert sum(figures.blocks for figures in came_to) == BLOCKS == blocks_done(Location.parse(out))
    assert "1" in open_group(Location.parse(out))
    assert not np.asarray(open_group(Location.parse(out))["1"][...]).any(), (
        "a share built the pyramid"
    )
    figures = finish(out, source, predictor, clients[0])
    assert (figures.blocks, figures.voxels) == (BLOCKS, np.prod(SHAPE))
    assert len(measured) == 1
    for path, voxels in voxels_of(out).items():
        np.testing.assert_array_equal(voxels, whole[path], err_msg=path)


@pytest.mark.slow
def test_concurrent_shares_on_s3_create_one_output_and_merge_their_ledgers(
    segment, whole, s3, measured
):
    out = Location.parse(f"{s3}/together.zarr")
    together(segment, out, 2, outputs=("classes",))
    assert len(measured) == 1
    merge_shares(out)
    group = open_group(out)
    np.testing.assert_array_equal(group["run/done"][...], BlockState.DONE)
    np.testing.assert_array_equal(group["labels/classes/0"][...], whole["labels/classes/0"])
    figures = Figures.from_json(run_attributes(out)["figures"])
    assert (figures.blocks, figures.voxels) == (BLOCKS, np.prod(SHAPE))


def test_after_finish_nothing_is_left_and_figures_count_once(
    segment, source, predictor, clients, tmp_path
):
    out = tmp_path / "out.zarr"
    for number in (2, 1, 3):
        segment(out, f"{number}/3")
    once = finish(out, source, predictor, clients[0])
    twice = finish(out, source, predictor, clients[0])
    assert once.blocks == twice.blocks == segment(out).blocks == BLOCKS
    assert segment(out, "2/3").blocks == 12
    assert run_attributes(Location.parse(out))["pyramid"] == "complete"
    assert (out / "run/report.html").exists()
    assert (out / "run/shards/3/report.html").exists()


def test_a_share_has_its_own_ledger_and_resumes_alone(segment, tmp_path):
    out = tmp_path / "out.zarr"
    segment(out, "1/3")
    segment(out, "3/3")
    part = zarr.open_array(out / "run/shards/3/done", mode="r+")
    others = {path: path.stat().st_mtime_ns for path in (out / "run/shards/1").rglob("*")}
    chosen = tuple(np.argwhere(part[...] == BlockState.DONE)[5])
    part[chosen] = BlockState.SET_ASIDE
    states = read_progress(Location.parse(out))
    assert [(s.number, s.done, len(s.set_aside), s.left) for s in states] == [
        (1, 12, 0, 0), (2, 0, 0, 12), (3, 8, 1, 1),
    ]  # fmt: skip
    assert [s.number for s in incomplete_shares(Location.parse(out))] == [2, 3]
    assert segment(out, "3/3").blocks == 10, "one block more than before"
    assert read_progress(Location.parse(out))[2].left == 0
    assert {path: path.stat().st_mtime_ns for path in (out / "run/shards/1").rglob("*")} == others


def test_a_share_that_is_started_twice_is_taken_over_and_its_neighbours_are_not(
    segment, source, predictor, clients, tmp_path
):
    out = tmp_path / "out.zarr"
    segment(out, "1/3", engine="store")

    def opened(shard):
        request = SegmentRequest(
            input=source, output=str(out), block=BLOCK, outputs=("classes", "scores"),
            normalisation={"kind": "percentile"}, shard=shard,
        )  # fmt: skip
        return SegmentRun.open(request, predictor, clients[0])

    first, neighbour = opened("2/3"), opened("3/3")
    second = opened("2/3")
    with pytest.raises(RunError, match=r"another run has taken over .*shards/2"):
        first.note_figures()
    neighbour.segment_region(neighbour.regions[0])
    second.segment_region(second.regions[0])
    assert [s.done for s in read_progress(Location.parse(out))] == [12, 12, 9]


# ---- what is refused ---------------------------------------------------------------------------


def test_a_share_of_an_unsuitable_output_is_refused_in_one_line(
    segment, source, predictor, clients, tmp_path
):
    shared, plain = tmp_path / "shared.zarr", tmp_path / "plain.zarr"
    segment(shared, "1/3")
    segment(plain)
    before = run_attributes(Location.parse(shared)), run_attributes(Location.parse(plain))
    for refused, match in (
        (lambda: segment(shared, "2/4"), r"made in 3 shares, not 4"),
        (lambda: segment(shared, "2/3", scores_dtype="float32"), r"another job \(scores_dtype"),
        (lambda: segment(shared), r"made in 3 shares: resume it with --shard i/3, then overtile f"),
        (lambda: segment(plain, "1/3"), r"started without --shard: resume it without --shard 1/3"),
        (
            lambda: finish(plain, source, predictor, clients[0]),
            r"started without .* not finish",
        ),
        (lambda: finish(tmp_path / "no", source, predictor, clients[0]), r"nothing to finish"),
        (lambda: segment(shared, "1/3", overwrite=True), r"delete the others' blocks; delete "),
    ):
        with pytest.raises((OutputError, PlanError), match=match) as caught:
            refused()
        assert "\n" not in str(caught.value)
    with pytest.raises(RunError, match=r"shard 2/3 misses 12 of 12 blocks, shard 3/3 misses 9"):
        finish(shared, source, predictor, clients[0])
    assert before == (run_attributes(Location.parse(shared)), run_attributes(Location.parse(plain)))
    assert MERGED not in before[0]


@pytest.mark.slow
def test_overwrite_without_a_share_replaces_what_shares_began(segment, whole, tmp_path):
    out = tmp_path / "out.zarr"
    segment(out, "1/3")
    segment(out, overwrite=True)
    np.testing.assert_array_equal(voxels_of(out)["1"], whole["1"])
    assert [(s.number, s.of, s.done) for s in read_progress(Location.parse(out))] == [
        (1, 1, BLOCKS)
    ]


@pytest.mark.parametrize("version", ["0.5", "0.4"])
def test_an_output_that_another_share_just_started_counts_as_ours(
    version, segment, monkeypatch, tmp_path
):
    out = tmp_path / "out.zarr"
    (out / "run").mkdir(parents=True)
    (out / "run/zarr.0f1e.partial").touch()
    (out / "run/measuring").write_text("{}")
    monkeypatch.setattr(creation, "SILENT_AFTER_S", 0.5)
    segment(out, "2/3", format=version)
    assert [s.done for s in read_progress(Location.parse(out))] == [0, 12, 0]
    assert not (out / "run/measuring").exists()
    for name in ("there", "run"):
        zarr.create_array(tmp_path / f"{name}.zarr/{name}", shape=(3,), dtype="u1")
        with pytest.raises(OutputError, match=r"other files|not made by overtile"):
            segment(tmp_path / f"{name}.zarr", "1/3")


# ---- creations that meet, or end early ---------------------------------------------------------


def test_a_run_that_finds_the_output_created_in_the_same_moment_ends(
    segment, monkeypatch, tmp_path
):
    out, measure = tmp_path / "out.zarr", start.measure_intensity

    def late(*arguments, **options):
        monkeypatch.setattr(start, "measure_intensity", measure)
        segment(out)
        return measure(*arguments, **options)

    monkeypatch.setattr(start, "measure_intensity", late)
    with pytest.raises(OutputError, match=r"another run is creating .* choose another output"):
        segment(out)
    assert blocks_done(Location.parse(out)) == BLOCKS


@pytest.mark.slow
def test_the_same_run_completes_a_creation_that_was_cut_short(
    segment, whole, monkeypatch, tmp_path
):
    out = tmp_path / "out.zarr"

    def ends(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(start, "create_images", ends)
        with pytest.raises(KeyboardInterrupt):
            segment(out)
    assert not (out / "zarr.json").exists()
    assert [(s.done, s.blocks) for s in read_progress(Location.parse(out))] == [(0, BLOCKS)]
    with pytest.raises(OutputError, match="belongs to another job"):
        segment(out, outputs=("classes",))
    segment(out)
    np.testing.assert_array_equal(voxels_of(out)["1"], whole["1"])


@pytest.mark.slow
def test_what_an_older_version_did_not_create_completely_is_replaced_but_not_by_shares(
    segment, tmp_path
):
    old = {"job": {}, "job_digest": "0", "overtile": "0.1.0"}
    for name in ("plain.zarr", "shared.zarr"):
        group = zarr.create_group(tmp_path / name).create_group("run")
        group.attrs.update(old | ({"shards": [12, 12, 9]} if name == "shared.zarr" else {}))
    with pytest.raises(OutputError, match=r"not created completely by an older version.* delete"):
        segment(tmp_path / "shared.zarr", "1/3")
    segment(tmp_path / "plain.zarr")
    assert blocks_done(Location.parse(tmp_path / "plain.zarr")) == BLOCKS
