"""`overtile plan --objects`: what finding objects costs, before and after there are scores."""

from __future__ import annotations

import json
import re

import pytest
import torch
import zarr

from deploy.clusters import worker_memory
from pipeline import segment_volume
from pipeline.base.network_outputs import NetworkOutputs, nearest_offsets
from pipeline.base.text import size_text
from pipeline.objects.preparation import memory
from unet import UNet, UNetConfig, UNetPredictor, save_weights

SHAPE = (16, 48, 48)
WATERSHED = ("--method", "watershed", "--seed-distance", "2")
SAME = ("class", "role", "block", "grid", "blocks", "stages", "tasks", "block_memory_bytes",
        "driver_memory_bytes", "disk_bytes", "notes")  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory, textured, weights, one_worker):
    """Return a folder with a volume, and with its segmentation."""
    folder = tmp_path_factory.mktemp("plan")
    zarr.create_array(
        folder / "raw.zarr", data=textured(SHAPE), chunks=(8, 16, 16),
        dimension_names=("z", "y", "x"),
    )  # fmt: skip
    segment_volume(
        str(folder / "raw.zarr"), str(folder / "made.zarr"), UNetPredictor(weights("3d")),
        outputs=("classes", "scores"), client=one_worker,
    )  # fmt: skip
    return folder


@pytest.fixture
def asked(place, weights, shell, monkeypatch):
    """Return a function that plans in the place: exit code, standard output and error."""
    monkeypatch.chdir(place)

    def run(scores, *argv, with_weights=False, output="new.zarr"):
        more = ["--weights", weights("3d")] if with_weights else []
        return shell("plan", scores, output, *more, *argv)

    return run


@pytest.mark.parametrize("options", [(), ("--fill-holes",), WATERSHED], ids=["", "holes", "seeds"])
def test_the_plan_before_the_scores_exist_is_the_plan_of_the_scores(options, asked):
    def plan(output):
        argv = ("raw.zarr", "--objects", *options, "--json")
        return json.loads(asked(*argv, with_weights=True, output=output)[1])

    planned, stored = plan("new.zarr"), plan("made.zarr")
    assert (planned["output_action"], stored["output_action"]) == ("created", "resumed")
    assert planned["objects"]["output"].endswith("new.zarr/labels/objects")
    assert {name: planned["objects"][name] for name in SAME} == {
        name: stored["objects"][name] for name in SAME
    }


def test_text_states_memory_disk_blocks_and_stages(asked, place):
    stated = json.loads(asked("made.zarr", "--objects", *WATERSHED, "--json")[1])
    for text in (
        asked("made.zarr", "--objects", *WATERSHED)[1],
        asked("raw.zarr", "--objects", *WATERSHED, with_weights=True)[1],
    ):
        for words in (
            r"objects +of class .+, watershed\n",
            rf"memory per worker +{re.escape(size_text(3 * stated['block_memory_bytes']))}\n",
            rf"memory of the driver +{re.escape(size_text(stated['driver_memory_bytes']))} ",
            rf"disk +up to {re.escape(size_text(stated['disk_bytes']))} during the run",
            rf"{stated['stages']} stages, {stated['tasks']} tasks",
        ):
            assert re.search(words, text), (words, text)
    assert not (place / "new.zarr").exists()


BAD = {
    # what is wrong: (input, arguments, whether weights are passed, what the line says)
    "a class that does not exist": (
        "raw.zarr", ("--objects", "--class", "vesicle"), True, r"no class 'vesicle'"),
    "the same of stored scores": (
        "made.zarr", ("--objects", "--class", "vesicle"), False, r"no class 'vesicle'"),
    "no scores among the outputs": (
        "raw.zarr", ("--objects", "--outputs", "classes,classes"), True, r"--objects needs scores"),
    "a depth of components": (
        "raw.zarr", ("--objects", "--depth", "0.1"), True, r"--depth is for --method watershed"),
    "a definition without objects": (
        "raw.zarr", ("--depth", "0.1"), True, r"--depth defines objects: pass --objects too"),
    "neither weights nor objects": ("made.zarr", (), False, r"--weights is missing: pass weights"),
    "a tile of scores": (
        "made.zarr", ("--objects", "--tile", "8,16,16"), False,
        r"--tile is for a segmentation: pass --weights too"),
    "an image beside scores that will be made": (
        "raw.zarr", ("--objects", "--intensity", "raw.zarr"), True,
        r"--intensity is for scores that exist: leave it out"),
    "measured scores": (
        "made.zarr", ("--objects", "--measure"), False, r"--measure needs --weights"),
    "a volume as scores of four values": (
        "made.zarr/labels/classes", ("--objects",), False, r"holds classes and no scores"),
    "a block beyond numbers": (
        "made.zarr", ("--objects", "--block", "-1,2,2"), False, r"--block"),
}  # fmt: skip


