"""`overtile verify`: what it prints, its exit codes, and the same command that repairs."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import zarr

from pipeline import segment_volume
from pipeline.base.location import Location
from pipeline.ledger.liveness import alive
from unet import UNetPredictor

BLOCK = (8, 16, 16)


@pytest.fixture(scope="module")
def segment(tmp_path_factory, weights, textured):
    """Return a function that segments a volume of eight blocks."""
    folder = tmp_path_factory.mktemp("verified")
    zarr.create_array(folder / "in.zarr", data=textured((16, 32, 32)))
    predictor = UNetPredictor(weights("3d"), precision="fp32")

    def run(output):
        segment_volume(str(folder / "in.zarr"), str(output), predictor, block=BLOCK)

    return run


@pytest.fixture
def output(segment, tmp_path_factory, tmp_path):
    made = tmp_path_factory.getbasetemp() / "verify-cli.zarr"
    if not made.exists():
        segment(made)
    shutil.copytree(made, tmp_path / "out.zarr")
    return tmp_path / "out.zarr"


def test_an_intact_output_exits_with_0_and_states_what_was_compared(output, shell):
    code, out, err = shell("verify", str(output))
    assert (code, out) == (0, f"{output}: 8 of 8 blocks and shards intact\n")
    assert err == "8/8 blocks and shards\n"


def test_damage_exits_with_1_names_the_file_and_is_repaired_by_the_same_command(
    output, segment, shell
):
    shard = output / "labels/classes/0/c/1/0/1"
    before = shard.read_bytes()
    shard.write_bytes(before[:-4])
    code, out, err = shell("verify", str(output))
    assert code == 1
    assert out.splitlines() == [
        f"{output}: 7 of 8 blocks and shards intact",
        "torn: block 1,0,1, voxels 8:16,0:16,16:32 of labels/classes/0: labels/classes/0/c/1/0/1",
    ]
    assert err.splitlines()[-1] == (
        f"overtile: 1 part of {output} is missing, torn or changed: mark with overtile verify "
        f"{output} --repair what to redo"
    )
    code, out, err = shell("verify", str(output), "--repair", "--json")
    told = json.loads(out)
    assert (code, told["marked"]) == (1, [1])
    assert told["verified"][0]["findings"][0]["block"] == [1, 0, 1]
    assert err.splitlines()[-1].endswith(
        f"1 block of {output} marked as not done: start the command again that made it"
    )
    segment(output)
    assert shard.read_bytes() == before
    code, out, _ = shell("verify", str(output), "--json")
    assert (code, json.loads(out)["verified"][0]["findings"]) == (0, [])


def test_an_output_that_is_being_written_is_refused_in_one_line_and_left_alone(output, shell):
    token = zarr.open_group(output / "run", mode="r").attrs["owner"]
    (output / "labels/classes/0/c/1/0/1").unlink()
    with alive(Location.parse(output), token=token):
        for more in ((), ("--repair",)):
            code, out, err = shell("verify", str(output), *more)
            assert (code, out, err.count("\n")) == (2, "", 1)
            assert f"overtile: a run is writing {output} (process " in err
    assert zarr.open_group(output / "run", mode="r").attrs["owner"] == token


def test_what_is_not_an_output_is_refused_in_one_line(tmp_path, shell):
    zarr.create_array(tmp_path / "in.zarr", data=np.arange(3))
    for place in (tmp_path / "none.zarr", tmp_path / "in.zarr", tmp_path):
        code, out, err = shell("verify", str(place))
        assert (code, out, err.count("\n")) == (2, "", 1)
