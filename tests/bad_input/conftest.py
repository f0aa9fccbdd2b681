"""A folder with good things, and the wrong things that a row of a table puts beside them."""

from __future__ import annotations

import json
import os
import shutil
import signal
from contextlib import contextmanager

import numpy as np
import pytest
import tifffile
import zarr

from flows.cli.main import main

V3 = {
    "zarr_format": 3, "node_type": "array", "shape": [6, 20, 20], "data_type": "uint8",
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [6, 20, 20]}},
    "chunk_key_encoding": {"name": "default"}, "fill_value": 0, "codecs": [{"name": "bytes"}],
    "dimension_names": ["z", "y", "x"],
}  # fmt: skip
V2 = {
    "zarr_format": 2, "shape": [6, 20, 20], "chunks": [6, 20, 20], "dtype": "|u1",
    "compressor": None, "filters": None, "fill_value": 0, "order": "C",
}  # fmt: skip
GROUP = {"zarr_format": 3, "node_type": "group"}


@pytest.fixture(scope="module")
def place(tmp_path_factory, weights):
    """Return a folder with images and weights that are right; a run in it reads no profile."""
    folder = tmp_path_factory.mktemp("bad") / "place"
    folder.mkdir()
    grey = np.full((6, 20, 20), 7, np.uint8)
    rgb = np.zeros((3, 6, 20, 20), np.uint8)
    arrays = {
        "in": grey, "small": grey[:, :10], "wide": np.zeros((6, 23, 47), np.uint8),
        "zeros": np.zeros_like(grey), "halves": np.full((6, 20, 20), 0.5, np.float32),
        "negative": np.full((6, 20, 20), -3, np.int16),
        "ramp": np.arange(6 * 20 * 20).reshape(6, 20, 20).astype(np.uint8),
    }  # fmt: skip
    for name, array in arrays.items():
        zarr.create_array(folder / f"{name}.zarr", data=array, dimension_names=("z", "y", "x"))
    zarr.create_array(folder / "rgb.zarr", data=rgb, dimension_names=("c", "z", "y", "x"))
    scores = np.zeros((2, 6, 20, 20), np.uint8)
    zarr.create_array(folder / "scores.zarr", data=scores, dimension_names=("c", "z", "y", "x"))
    tifffile.imwrite(folder / "grey.tif", grey[0])
    shutil.copy(weights("3d"), folder / "w.safetensors")
    (folder / "in.toml").write_text("kind = 'local'\n")
    return folder


@pytest.fixture
def shell(place, monkeypatch, capfd):
    """Return a function that runs a command in the place: exit code, standard output and error."""
    monkeypatch.chdir(place)
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(place.parent / "home"))
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # pytest keeps its own handlers

    def run(*argv):
        try:
            code = main(argv)
        except SystemExit as exit_:  # argparse leaves so
            code = exit_.code
        return (code, *capfd.readouterr())

    return run


@pytest.fixture(scope="session")
def listing():
    """Return a function: what is in a folder, and when each of it was changed."""
    return lambda folder: {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}


@pytest.fixture(scope="session")
def present():
    """Return the context in which the wrong things of a row exist in a folder."""
    return put


@contextmanager
def put(row, place):
    """Create what a row describes, and delete it at the end."""
    before = set(place.iterdir())
    for kind, create in MAKERS.items():
        for name, value in items_of(row.get(kind, {})):
            path = place / name
            path.parent.mkdir(parents=True, exist_ok=True)
            create(path, value)
    try:
        yield
    finally:
        for path in set(place.iterdir()) - before:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def items_of(value):
    if isinstance(value, str):  # the text of a profile
        return [("x.toml", value)]
    return value.items() if isinstance(value, dict) else [(name, None) for name in value]


def put_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def put_ome(path, images):
    """Create an image of OME-Zarr 0.4 with one array, s0, and this list of images."""
    put_json(path / ".zgroup", {"zarr_format": 2})
    put_json(path / ".zattrs", {"multiscales": images})
    put_json(path / "s0/.zarray", V2)


def put_record(path, attributes):
    """Create an output whose run group states this."""
    put_json(path / "zarr.json", GROUP)
    put_json(path / "run/zarr.json", {**GROUP, "attributes": attributes})


def put_header(path, header):
    """Create a safetensors file of this header and 16 bytes."""
    text = header.encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(16))


def put_metadata(path, changes):
    """Create the place's weights with other metadata."""
    content = (path.parent / "w.safetensors").read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header["__metadata__"] |= changes
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[start:])


def put_deep(path, levels):
    """Create a JSON or TOML file of brackets in brackets."""
    nested = "[" * levels + "]" * levels
    path.write_text(nested if path.suffix == ".json" else f"x = {nested}")


MAKERS = {
    "files": lambda path, text: path.write_text(text),
    "profile": lambda path, text: path.write_text(text),
    "bytes": lambda path, digits: path.write_bytes(bytes.fromhex(digits)),
    "copies": lambda path, name: shutil.copy(path.parent.parent / name, path),
    "links": lambda path, target: path.symlink_to(target),
    "pipes": lambda path, _: os.mkfifo(path),
    "zarr": lambda path, changes: put_json(path / "zarr.json", {**V3, **changes}),
    "zarr2": lambda path, changes: put_json(path / ".zarray", {**V2, **changes}),
    "ome": put_ome,
    "record": put_record,
    "header": put_header,
    "metadata": put_metadata,
    "deep": put_deep,
    "long_number": lambda path, name: path.write_text(f"{name} = {'9' * 5000}"),
}
"""What a row may put into the place, by the name of its field: from path and value."""


def pytest_collection_modifyitems(config, items):
    """Leave out the long fuzzing unless it is asked for: ``-m fuzz``."""
    if "fuzz" in config.option.markexpr:
        return
    long = [item for item in items if item.get_closest_marker("fuzz")]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if item not in long]
