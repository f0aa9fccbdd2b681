"""Bad input through the shell: exit 2, one line with problem, place and remedy, no traceback."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr

from flows.cli.main import main
from unet import UNet, UNetConfig, UNetPredictor, save_weights

GREY = np.full((6, 20, 20), 7, np.uint8)


@pytest.fixture(scope="module")
def place(tmp_path_factory, weights):
    """Return a folder with good and bad things in it; the cases below name them."""
    folder = tmp_path_factory.mktemp("place")
    zarr.create_array(folder / "in.zarr", data=GREY)
    zarr.create_array(folder / "group.zarr/raw", data=GREY)
    zarr.create_group(folder / "empty.zarr")
    zarr.create_array(folder / "rgb.zarr", data=np.zeros((3, 6, 20, 20), "u1"),
                      dimension_names=("c", "z", "y", "x"))  # fmt: skip
    zarr.create_array(folder / "bool.zarr", shape=(6, 20, 20), dtype="?")
    zarr.create_array(folder / "complex.zarr", shape=(6, 20, 20), dtype="c8")
    zarr.create_array(folder / "nothing.zarr", shape=(6, 0, 20), dtype="u1")
    zarr.create_array(folder / "theirs.zarr", data=GREY)
    (folder / "folder").mkdir()
    (folder / "folder/notes.txt").write_text("no image")
    (folder / "slide.svs").write_bytes(b"II*")
    (folder / "scheduler.json").write_text("{}")
    good = Path(weights("3d")).read_bytes()
    (folder / "w.safetensors").write_bytes(good)
    (folder / "short.safetensors").write_bytes(good[:-40])
    (folder / "stub.safetensors").write_bytes(good[:5])
    (folder / "w.pt").write_bytes(pickle.dumps({"conv": [1.0]}))
    (folder / "w.txt").write_text("weights\nof mine")
    torch.manual_seed(0)
    instance = UNet(UNetConfig(dims=3, base_channels=4, levels=2, norm="instance"))
    save_weights(instance, folder / "instance.safetensors")
    flat = UNet(UNetConfig(dims=3, base_channels=4, levels=2, kernels=((3, 1, 3), 3)))
    save_weights(flat, folder / "flat.safetensors")
    return folder


SEGMENT = {
    # what is wrong: (arguments that replace the good ones, what the line says)
    "no such store": ({"INPUT": "gone.zarr"}, r"gone\.zarr does not exist"),
    "not Zarr": ({"INPUT": "folder"}, r"folder holds no image"),
    "a file": ({"INPUT": "slide.svs"}, r"is not an image that overtile reads"),
    "no path": ({"INPUT": ""}, r"the path is empty"),
    "a group with no image": ({"INPUT": "empty.zarr"}, r"group without an image"),
    "an array of a group": ({"INPUT": "group.zarr"}, r"pass one of raw"),
    "http that is not there": ({"INPUT": "http://127.0.0.1:1/in.zarr"}, r"cannot be reached"),
    "no such protocol": ({"INPUT": "nope://a/in.zarr"}, r"package that is not installed"),
    "no such level": ({"--level": "s9"}, r"plain array: it has no level s9"),
    "no such axis": ({"--axes": "zyq"}, r"'q'"),
    "too few axes": ({"--axes": "yx"}, r"axes 'yx'.*--axes"),
    "no channel axis": ({"--channel": "0"}, r"no channel axis.*--axes"),
    "no such channel": ({"INPUT": "rgb.zarr", "--channel": "GFP"}, r"no channel 'GFP'; it has 0"),
    "a channel too many": ({"INPUT": "rgb.zarr", "--channel": "3"}, r"no channel 3; it has 0 to 2"),
    "channels for others": ({"INPUT": "rgb.zarr"}, r"3 channel.*weights expect 1.*--channel"),
    "no such time": ({"--time": "2"}, r"no time axis"),
    "yes or no is no grey value": ({"INPUT": "bool.zarr"}, r"bool, not grey values"),
    "complex": ({"INPUT": "complex.zarr"}, r"complex64, not grey values"),
    "an empty volume": ({"INPUT": "nothing.zarr"}, r"is empty: its shape is 6×0×20"),
    "no such weights": ({"--weights": "gone.safetensors"}, r"gone\.safetensors"),
    "weights cut off": ({"--weights": "short.safetensors"}, r"short\.safetensors"),
    "weights cut off early": ({"--weights": "stub.safetensors"}, r"stub\.safetensors"),
    "a pickle": ({"--weights": "w.pt"}, r"w\.pt"),
    "text for weights": ({"--weights": "w.txt"}, r"w\.txt"),
    "tile statistics": ({"--weights": "instance.safetensors"}, r"instance.*--allow-seams"),
    "a block off the divisor": ({"--block": "3,16,16"}, r"divisor.*try 4,16,16"),
    "a tile off the divisor": ({"--tile": "4,16,15"}, r"divisor.*try 4,16,16"),
    "a tile beyond its block": (
        {"--block": "4,8,8", "--tile": "4,8,16"}, r"tile 4×8×16 is larger than block 4×8×8"),
    "a block that is no size": ({"--block": "16"}, r"--block: '16': expected three sizes"),
    "a block of words": ({"--block": "a,b,c"}, r"--block: 'a,b,c'"),
    "a block of nothing": ({"--block": "0,16,16"}, r"--block: '0,16,16'"),
    "a block below nothing": ({"--block": "-2,4,4"}, r"--block: '-2,4,4': expected three sizes"),
    "a range without bounds": (
        {"--normalisation": "range"}, r"without low and high: expected both, as range:LOW:HIGH"),
    "a volume in memory": ({"INPUT": "memory://in.zarr"}, r"memory://in\.zarr.*within one process"),
    "an output in memory": ({"OUTPUT": "memory://out.zarr"}, r"memory://out.*use a path or s3"),
    "too little memory": ({"--tile-memory": "0.00001"}, r"smallest tile.*needs"),
    "memory in a unit that there is not": ({"--tile-memory": "2XB"}, r"--tile-memory: '2XB'"),
    "memory without end": ({"--tile-memory": "inf"}, r"--tile-memory: 'inf'"),
    "no worker": ({"--workers": "0"}, r"--workers 0"),
    "fewer than no retries": ({"--retries": "-1"}, r"--retries -1"),
    "an unknown normalisation": ({"--normalisation": "best"}, r"'best' is unknown: choose none"),
    "an odd normalisation": ({"--normalisation": "range:9:1"}, r"low must be below high"),
    "measured on no level": ({"--normalisation": "zscore@7"}, r"no level 7"),
    "an unknown output": ({"--outputs": "objects"}, r"--outputs: 'objects': expected classes"),
    "an unknown augmentation": ({"--tta": "some"}, r"--tta: invalid choice: 'some'"),
    "tiles that cannot be turned": (
        {"--weights": "flat.safetensors", "--tta": "full"},
        r"differs in y and x \(halo 8×4×8, divisor 2×2×2.*--tta none"),
    "an unknown format": ({"--format": "0.6"}, r"--format: invalid choice: '0\.6'"),
    "an unknown engine": ({"--engine": "ray"}, r"--engine: invalid choice"),
    "no such cluster": ({"--cluster": "nowhere"}, r"cluster 'nowhere': expected local"),
    "an address without a port": ({"--cluster": "tcp://host"}, r"expected host and port"),
    "workers of a cluster elsewhere": (
        {"--cluster": "tcp://host:1", "--workers": "2"}, r"--workers applies to --cluster local"),
    "output = input": (
        {"OUTPUT": "in.zarr", "--overwrite": None}, r"output and input are the same"),
    "output = input, by another name": (
        {"OUTPUT": "folder/../in.zarr"}, r"output and input are the same"),
    "output inside input": ({"OUTPUT": "in.zarr/out"}, r"output lies inside the input"),
    "input inside output": (
        {"INPUT": "group.zarr/raw", "OUTPUT": "group.zarr"}, r"input lies inside the output"),
    "an output of somebody else": ({"OUTPUT": "theirs.zarr"}, r"not made by overtile.*--overwrite"),
    "a folder of other things": (
        {"OUTPUT": "folder", "--overwrite": None}, r"other files.*folder/out\.zarr"),
    "a file in the way": ({"OUTPUT": "slide.svs"}, r"is a file: choose another output"),
    "a file for a folder": ({"OUTPUT": "slide.svs/out.zarr"}, r"is not a folder"),
    "output over http": ({"OUTPUT": "http://127.0.0.1:1/out.zarr"}, r"http cannot be written"),
}  # fmt: skip


def arguments(command, place, changes):
    """Return a command line that is good but for ``changes``."""
    values = {"INPUT": "in.zarr", "OUTPUT": "out.zarr", "--weights": "w.safetensors", **changes}
    positional = [values.pop("INPUT"), values.pop("OUTPUT")]
    options = [part for pair in values.items() for part in pair if part is not None]
    return [command, *positional, *options]


def listing(folder):
    return {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}


@pytest.fixture
def shell(place, monkeypatch, capsys):
    """Return a function that runs a command in the place: exit code, standard output and error."""
    monkeypatch.chdir(place)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # pytest keeps its own handlers

    def run(*argv):
        try:
            code = main(argv)
        except SystemExit as exit_:  # argparse leaves so
            code = exit_.code
        return (code, *capsys.readouterr())

    return run


@pytest.mark.parametrize("command", ["segment", "plan"])
@pytest.mark.parametrize(("changes", "says"), SEGMENT.values(), ids=SEGMENT)
def test_bad_input_is_one_line_exit_2_and_nothing_is_written(command, changes, says, shell, place):
    import re

    before = listing(place)
    code, out, err = shell(*arguments(command, place, changes))
    assert code == 2
    assert out == ""
    assert err.startswith("overtile: ")
    assert err.count("\n") == 1
    assert re.search(says, err), err
    assert len(err) < 600
    assert listing(place) == before


@pytest.mark.parametrize("argv", [["segmnt"], ["segment"], ["segment", "a", "b"], ["demo", "x"],
                                  ["plan", "a", "b", "--weights"], ["weights"]])  # fmt: skip
def test_a_wrong_command_line_is_one_line_that_names_the_help(argv, shell):
    code, out, err = shell(*argv)
    assert code == 2
    assert out == ""
    assert err.startswith("overtile: ")
    assert err.count("\n") == 1
    assert err.rstrip().endswith("--help")


@pytest.mark.parametrize("name", ["gone.safetensors", "short.safetensors", "w.pt", "in.zarr"])
def test_invalid_weights_are_reported_in_one_line(name, shell):
    code, out, err = shell("weights", name)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("overtile: ")
    assert name in err


def test_both_commands_refuse_another_jobs_output_and_leave_it_unchanged(place, shell, one_worker):
    from pipeline import segment_volume

    out = place / "ours.zarr"
    predictor = UNetPredictor(str(place / "w.safetensors"), precision="fp32")
    segment_volume(str(place / "in.zarr"), str(out), predictor, client=one_worker)
    before = listing(place)
    for command in ("segment", "plan"):
        changes = {"OUTPUT": "ours.zarr", "--outputs": "scores"}
        code, _, err = shell(*arguments(command, place, changes))
        assert code == 2
        assert "another job (outputs was" in err
        assert "--overwrite" in err
        assert err.count("\n") == 1
        assert listing(place) == before
    code, text, _ = shell(*arguments("plan", place, {"OUTPUT": "ours.zarr"}))
    assert code == 0
    assert "1 of 1 blocks are done" in text
    code, text, _ = shell(*arguments("plan", place, {"OUTPUT": "ours.zarr", "--overwrite": None}))
    assert code == 0
    assert "would be deleted first" in text
    assert listing(place) == before
    shutil.rmtree(out)


def test_an_output_that_holds_the_weights_is_not_replaced(place, shell, one_worker):
    from pipeline import segment_volume

    out = place / "ours.zarr"
    predictor = UNetPredictor(str(place / "w.safetensors"), precision="fp32")
    segment_volume(str(place / "in.zarr"), str(out), predictor, client=one_worker)
    shutil.copy(place / "w.safetensors", out / "run/w.safetensors")
    before = listing(place)
    changes = {"OUTPUT": "ours.zarr", "--weights": "ours.zarr/run/w.safetensors"}
    code, _, err = shell(*arguments("segment", place, {**changes, "--overwrite": None}))
    assert (code, err.count("\n")) == (2, 1)
    assert "the weights file lies inside the output" in err
    assert listing(place) == before
    shutil.rmtree(out)


@pytest.fixture
def web_server():
    """Yield the address of something that listens, and is no Dask scheduler."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        import threading

        def answer():
            try:
                while True:
                    connection, _ = server.accept()
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                    connection.close()
            except OSError:
                return

        threading.Thread(target=answer, daemon=True).start()
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


