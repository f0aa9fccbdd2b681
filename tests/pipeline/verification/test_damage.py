"""Any damage to the files of an output is found, and repaired to the bytes of a sound run."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress

import boto3
import numpy as np
import pytest
import zarr

from pipeline import segment_volume
from pipeline.base.errors import OutputError
from pipeline.base.geometry import Box
from pipeline.base.local_client import local_client
from pipeline.base.location import Location
from pipeline.base.shard_store import ShardStore
from pipeline.base.stores import open_store
from pipeline.conversion.prepare import prepare_conversion
from pipeline.conversion.request import ConvertRequest
from pipeline.conversion.run import ConversionRun
from pipeline.ledger.digests import read_digests
from pipeline.ledger.ledger import BlockState, run_group
from pipeline.ledger.progress import read_progress
from pipeline.ledger.shares import merge_shares
from pipeline.ledger.status import read_status
from pipeline.segmentation.engines.block import segment_block
from pipeline.segmentation.prepare import prepare
from pipeline.segmentation.request import SegmentRequest
from pipeline.segmentation.run import SegmentRun
from pipeline.segmentation.sequence import complete
from pipeline.verification.repair import repair_output
from pipeline.verification.verify import verify_output
from unet import UNetPredictor

SHAPE, BLOCK = (6, 20, 270), (4, 16, 64)
BLOCKS = 2 * 2 * 5
SHARDS = 2 * 2 * 3
"""Of a coarser level, where x is halved."""
FAULTS = ("flip", "cut", "delete", "swap")


@pytest.fixture(scope="module")
def threads():
    with local_client() as client:
        yield client


@pytest.fixture(scope="module")
def source(textured, tmp_path_factory):
    path = tmp_path_factory.mktemp("verified") / "in.zarr"
    zarr.create_array(path, data=textured(SHAPE), dimension_names=["z", "y", "x"])
    return path


@pytest.fixture(scope="module")
def segment(weights, source, threads):
    predictor = UNetPredictor(weights("3d"), precision="fp32")

    def run(output, **settings):
        options = {"block": BLOCK, "outputs": ("classes", "scores"), **settings}
        return segment_volume(str(source), str(output), predictor, client=threads, **options)

    run.predictor = predictor
    return run


@pytest.fixture(scope="module")
def convert(source, threads):
    """Return a function that converts the volume: blocks of several files, and one of zeros."""
    raw = np.array(zarr.open_array(source, mode="r")[...])
    raw[:, :, :128] = 0
    zeros = source.parent / "zeros.zarr"
    zarr.create_array(zeros, data=raw, chunks=(6, 20, 128), dimension_names=["z", "y", "x"])

    def run(output, **settings):
        sizes = {"shard": (4, 16, 64), "chunk": (2, 8, 64), **settings}
        request = ConvertRequest(input=str(zeros), output=str(output), **sizes)
        conversion = ConversionRun.start(prepare_conversion(request), threads)
        conversion.complete()
        return conversion

    return run


def verified(output):
    return verify_output(Location.parse(output), on_cell=lambda done, total: None)


def stored(output):
    """Return the content of every file of every array, without the ledger."""
    files = (path for path in output.rglob("*") if path.is_file())
    named = {str(path.relative_to(output)): path for path in files}
    return {name: p.read_bytes() for name, p in named.items() if not name.startswith("run/")}


def chunks_of(output):
    documents = ("zarr.json", ".zattrs", ".zarray", ".zgroup")
    return sorted(name for name in stored(output) if not name.endswith(documents))


def hurt(output, name, fault, random):
    """Damage a file so that its bytes differ; return what they were."""
    path = output / name
    before = path.read_bytes()
    if fault == "flip":
        bit = int(random.integers(8 * len(before)))
        after = bytearray(before)
        after[bit // 8] ^= 1 << bit % 8
        path.write_bytes(after)
    elif fault == "cut":
        path.write_bytes(before[: int(random.integers(len(before)))])
    elif fault == "delete":
        path.unlink()
    else:
        like = [n for n in chunks_of(output) if n.split("/c/")[0] == name.split("/c/")[0]]
        other = next(n for n in like if (output / n).read_bytes() != before)
        shutil.copyfile(output / other, path)
    return before


@pytest.fixture(scope="module")
def whole(segment, tmp_path_factory):
    output = tmp_path_factory.mktemp("whole") / "out.zarr"
    segment(output)
    return output


def test_an_intact_output_has_no_finding_and_every_file_is_compared(whole):
    result = verified(whole)
    assert result.findings == ()
    assert (result.done, result.left, result.unrecorded_blocks) == (BLOCKS, 0, 0)
    assert result.checked == 2 * BLOCKS + 2 * SHARDS
    assert {found.path for found in read_digests(run_group(Location.parse(whole)))} == {
        "0", "1", "labels/classes/0", "labels/classes/1"}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_any_damage_to_any_file_is_found_with_its_file_array_and_voxels(whole, fault, tmp_path):
    output = tmp_path / "out.zarr"
    shutil.copytree(whole, output)
    random = np.random.default_rng(FAULTS.index(fault))
    names = chunks_of(output)
    assert len(names) == 2 * BLOCKS + 2 * SHARDS
    for name in random.choice(names, 6, replace=False).tolist():
        before = hurt(output, name, fault, random)
        (finding,) = verified(output).findings
        assert finding.files == (name,)
        assert finding.path == name.split("/c/")[0]
        place = tuple(map(int, name.split("/c/")[1].split("/")))
        array = zarr.open_array(output / finding.path, mode="r")
        start = tuple(p * s for p, s in zip(place, array.shards, strict=True))
        assert finding.box == Box(start, tuple(
            min(a + s, n) for a, s, n in zip(start, array.shards, array.shape, strict=True)
        ))  # fmt: skip
        assert (finding.block is None) == finding.path.endswith("1")
        expected = {"delete": {"missing"}, "swap": {"changed"}, "cut": {"torn"}}
        assert finding.problem in expected.get(fault, {"torn", "changed"})
        (output / name).write_bytes(before)
    assert verified(output).findings == ()


def test_a_repair_computes_exactly_the_damaged_blocks_again_to_the_same_bytes(
    whole, segment, tmp_path
):
    output = tmp_path / "out.zarr"
    shutil.copytree(whole, output)
    undisturbed, random = stored(whole), np.random.default_rng(4)
    hurt(output, "0/c/0/0/0/0", "cut", random)
    hurt(output, "labels/classes/0/c/1/1/4", "flip", random)  # smaller: at three edges
    hurt(output, "0/c/0/1/0/2", "delete", random)
    blocks = {finding.block for finding in verified(output).findings}
    assert blocks == {(0, 0, 0), (1, 1, 4), (1, 0, 2)}
    kept = {
        path: path.stat().st_mtime_ns for path in (output / "0/c").rglob("*") if path.is_file()
        and str(path.relative_to(output)) not in ("0/c/0/0/0/0", "0/c/0/1/1/4", "0/c/0/1/0/2")
    }  # fmt: skip
    assert repair_output(verified(output)) == 3
    assert verified(output).left == 3
    figures = segment(output)
    assert figures.blocks == BLOCKS + 3
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert stored(output) == undisturbed
    assert verified(output).findings == ()


def test_a_damaged_coarser_level_is_built_again_and_no_block(whole, segment, tmp_path):
    output = tmp_path / "out.zarr"
    shutil.copytree(whole, output)
    hurt(output, "labels/classes/1/c/0/0/0", "cut", np.random.default_rng(1))
    assert repair_output(verified(output)) == 0
    assert segment(output).blocks == BLOCKS
    assert stored(output) == stored(whole)


def test_levels_that_were_built_from_a_damaged_block_are_built_again(whole, segment, tmp_path):
    output = tmp_path / "out.zarr"
    shutil.copytree(whole, output)
    hurt(output, "0/c/0/0/0/1", "swap", np.random.default_rng(0))
    zarr.open_group(output / "run", mode="r+").attrs.update({"pyramid": None, "levels": []})
    segment(output)
    wrong, right = stored(output), stored(whole)
    assert {name.split("/c/")[0] for name in wrong if wrong[name] != right[name]} == {"0", "1"}
    (finding,) = verified(output).findings
    assert finding.path == "0"
    assert repair_output(verified(output)) == 1
    segment(output)
    assert stored(output) == right


@pytest.mark.parametrize("settings", [{"format": "0.4"}, {}], ids=["0.4", "0.5"])
def test_blocks_of_several_files_are_found_and_converted_again(convert, settings, tmp_path):
    output, random = tmp_path / "out.zarr", np.random.default_rng(2)
    convert(output, **settings)
    undisturbed, names = stored(output), chunks_of(output)
    assert verified(output).findings == ()
    chosen = list(zip(random.choice(names, 3, replace=False).tolist(), FAULTS[:3], strict=True))
    for name, fault in chosen:
        before = hurt(output, name, fault, random)
        (finding,) = verified(output).findings
        assert name in finding.files
        (output / name).write_bytes(before)
    for name, fault in chosen:
        hurt(output, name, fault, random)
    assert verified(output).findings
    repair_output(verified(output))
    convert(output, **settings)
    assert stored(output) == undisturbed


def test_a_file_where_all_voxels_were_0_is_found(convert, tmp_path):
    output = tmp_path / "out.zarr"
    convert(output)
    names = chunks_of(output)
    absent = next(
        name for x in range(4) if (name := f"0/c/0/0/{x}") not in names
    )  # fmt: skip
    (output / absent).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(output / next(n for n in names if n.startswith("0/c/")), output / absent)
    (finding,) = verified(output).findings
    assert absent in finding.files


# ---- digests -----------------------------------------------------------------------------------


def digests_in(output):
    found = read_digests(run_group(Location.parse(output)))
    return {one.path: one.values.tolist() for one in found}


def test_a_block_that_ends_again_after_it_was_recorded_has_the_same_digest_and_bytes(
    whole, segment, source, threads, tmp_path
):
    output = tmp_path / "out.zarr"
    shutil.copytree(whole, output)
    run = started(output, source, segment.predictor, threads)
    before = digests_in(output)
    for index in [(0, 0, 0), (1, 1, 4)]:
        late = segment_block(run.job, index)
        for digest in late.digests:
            assert np.array(before[digest.path])[digest.index] == digest.value
        run._ledger.record_done([late])
    assert digests_in(output) == before
    assert stored(output) == stored(whole)


def test_digests_are_those_of_any_run_of_the_job(whole, segment, tmp_path):
    segment(tmp_path / "again.zarr")
    assert digests_in(tmp_path / "again.zarr") == digests_in(whole)


def test_what_was_recorded_before_digests_is_listed_and_the_run_is_resumed(
    whole, segment, tmp_path
):
    output = tmp_path / "out.zarr"
    shutil.copytree(whole, output)
    shutil.rmtree(output / "run/digests")
    result = verified(output)
    assert (result.checked, result.findings) == (0, ())
    assert (result.unrecorded_blocks, result.unrecorded_levels) == (BLOCKS, 2)
    done = zarr.open_array(output / "run/done", mode="r+")
    done[1] = BlockState.MISSING
    assert segment(output).blocks == BLOCKS + BLOCKS // 2
    result = verified(output)
    assert (result.unrecorded_blocks, result.findings) == (BLOCKS // 2, ())
    assert result.checked == 2 * BLOCKS // 2
    hurt(output, "0/c/0/1/0/0", "cut", np.random.default_rng(0))
    hurt(output, "0/c/0/0/0/0", "cut", np.random.default_rng(0))
    assert [finding.block for finding in verified(output).findings] == [(1, 0, 0)]


def test_blocks_whose_digests_in_one_array_were_lost_are_listed(whole, tmp_path):
    output = tmp_path / "out.zarr"
    shutil.copytree(whole, output)
    shutil.rmtree(next(path / "c" for path in (output / "run/digests").glob("labels.classes.0")))
    result = verified(output)
    assert (result.unrecorded_blocks, result.checked) == (BLOCKS, BLOCKS + 2 * SHARDS)


class KilledError(Exception):
    """The end of the driver, at any write."""


def test_a_block_is_never_done_without_its_digest_wherever_the_driver_is_killed(
    whole, segment, source, threads, tmp_path, monkeypatch
):
    put, left = zarr.storage.LocalStore.set, 0

    async def dying(self, key, value):
        nonlocal left
        left -= 1
        if left < 0:
            raise KilledError
        await put(self, key, value)

    for writes in range(20):
        output = tmp_path / f"{writes}.zarr"
        shutil.copytree(whole, output)
        shutil.rmtree(output / "run/digests")
        zarr.open_array(output / "run/done", mode="r+")[0, 1, 3] = BlockState.MISSING
        run = started(output, source, segment.predictor, threads)
        late, left = segment_block(run.job, (0, 1, 3)), writes
        with monkeypatch.context() as patch:
            patch.setattr(zarr.storage.LocalStore, "set", dying)
            with suppress(KilledError):
                run._ledger.record_done([late])
        (share,) = read_progress(Location.parse(output))
        assert share.left == (left < 0)
        assert verified(output).unrecorded_blocks == BLOCKS - 1
        if left >= 0:
            break
        if writes % 4 == 3:
            segment(output)
            assert stored(output) == stored(whole)
    assert writes > 3, "a record needs several writes"


def started(output, source, predictor, client, **options):
    request = SegmentRequest(
        input=source, output=output, block=BLOCK, outputs=("classes", "scores")
    )
    return SegmentRun.start(prepare(request, predictor, **options), client)


# ---- the ledger and documents ------------------------------------------------------------------


def test_a_torn_ledger_is_refused_in_one_line_and_repaired(whole, segment, tmp_path):
    output = tmp_path / "out.zarr"
    shutil.copytree(whole, output)
    (chunk,) = [path for path in (output / "run/done/c").rglob("*") if path.is_file()]
    chunk.write_bytes(chunk.read_bytes()[:-3])
    with pytest.raises(OutputError, match=r"ledger .* is damaged .* --repair") as caught:
        segment(output)
    assert "\n" not in str(caught.value)
    (finding,) = verified(output).findings
    assert (finding.problem, finding.files) == ("torn", ("run/done/",))
    assert repair_output(verified(output)) == BLOCKS
    segment(output)
    assert stored(output) == stored(whole)


@pytest.mark.parametrize("what", ["zarr.json", "c/0/0/0/0"])
def test_digests_that_cannot_be_read_are_found_and_forgotten(whole, what, tmp_path):
    output = tmp_path / "out.zarr"
    shutil.copytree(whole, output)
    hurt(output, f"run/digests/0/{what}", "cut", np.random.default_rng(3))
    (finding,) = verified(output).findings
    assert (finding.problem, finding.path) == ("torn", "run/digests/0")
    assert repair_output(verified(output)) == 0
    result = verified(output)
    assert result.findings == ()
    assert result.checked == BLOCKS + 2 * SHARDS


@pytest.mark.parametrize("document", ["0", "labels/classes/1", "labels/classes", "run/done"])
@pytest.mark.parametrize("fault", ["cut", "delete"])
def test_a_damaged_document_is_found_and_written_again(whole, segment, document, fault, tmp_path):
    output = tmp_path / "out.zarr"
    shutil.copytree(whole, output)
    hurt(output, f"{document}/zarr.json", fault, np.random.default_rng(0))
    if fault == "cut" and document == "run/done":
        with pytest.raises(OutputError, match="is damaged: check the output with overtile verify"):
            segment(output)
    (finding,) = verified(output).findings
    assert finding.problem == ("torn" if fault == "cut" else "missing")
    assert finding.files == (f"{document}/zarr.json",)
    repair_output(verified(output))
    segment(output)
    assert stored(output) == stored(whole)


def rewritten(path, **changed):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))


@pytest.mark.parametrize("document", ["0", "labels/classes/1", "labels/classes", "run/digests/0"])
@pytest.mark.parametrize("changed", [{"node_type": "grup"}, {"zarr_format": 9}])
def test_a_document_that_zarr_does_not_take_is_found(whole, segment, document, changed, tmp_path):
    output = tmp_path / "out.zarr"
    shutil.copytree(whole, output)
    rewritten(output / document / "zarr.json", **changed)
    (finding,) = verified(output).findings
    assert (finding.problem, finding.files) == ("torn", (f"{document}/zarr.json",))
    repair_output(verified(output))
    segment(output)
    assert stored(output) == stored(whole)


def test_an_array_whose_codec_is_unknown_is_found_and_not_counted_as_intact(whole, tmp_path):
    output = tmp_path / "out.zarr"
    shutil.copytree(whole, output)
    rewritten(output / "0/zarr.json", codecs=[{"name": "bytfs"}])
    (finding,) = verified(output).findings
    assert (finding.problem, finding.files) == ("torn", ("0/zarr.json",))


def test_an_array_of_version_2_without_its_document_is_found_beside_attributes(convert, tmp_path):
    output = tmp_path / "out.zarr"
    convert(output, format="0.4")
    before = stored(output)
    (output / "0/.zarray").unlink()
    (output / "0/.zattrs").write_text("{}")
    (finding,) = verified(output).findings
    assert (finding.problem, finding.files) == ("missing", ("0/.zarray",))
    repair_output(verified(output))
    convert(output, format="0.4")
    assert {**stored(output), "0/.zattrs": None} == {**before, "0/.zattrs": None}


def test_a_torn_shard_of_a_block_that_is_not_done_is_written_anew(whole, segment, tmp_path):
    output = tmp_path / "out.zarr"
    shutil.copytree(whole, output)
    random = np.random.default_rng(9)
    for z, y, x in [(0, 0, 0), (1, 1, 4)]:
        zarr.open_array(output / "run/done", mode="r+")[z, y, x] = BlockState.MISSING
        hurt(output, f"0/c/0/{z}/{y}/{x}", "cut", random)
        hurt(output, f"labels/classes/0/c/{z}/{y}/{x}", "flip", random)
    segment(output)
    assert stored(output) == stored(whole)


def test_a_shard_store_reads_documents_and_no_chunk(whole):
    store = ShardStore(open_store(Location.parse(whole), read_only=False))
    array = zarr.open_array(store, path="labels/classes/0", mode="r+")
    assert array.shape == SHAPE
    assert not np.any(array[...])
    assert np.any(zarr.open_array(whole / "labels/classes/0", mode="r")[...])


# ---- shares, and S3 ----------------------------------------------------------------------------


def test_the_ledgers_of_shares_are_checked_before_and_after_they_are_merged(
    whole, segment, source, threads, tmp_path
):
    output = tmp_path / "out.zarr"
    for number in (1, 2):
        segment(output, shard=f"{number}/2")
    random = np.random.default_rng(5)
    assert verified(output).findings == ()
    hurt(output, "0/c/0/1/1/4", "cut", random)
    (finding,) = verified(output).findings
    assert finding.ledger in ("run/shards/1", "run/shards/2")
    assert repair_output(verified(output)) == 1
    for number in (1, 2):
        segment(output, shard=f"{number}/2")
    merge_shares(Location.parse(output))
    complete(started(output, source, segment.predictor, threads, finishing=True))
    assert stored(output) == stored(whole)
    result = verified(output)
    assert (result.findings, result.done, result.unrecorded_blocks) == ((), BLOCKS, 0)
    hurt(output, "0/c/0/0/0/1", "flip", random)
    assert repair_output(verified(output)) == 1
    assert sum(share.left for share in read_status(Location.parse(output)).shares) == 1
    with pytest.raises(OutputError, match=r"resume it without --shard 1/2$"):
        segment(output, shard="1/2")
    segment(output)
    assert stored(output) == stored(whole)
    assert sum(share.left for share in read_status(Location.parse(output)).shares) == 0


@pytest.mark.slow
def test_an_output_on_s3_is_checked_and_repaired(s3, convert):
    output, large = f"{s3}/verified.zarr", {"shard": (8, 32, 128), "chunk": (4, 16, 64)}
    convert(output, **large)
    bucket = boto3.resource("s3").Bucket("overtile-test")

    def contents():
        ours = bucket.objects.filter(Prefix="verified.zarr/")  # other tests have the bucket too
        found = {one.key: one.get()["Body"].read() for one in ours}
        return {key: content for key, content in found.items() if "/run/" not in key}

    before = contents()
    assert verified(output).findings == ()
    chunks = sorted(key for key in before if "/0/c/" in key)
    bucket.Object(chunks[0]).delete()
    bucket.Object(chunks[-1]).put(Body=before[chunks[-1]][:-5])
    found = {name for finding in verified(output).findings for name in finding.files}
    assert {f"verified.zarr/{name}" for name in found} >= {chunks[0], chunks[-1]}
    repair_output(verified(output))
    convert(output, **large)
    assert contents() == before
    assert verified(output).findings == ()
