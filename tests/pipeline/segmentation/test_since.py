"""A segmentation since an earlier one has the bytes of one without it, and copies shards."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

from pipeline import segment_volume
from pipeline.base.errors import OutputError, PlanError
from pipeline.base.local_client import local_client
from pipeline.base.location import Location
from pipeline.ledger.coarser_levels import COPIED
from pipeline.ledger.earlier_output import EarlierOutput, known_digests
from pipeline.ledger.ledger import run_attributes
from pipeline.segmentation.prepare import prepare
from pipeline.segmentation.request import SegmentRequest
from pipeline.segmentation.since import since_text
from pipeline.verification.verify import verify_output
from unet import UNetPredictor

SHAPE, BLOCK = (4, 20, 530), (4, 16, 64)
BLOCKS, SHARDS = 2 * 9, 2 * 2 * (5 + 3)
CHANGED = slice(480, 530)
"""Along x: the input differs there between the two volumes."""


@pytest.fixture(scope="module")
def threads():
    with local_client() as client:
        yield client


@pytest.fixture(scope="module")
def segment(threads, weights, textured, tmp_path_factory):
    folder = tmp_path_factory.mktemp("since")
    raw = textured(SHAPE)
    for name in ("one", "other"):
        zarr.create_array(folder / f"{name}.zarr", data=raw, dimension_names=["z", "y", "x"])
        raw = raw.copy()
        raw[..., CHANGED] = 255 - raw[..., CHANGED]
    predictor = UNetPredictor(weights("3d"), precision="fp32")

    def run(name, output, **settings):
        settings = {"block": BLOCK, "outputs": ("classes", "scores"), **settings}
        path = str(folder / f"{name}.zarr")
        segment_volume(path, str(output), predictor, client=threads, **settings)
        return output

    run.predictor, run.folder = predictor, folder
    run.first = run("one", folder / "first.zarr")
    run.plain = run("other", folder / "plain.zarr")
    return run


def stored(output):
    files = (path for path in output.rglob("*") if path.is_file())
    named = {str(path.relative_to(output)): path for path in files}
    return {name: p.read_bytes() for name, p in named.items() if not name.startswith("run/")}


def test_the_bytes_are_those_without_since_and_shards_of_equal_blocks_are_copied(segment, tmp_path):
    output = segment("other", tmp_path / "out.zarr", block=None, since=str(segment.first))
    assert stored(output) == stored(segment.plain)
    one, other = (zarr.open_array(p / "0")[...] for p in (segment.first, segment.plain))
    differs = (one != other).any(axis=0)
    blocks = [differs[:, y : y + 16, x : x + 64].any() for y in (0, 16) for x in range(0, 530, 64)]
    assert 0 < sum(blocks) < BLOCKS
    copied, of = run_attributes(Location.parse(output))[COPIED]
    kept = sum(
        not differs[:, y : y + 16, x : x + wide].any()
        for wide in (128, 256) for y in (0, 16) for x in range(0, 530, wide)
    )  # fmt: skip
    assert (copied, of) == (2 * kept, SHARDS)
    assert 0 < copied < of
    text = since_text(
        EarlierOutput.find(Location.parse(segment.first)), Location.parse(output),
        copied=(copied, of),
    )  # fmt: skip
    assert text == (
        f"all blocks are computed; since {segment.first}, {sum(blocks)} of {BLOCKS} blocks differ; "
        f"{copied} of {SHARDS} shards of coarser levels copied"
    )
    result = verify_output(Location.parse(output), on_cell=lambda done, total: None)
    assert (result.findings, result.unrecorded_levels) == ((), 0)


@pytest.mark.slow
def test_a_damaged_shard_of_the_earlier_output_is_computed(segment, tmp_path):
    first = segment("one", tmp_path / "first.zarr")
    for shard in (first / "labels/classes/1/c").rglob("*/*/*"):
        shard.write_bytes(shard.read_bytes()[:-1])
    output = segment("other", tmp_path / "out.zarr", since=str(first))
    assert stored(output) == stored(segment.plain)


def test_levels_of_another_version_are_computed(segment, tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.ledger.earlier_output.VERSION", "0.0.1")
    output = segment("other", tmp_path / "out.zarr", since=str(segment.first))
    assert run_attributes(Location.parse(output)).get(COPIED) is None
    assert stored(output) == stored(segment.plain)


def test_an_output_is_the_same_as_itself_block_by_block(segment):
    location = Location.parse(segment.first)
    same = EarlierOutput.find(location).same_blocks(known_digests(location))
    assert same.shape == (1, 2, 9)
    assert np.all(same)


def test_what_cannot_be_compared_is_refused_in_one_line(segment, tmp_path):
    def prepared(**settings):
        path, output = str(segment.folder / "other.zarr"), str(tmp_path / "out.zarr")
        prepare(SegmentRequest(input=path, output=output, **settings), segment.predictor)

    with pytest.raises(OutputError, match=r"other\.zarr has no ledger: expected the output of a"):
        prepared(since=str(segment.folder / "other.zarr"))
    with pytest.raises(PlanError, match=r"has 1×2×9 blocks of 4×16×64 voxels, this run 1×1×9 of"):
        prepared(since=str(segment.first), block=(4, 32, 64))
    with pytest.raises(OutputError, match=r"this is the one to write; choose another output"):
        prepared(since=str(tmp_path / "out.zarr"))
    (tmp_path / "link.zarr").symlink_to(tmp_path / "out.zarr")
    with pytest.raises(OutputError, match=r"this is the one to write; choose another output"):
        prepared(since=str(tmp_path / "link.zarr"))