def in_a_shell(place, changes):
    command = [sys.executable, "-m", "flows.cli", *arguments("segment", place, changes)]
    begun = time.monotonic()
    ended = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=60)
    return ended, time.monotonic() - begun


@pytest.mark.parametrize(
    "who",
    [pytest.param("nobody", marks=pytest.mark.slow), "a web server", "an empty scheduler file"],
)
def test_a_cluster_that_does_not_answer_is_one_line_within_15_s(who, place, request):
    where = {"nobody": lambda: "tcp://127.0.0.1:1",
             "a web server": lambda: request.getfixturevalue("web_server"),
             "an empty scheduler file": lambda: "scheduler.json"}[who]()  # fmt: skip
    before = listing(place)
    ended, seconds = in_a_shell(place, {"--cluster": where})
    assert ended.returncode == 2
    assert ended.stderr.startswith("overtile: ")
    assert ended.stderr.count("\n") == 1
    assert where in ended.stderr
    assert seconds < 15
    assert listing(place) == before


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="there is no /proc")
def test_an_output_that_cannot_be_written_is_one_line(place):
    before = listing(place)
    ended, _ = in_a_shell(place, {"OUTPUT": "/proc/nowhere/out.zarr", "--workers": "1"})
    assert ended.returncode == 2
    assert ended.stderr.startswith("overtile: /proc/nowhere")
    assert ended.stderr.count("\n") == 1
    assert listing(place) == before


