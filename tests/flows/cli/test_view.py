"""``overtile view``: the page and every layer come from this machine, and hold the voxels."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
from http.client import HTTPConnection
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

import numpy as np
import pytest
import tifffile
import zarr

import pipeline
from flows.viewing import serve
from pipeline.base.geometry import Box
from pipeline.base.location import Location
from pipeline.base.stores import open_array
from pipeline.viewing.layers import find_view
from pipeline.viewing.napari_layers import napari_layers
from pipeline.viewing.virtual_zarr import answer
from pipeline.volume.volume import read_box
from unet import UNetPredictor


@pytest.fixture(scope="module")
def segmented(tmp_path_factory, weights, textured):
    """A segmentation of a box, with scores, classes and objects."""
    folder = tmp_path_factory.mktemp("view")
    zarr.create_array(
        folder / "raw.zarr", data=textured((1, 9, 70, 90))[0], chunks=(4, 32, 32),
        dimension_names=list("zyx"), attributes={"voxel_size_nm": [40, 8, 8]},
    )  # fmt: skip
    out = folder / "out.zarr"
    pipeline.segment_volume(
        str(folder / "raw.zarr"), str(out), UNetPredictor(weights("3d"), device="cpu"),
        outputs=("classes", "scores"), scores_dtype="float16", box="1:9,:,10:80",
    )  # fmt: skip
    pipeline.find_objects(str(out), f"{out}/labels/objects")
    pipeline.find_objects(str(out), str(folder / "objects.zarr"))
    return folder


def read(url):
    with urlopen(url, timeout=20) as answered:
        return answered.read()


def shown_state(link):
    """Return the state that the page receives when it opens."""
    with urlopen(f"{link.replace('/v/', '/events/').rstrip('/')}?c=test&gc=&gs=") as events:
        for line in events:
            if line.startswith(b"data: ") and json.loads(line[6:])["k"] == "s":
                return json.loads(line[6:])["s"]
    raise AssertionError("no state")


def test_the_page_shows_raw_scores_classes_and_objects_from_this_machine(segmented):
    command = [sys.executable, "-P", "-m", "flows.cli", "view", str(segmented / "out.zarr")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        link = process.stdout.readline().removeprefix("open in a browser: ").strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/v/\w{20,}/", link)
        page = read(link).decode()
        assert "neuroglancer" in page
        assert re.findall(r"https?://", page) == []
        state = shown_state(link)
        layers = {layer["name"]: layer for layer in state["layers"]}
        assert [*layers] == ["raw", "scores: background", "scores: class 1", "classes", "objects"]
        visible = [name for name, layer in layers.items() if layer["visible"]]
        assert visible == ["raw", "objects"], "scores would tint the raw image"
        assert state["dimensions"] == {"x": [8e-9, "m"], "y": [8e-9, "m"], "z": [40e-9, "m"]}
        assert state["position"] == [45, 35, 5]
        assert [layers[name]["type"] for name in ("raw", "classes")] == ["image", "segmentation"]
        names, url = layers["classes"]["source"][1]["url"].removeprefix("precomputed://"), ""
        assert json.loads(read(f"{names}/info"))["inline"]["properties"][0]["values"] == ["class 1"]
        for name in ("raw", "objects"):
            source = layers[name]["source"]
            url = (source if isinstance(source, str) else source[0]["url"]).removeprefix("zarr2://")
            array = json.loads(read(f"{url}/0/.zarray"))
            first = np.frombuffer(read(f"{url}/0/0/0/0"), array["dtype"]).reshape(array["chunks"])
            place = segmented / ("raw.zarr" if name == "raw" else "out.zarr/labels/objects/0")
            stored = zarr.open_array(place, mode="r")[tuple(slice(n) for n in first.shape)]
            corner = tuple(slice(n) for n in stored.shape)
            np.testing.assert_array_equal(first[corner], stored)
        assert array["dtype"] == "<u4"
        with pytest.raises(HTTPError, match="404"):
            read(re.sub(r"/layers/[^/]+", "/layers/guessed", f"{url}/0/.zarray"))
    finally:
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    assert err.splitlines()[-2:] == ["stop with Ctrl-C", "stopped"]


def test_what_viewers_do_not_read_is_converted_and_edges_are_filled(segmented):
    view = find_view(Location.parse(segmented / "out.zarr/labels/objects"))
    (layer,) = [one for one in view.layers if one.name == "scores: class 1"]
    array = json.loads(answer(layer, "0/.zarray"))
    assert array["dtype"] == "<f4"
    stored = open_array(view.place, "0")[1]
    assert stored.dtype == np.float16
    chunk = array["chunks"]
    last = [-(-n // c) - 1 for n, c in zip(stored.shape, chunk, strict=True)]
    values = np.frombuffer(answer(layer, f"0/{'/'.join(map(str, last))}"), "<f4").reshape(chunk)
    corner = stored[tuple(slice(i * c, None) for i, c in zip(last, chunk, strict=True))]
    np.testing.assert_array_equal(values[tuple(map(slice, corner.shape))], corner)
    assert answer(layer, "0/99/0/0") is None
    assert answer(layer, "7/.zarray") is None


def test_requests_that_the_page_has_dropped_are_not_answered(segmented, monkeypatch):
    pytest.importorskip("neuroglancer")
    asked, may_answer = [], threading.Event()

    def slow_answer(layer, key, **more):
        asked.append(key)
        assert may_answer.wait(20)
        return answer(layer, key, **more)

    monkeypatch.setattr(serve, "answer", slow_answer)
    view = find_view(Location.parse(segmented / "raw.zarr"))
    with serve.served(view, port=0) as link:
        url = shown_state(link)["layers"][0]["source"].removeprefix("zarr2://")
        address = urlsplit(url)

        def ask(key):
            sent = HTTPConnection(address.hostname, address.port, timeout=20)
            sent.request("GET", f"{address.path}/{key}")
            return sent

        kept = [ask("0/.zarray") for _ in range(serve._READERS)]
        read(f"{url}/properties/info")  # answered by the loop that takes all requests
        dropped = [ask("0/0/0/0") for _ in range(4)]
        read(f"{url}/properties/info")
        for one in dropped:
            one.close()
        for _ in range(2):
            read(f"{url}/properties/info")
        last = ask("0/.zarray")
        may_answer.set()
        assert {one.getresponse().status for one in (*kept, last)} == {200}
        for one in (*kept, last):
            one.close()
    assert asked == ["0/.zarray"] * (serve._READERS + 1)


def test_objects_alone_are_shown_over_their_scores_and_their_raw_image(segmented):
    view = find_view(Location.parse(segmented / "objects.zarr"))
    names = [layer.name for layer in view.layers]
    assert names == ["raw", "scores: background", "scores: class 1", "objects"]
    assert [layer.is_shown for layer in view.layers] == [True, False, False, True]


def test_a_raw_image_that_has_moved_is_noted_and_can_be_passed(segmented):
    moved = segmented / "moved.zarr"
    (segmented / "raw.zarr").rename(moved)
    try:
        view = find_view(Location.parse(segmented / "out.zarr"))
        assert "raw.zarr" in view.notes[0]
        assert view.layers[0].kind == "scores"
        assert view.layers[1].is_shown, "without the raw image, scores are what is below"
        again = find_view(Location.parse(segmented / "out.zarr"), Location.parse(moved))
        assert again.layers[0].kind == "raw"
    finally:
        moved.rename(segmented / "raw.zarr")


def test_print_only_prints_the_commands(segmented, shell):
    code, out, err = shell("view", str(segmented / "out.zarr/labels/classes"), "--print")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        f"browser: overtile view {segmented}/out.zarr",
        f"napari: overtile view {segmented}/out.zarr --napari",
        f"napari without overtile: napari --plugin napari-ome-zarr {segmented}/out.zarr",
    ]


def test_printed_commands_have_the_raw_image_and_the_port_that_were_passed(segmented, shell):
    words = (str(segmented / "out.zarr"), str(segmented / "raw.zarr"), "--port", "8899")
    code, out, _ = shell("view", *words, "--print")
    assert code == 0
    shown = f"overtile view {segmented}/out.zarr {segmented}/raw.zarr"
    assert out.splitlines()[:2] == [f"browser: {shown} --port 8899", f"napari: {shown} --napari"]


def printed_plugin(shell, place):
    """Return the plugin of napari that the command names; None where no such command is printed."""
    code, out, err = shell("view", str(place), "--print")
    assert code == 0, err
    named = re.findall(r"^napari without overtile: (.*)$", out, re.MULTILINE)
    words = shlex.split(named[0]) if named else [None] * 4
    assert words[3] in (None, str(place))
    return words[2]


@pytest.mark.filterwarnings("ignore")  # of the readers
def test_the_plugin_that_is_printed_reads_the_image_and_no_other_is_named(shell, tmp_path):
    values = np.arange(3 * 20 * 30, dtype="u1").reshape(3, 20, 30)
    array, tiff = tmp_path / "my array.zarr", tmp_path / "my stack.tif"
    zarr.create_array(array, data=values)
    tifffile.imwrite(tiff, values)
    (tmp_path / "slices").mkdir()
    for z, plane in enumerate(values):
        tifffile.imwrite(tmp_path / f"slices/{z}.tif", plane)
    shutil.copytree(array, tmp_path / "no-suffix")
    from napari_builtins.io import napari_get_reader

    for place in (array, tiff):
        assert printed_plugin(shell, place) == "napari"
        ((read, *_),) = napari_get_reader(str(place))(str(place))
        np.testing.assert_array_equal(np.asarray(read), values)
    for place in (tmp_path / "slices", tmp_path / "no-suffix"):
        assert printed_plugin(shell, place) is None


def test_every_layer_is_one_of_napari_with_its_voxels_and_its_place(segmented):
    view = find_view(Location.parse(segmented / "out.zarr"))
    layers = [*napari_layers(view)]
    assert [one.about["name"] for one in layers] == [one.name for one in view.layers]
    assert [one.about["visible"] for one in layers] == [one.is_shown for one in view.layers]
    for layer, source in zip(layers, (one.source for one in view.layers), strict=True):
        whole = read_box(source, Box.of_shape(source.shape_zyx))[0]
        np.testing.assert_array_equal(layer.levels[0].compute(), whole)
        part = layer.levels[0][2, ::3, 5:9].compute()
        np.testing.assert_array_equal(part, whole[2, ::3, 5:9])
        assert layer.levels[0].dtype != np.float16, "napari does not draw it"
    raw, *_, classes, objects = layers
    assert raw.about["scale"] == objects.about["scale"] == pytest.approx([0.04, 0.008, 0.008])
    assert raw.about["units"] == ["um"] * 3
    assert objects.about["translate"] == pytest.approx([0.04, 0.0, 0.08]), "the box 1:9,:,10:80"
    assert (classes.kind, classes.about["features"]["class"][1]) == ("labels", "class 1")


def test_images_of_any_format_are_layers_of_napari(tmp_path, textured):
    values = textured((1, 40, 50))[0]
    tifffile.imwrite(tmp_path / "flat.tif", values)
    (layer,) = napari_layers(find_view(Location.parse(tmp_path / "flat.tif")))
    np.testing.assert_array_equal(layer.levels[0].compute()[0], values)
    assert "units" not in layer.about


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_napari_takes_the_layers(segmented):
    from napari.components import ViewerModel

    from flows.viewing.napari_window import add_layers

    viewer = ViewerModel()
    view = find_view(Location.parse(segmented / "out.zarr"))
    add_layers(viewer, view)
    assert [layer.name for layer in viewer.layers] == [layer.name for layer in view.layers]
    assert [layer.visible for layer in viewer.layers] == [one.is_shown for one in view.layers]


def test_what_cannot_be_shown_costs_one_line(segmented, shell, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for words, reason in (
            ((str(tmp_path / "none.zarr"),), "does not exist"),
            ((str(segmented / "out.zarr"), "--port", port), f"--port {port}: "),
            ((str(segmented / "out.zarr"), "--napari"), "napari"),
        ):
            code, out, err = shell("view", *words)
            assert (code, out, err.count("\n")) == (2, "", 1), err
            assert reason in err


def test_a_view_refuses_it_in_one_line_and_prints_nothing(tmp_path, placed_image, shell):
    output = placed_image(tmp_path / "out.zarr", (np.ones((4, 20, 24), "u1"), (1, 1, 1), (0, 0, 0)))
    other = tmp_path / "other.zarr"
    zarr.create_array(other, data=np.ones((3, 9, 9), np.uint8))
    code, out, err = shell("view", str(output), str(other), "--print")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"RAW {other} is 3×9×9 voxels, the output 4×20×24: expected the image that" in err
    assert shell("view", str(other), str(output), "--print")[0] == 2
