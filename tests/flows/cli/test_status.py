"""`overtile status`: the state of an output as text and as JSON, read from its ledger alone."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import zarr

from flows.cli.main import main
from flows.cli.status import share_text, status_text
from pipeline import segment_volume
from pipeline.base.errors import RunError
from pipeline.base.location import Location
from pipeline.ledger.status import read_status
from unet import UNetPredictor
from unet.training.logs import CsvLog
from unet.training.messages import StepsDone
from unet.training.ownership import take_over


@pytest.fixture
def status(monkeypatch, capsys):
    """Return a function that runs `overtile status`: exit code, output and error."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # pytest keeps its own handlers

    def run(*argv):
        code = main(["status", *map(str, argv)])
        return (code, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def finished(tmp_path_factory, weights, textured):
    """Return the output of a run of eight blocks."""
    folder = tmp_path_factory.mktemp("finished")
    zarr.create_array(folder / "in.zarr", data=textured((16, 32, 32)))
    predictor = UNetPredictor(weights("3d"), precision="fp32")
    segment_volume(str(folder / "in.zarr"), str(folder / "out.zarr"), predictor, block=(8, 16, 16))
    return folder / "out.zarr"


def test_a_finished_run_is_complete_with_the_ledgers_figures(finished, status):
    code, out, err = status(finished, "--json")
    told = json.loads(out)
    run = zarr.open_group(finished / "run")
    assert (code, err) == (0, "")
    assert (told["blocks"], told["done"], told["missing"], told["set_aside"]) == (8, 8, 0, [])
    assert told["pyramid"] is True
    assert told["seconds_left"] == 0
    assert told["figures"] == run.attrs["figures"]
    assert told["figures"]["voxels"] == 16 * 32 * 32
    assert told["provenance"] == run.attrs["provenance"]
    written = datetime.fromisoformat(told["last_written"])
    assert timedelta(0) <= datetime.now(UTC) - written < timedelta(minutes=5)
    _, text, _ = status(finished)
    rows = dict(line.split("  ", 1) for line in text.splitlines()[1:])
    values = {name.strip(): value.strip() for name, value in rows.items()}
    assert values["stage"] == "complete"
    assert values["blocks"] == "8 of 8 done, 100.0 %"
    assert str(finished.parent / "in.zarr") in values["input"]
    assert "left" not in values
    assert "set aside" not in values


def test_an_incomplete_run_lists_missing_and_set_aside_blocks(tmp_path, weights, textured, status):
    raw = zarr.create_array(tmp_path / "in.zarr", data=textured((16, 32, 32)), chunks=(8, 16, 16))
    (tmp_path / "in.zarr/c/1/0/1").write_bytes(b"no chunk")
    output = tmp_path / "out.zarr"
    predictor = UNetPredictor(weights("2d"), precision="fp32")
    with pytest.raises(RunError, match="set aside"):
        segment_volume(str(tmp_path / "in.zarr"), str(output), predictor, block=(8, 16, 16),
                       retries=0)  # fmt: skip
    assert raw.shape == (16, 32, 32)
    told = json.loads(status(output, "--json")[1])
    set_aside = told["set_aside"]
    assert [1, 0, 1] in set_aside
    assert told["done"] + len(set_aside) == 8
    assert told["pyramid"] is False
    _, text, _ = status(output)
    assert f"set aside     {len(set_aside)} blocks (z,y,x): " in text
    assert "; ".join(",".join(map(str, index)) for index in set_aside) in text
    assert "blocks failed: start the run again" in text
    assert "left" in text


def test_speed_and_time_left_follow_from_the_figures(finished):
    status = read_status(Location.parse(finished))
    figures = replace(status.figures, blocks=20, seconds=10.0, voxels=40_000_000)
    share = replace(status.shares[0], blocks=60, done=20, figures=figures)
    half = replace(status, shares=(share,), figures=figures, pyramid=False)
    assert half.total.blocks_per_s == 2.0
    assert half.seconds_left == 20.0
    text = status_text(half, now=status.written + timedelta(seconds=90))
    assert "2.00 blocks/s, 4.00 Mvoxel/s" in text
    assert "20 s at this speed" in text
    assert "1 min 30 s ago" in text
    slow = replace(share, number=2, figures=replace(figures, blocks=5))
    both = replace(half, shares=(share, slow), figures=figures + slow.figures)
    assert both.seconds_left == 80.0  # the slower share's forty blocks
    fresh = replace(half, figures=type(figures)())
    assert fresh.total.blocks_per_s is None
    assert "speed" not in status_text(fresh, now=status.written)


def test_each_share_is_reported_from_its_part_of_the_ledger(tmp_path, weights, textured, status):
    zarr.create_array(tmp_path / "in.zarr", data=textured((32, 32, 32)))
    places = str(tmp_path / "in.zarr"), str(tmp_path / "out.zarr")
    predictor = UNetPredictor(weights("2d"), precision="fp32")
    options = {"block": (8, 16, 16), "tile": (1, 16, 16)}
    segment_volume(*places, predictor, **options, shard="1/2")
    told = json.loads(status(places[1], "--json")[1])
    shares = [(share["shard"], share["done"], share["blocks"]) for share in told["shares"]]
    assert shares == [("1/2", 8, 8), ("2/2", 0, 8)]
    assert (told["done"], told["blocks"], told["missing"]) == (8, 16, 8)
    assert told["figures"]["blocks"] == 8
    assert told["seconds_left"] == pytest.approx(8 / told["blocks_per_s"])
    _, text, _ = status(places[1])
    assert "\nshard 1/2     8 of 8 done\nshard 2/2     0 of 8 done\n" in text
    segment_volume(*places, predictor, **options, shard="2/2")
    told = json.loads(status(places[1], "--json")[1])
    assert (told["done"], told["figures"]["blocks"]) == (16, 16)
    _, text, _ = status(places[1])
    assert "all blocks are done, the pyramid is missing: run overtile finish" in text


def test_only_what_is_done_is_100_percent(finished):
    status = read_status(Location.parse(finished))
    share = replace(status.shares[0], done=99_999, blocks=100_000)
    assert share_text(replace(status, shares=(share,)).total) == "99.9 %"


def test_the_status_is_read_through_every_store(finished, status):
    import http.server
    import threading

    handler = type("Quiet", (http.server.SimpleHTTPRequestHandler,),
                   {"log_message": lambda *_: None})  # fmt: skip

    def serve(*arguments):
        return handler(*arguments, directory=str(finished.parent))

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        code, out, err = status(f"http://127.0.0.1:{server.server_port}/out.zarr", "--json")
        server.shutdown()
    assert (code, err) == (0, "")
    local = json.loads(status(finished, "--json")[1])
    for name in ("blocks", "done", "figures", "job", "provenance", "pyramid"):
        assert json.loads(out)[name] == local[name]


def test_status_imports_no_dask_and_no_torch_and_leaves_the_output_unchanged(finished):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    code = (
        "import sys; from flows.cli.main import main; main(sys.argv[1:]); "
        "print(sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, "status", str(finished)], capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    loaded = set(json.loads(ended.stderr.replace("'", '"')))
    assert loaded & {"torch", "distributed", "dask", "prefect", "bokeh"} == set()
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == before


@pytest.fixture
def wrong(tmp_path):
    """Return a folder of things that are no output."""
    zarr.create_group(tmp_path / "group.zarr")
    zarr.create_array(tmp_path / "array.zarr", shape=(2, 2), dtype="u1")
    zarr.create_group(tmp_path / "run.zarr").create_group("run")
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


WRONG = {
    "gone.zarr": "does not exist",
    "notes.txt": "is a file",
    "folder": "is not a Zarr group",
    "group.zarr": "was not made by overtile",
    "array.zarr": "was not made by overtile",
    "run.zarr": "was not made by overtile",
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("form", [[], ["--json"]], ids=["text", "json"])
def test_anything_but_an_output_is_one_line_and_exit_2(name, form, wrong, status):
    code, out, err = status(wrong / name, *form)
    assert (code, out) == (2, "")
    expected = rf"{WRONG[name]}.*expected the output of a run"
    assert re.fullmatch(rf"overtile: \S+/{name} .*{expected}.*\n", err)


@pytest.mark.parametrize("uri", ["", "http://127.0.0.1:{port}/out.zarr", "nope://a/out.zarr"])
def test_an_unreadable_location_is_one_line_and_exit_2(uri, status):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        code, out, err = status(uri.format(port=closed.getsockname()[1]))
    assert (code, out) == (2, "")
    assert err.startswith("overtile: ")
    assert err.count("\n") == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_output_without_read_permission_is_one_line(finished, status):
    (finished / "run").chmod(0)
    try:
        code, _, err = status(finished)
    finally:
        (finished / "run").chmod(0o755)
    assert code == 2
    assert err.count("\n") == 1


def test_the_status_of_a_training_is_shown_as_text_and_as_json(status, tmp_path):
    folder = tmp_path / "w.training"
    take_over(folder)
    log = CsvLog(folder / "log.csv")
    log.hear(
        StepsDone(
            step=2, steps=10, loss=0.5, losses=(0.75, 0.25), learning_rate=1e-3,
            patches_per_s=1.0, wait_share=0.0,
        )
    )  # fmt: skip
    code, out, err = status(tmp_path / "w.safetensors")
    assert (code, err) == (0, "")
    rows = dict(re.split(r"  +", line.strip(), maxsplit=1) for line in out.splitlines()[1:])
    assert out.splitlines()[0].strip() == str(folder)
    assert rows["stage"] == (
        "not complete: a training is writing it, or must be resumed with --resume"
    )
    assert rows["steps"] == "2; no checkpoint yet"
    assert rows["loss"] == "0.5000, mean of the last steps"
    assert rows["last written"].endswith("ago")
    told = json.loads(status(folder, "--json")[1])
    assert (told["training"], told["done"], told["logged"]) == (str(folder), 0, 2)
    assert (told["complete"], told["weights"], told["steps"]) == (False, None, None)