def test_a_block_that_no_worker_can_hold_is_refused_before_anything_is_written(
    place, shell, one_worker
):
    zarr.create_array(place / "large.zarr", shape=(4000, 4000, 4000), chunks=(64,) * 3, dtype="u1")
    before = listing(place)
    changes = {"INPUT": "large.zarr", "--block": "4000,4000,4000", "--tile": "16,16,16",
               "--cluster": one_worker.scheduler.address}  # fmt: skip
    code, _, err = shell(*arguments("segment", place, changes))
    assert code == 2
    *warnings, error = err.splitlines()
    assert "a worker needs" in error
    assert all(line.startswith("warning: ") for line in warnings)  # of this machine's disk
    assert listing(place) == before


def test_nan_in_the_input_is_counted_and_reported(place, shell, one_worker):
    raw = np.zeros((6, 20, 20), np.float32)
    raw[2, 3:7, 5] = np.nan
    zarr.create_array(place / "nan.zarr", data=raw)
    changes = {"INPUT": "nan.zarr", "OUTPUT": "nan-out.zarr",
               "--cluster": one_worker.scheduler.address}  # fmt: skip
    code, _, err = shell(*arguments("segment", place, changes))
    assert code == 0
    assert "4 voxels of the input are NaN or infinite" in err
    shutil.rmtree(place / "nan-out.zarr")