def test_the_voxel_size_and_the_image_of_scores_count_as_in_a_run(asked):
    argv = ("made.zarr/0", "--objects", *WATERSHED, "--axes", "czyx")
    code, out, err = asked(*argv, "--voxel-size", "1,1um", output="objects.zarr")
    assert (code, out) == (2, "")
    assert "--voxel-size 1,1: expected 3 sizes" in err
    code, out, err = asked(*argv, "--intensity", "gone.zarr", output="objects.zarr")
    assert (code, out) == (2, "")
    assert "gone.zarr does not exist" in err
    sized = asked(
        *argv, "--voxel-size", "1,1,1um", "--intensity", "raw.zarr", output="objects.zarr"
    )
    assert sized[0] == 0, sized


@pytest.mark.parametrize("wrong", BAD)
def test_what_a_run_refuses_is_one_line_and_exit_2(wrong, asked, place):
    scores, argv, with_weights, says = BAD[wrong]
    code, out, err = asked(scores, *argv, with_weights=with_weights)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert re.search(says, err), err


@pytest.mark.parametrize("with_weights", [True, False])
def test_a_disk_or_a_worker_without_room_is_refused(with_weights, asked, monkeypatch):
    name = "raw.zarr" if with_weights else "made.zarr"
    with monkeypatch.context() as patch:
        patch.setattr(memory, "free_bytes", lambda _: 3000)
        code, _, err = asked(name, "--objects", with_weights=with_weights)
    assert code == 2
    line = (
        r"overtile: .*new\.zarr\S* may need .* its disk has 2.93 KiB left: free some space, or "
        r"choose another disk\n"
    )
    assert re.fullmatch(line, err)
    with monkeypatch.context() as patch:
        patch.setattr(worker_memory, "memory_bytes", lambda: 10**5)
        given = ("--tile-memory", "1") if with_weights else ()
        code, _, err = asked(name, "--objects", *given, with_weights=with_weights)
    assert code == 2
    assert re.fullmatch(r"overtile: a worker needs .* has \S+ KiB: .*--block\)\n", err)


def test_affinities_are_planned_from_weights_and_found_in_the_same_run(
    place, shell, one_worker, tmp_path
):
    outputs = NetworkOutputs(kind="affinities", offsets=nearest_offsets(3))
    torch.manual_seed(0)
    model = UNet(UNetConfig(dims=3, base_channels=2, levels=2, classes=3), outputs)
    save_weights(model, tmp_path / "w.safetensors", normalisation={"kind": "dtype"})
    raw, out = str(place / "raw.zarr"), str(tmp_path / "out.zarr")
    options = ("--weights", str(tmp_path / "w.safetensors"), "--objects", "--threshold", "0.4")
    planned = json.loads(shell("plan", raw, out, *options, "--json")[1])["objects"]
    assert (planned["class"], planned["role"]) == ("affinities", "foreground")
    code, _, err = shell("segment", raw, out, *options, "--cluster", one_worker.scheduler.address)
    assert code == 0
    assert "objects by affinities along z, y and x, connected components: 16×48×48" in err
    same = ("--objects", *options[3:], "--intensity", raw)
    stored = json.loads(shell("plan", out, f"{out}2", *same, "--json")[1])
    assert {name: planned[name] for name in SAME} == {name: stored[name] for name in SAME}
