"""Unusual values and layouts of the input: the same voxels give the same bytes."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import zarr
from zarr.codecs import BytesCodec

from faults.laws import check_content, check_words
from faults.small import COMMANDS, SHAPE, store_scores, textured

pytestmark = pytest.mark.faults
CHUNKS = (4, 16, 32)
SOURCES = {
    "segment": "raw", "objects": "scores", "convert": "raw", "train": "raw", "evaluate": "labels"
}  # fmt: skip
ALL_STORED = {"fill_value": 0, "config": {"write_empty_chunks": True}}


def voxels_of(name):
    """Return the voxels of the input that the tests change, as the suite has them."""
    raw = textured(SHAPE, seed=1)
    if SOURCES[name] == "labels":
        return (raw > 128).astype("u1")
    cell = textured(SHAPE, seed=5)
    return np.stack([cell, 255 - cell]) if SOURCES[name] == "scores" else raw


def inputs_with(trial, name, array, label, *, order="little", **options):
    """Return a folder with the inputs, of which the command's first one is this array."""
    inputs = trial.folder / f"{label} in"
    inputs.mkdir()
    replaced = f"{SOURCES[name]}.zarr"
    for path in trial.place.inputs.iterdir():
        if path.name != replaced:
            (inputs / path.name).symlink_to(path)
    options["serializer"] = BytesCodec(endian=order)
    if array.ndim == 4:
        store_scores(inputs / replaced, array, **options)
    else:
        zarr.create_array(
            inputs / replaced, data=array, chunks=CHUNKS, dimension_names=("z", "y", "x"), **options
        )
    return inputs


def ended(trial, name, inputs, label, *, words=()):
    """Run a command to its end; return how it ended and where its output is."""
    output = trial.folder / label / COMMANDS[name].output
    output.parent.mkdir()
    return trial.commands.start([*COMMANDS[name].words(inputs, output), *words]).ended(), output


def ran(trial, name, array, label, *, words=(), **options):
    """Run a command on an array; return its output."""
    inputs = inputs_with(trial, name, array, label, **options)
    end, output = ended(trial, name, inputs, label, words=words)
    check_words(end)
    return output


def check_equal(name, output, other):
    """Raise AssertionError unless two outputs have the same bytes, but for words about inputs."""
    contents = [dict(COMMANDS[name].promised(one)) for one in (output, other)]
    if name == "evaluate":
        for content in contents:
            content.update(dict.fromkeys(("prediction", "truth", "notes"), b""))
    check_content(*contents)


def copied(output):
    """Return the voxels of a conversion's finest level."""
    return np.asarray(zarr.open_array(output / "0", mode="r")[...])


def chunk_files(inputs, name):
    folder = inputs / f"{SOURCES[name]}.zarr"
    return [path for path in folder.rglob("c/**/*") if path.is_file()]


@pytest.mark.parametrize("dtype", ["u2", "f4"])
def test_the_order_of_bytes_and_the_dtype_change_no_voxel(dtype, trial):
    expected = trial.place.reference(COMMANDS["segment"]).content
    for order in ("big", "little"):
        array, label = textured(SHAPE, seed=1).astype(dtype), f"values as {order}-endian {dtype}"
        output = ran(trial, "segment", array, label, order=order)
        check_content(COMMANDS["segment"].promised(output), expected)
        trial.record("segment", label)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("segment", "i4"), ("objects", "u2"), ("convert", "u2"), ("train", "u2"), ("evaluate", "u2")],
)
def test_the_order_of_bytes_changes_no_voxel(name, dtype, trial):
    """Wide integers are normalised in float64, so scores differ from uint8's in the last bits."""
    array = voxels_of(name).astype(dtype)
    label = f"values as big-endian {dtype}"
    big = ran(trial, name, array, label, order="big")
    check_stored_big(trial.folder / f"{label} in" / f"{SOURCES[name]}.zarr")
    check_equal(name, big, ran(trial, name, array, "little"))
    if name == "convert":
        np.testing.assert_array_equal(copied(big), array)
    trial.record(name, label)


def check_stored_big(source):
    """Raise AssertionError unless the metadata states it: Zarr ignores the order of a dtype."""
    (document,) = [*source.glob("0/zarr.json")] or [source / "zarr.json"]
    assert json.loads(document.read_text())["codecs"][0]["configuration"] == {"endian": "big"}


@pytest.mark.parametrize("name", COMMANDS)
def test_missing_chunks_are_read_as_the_fill_value(name, trial):
    array = voxels_of(name)
    array[..., :4, 16:, 32:64] = 37
    array[..., 4:, :16, :] = 37
    sparse = inputs_with(trial, name, array, "missing chunks", fill_value=37)
    per_volume = 2 * 2 * 3
    assert len(chunk_files(sparse, name)) == (per_volume - 4) * (array.size // np.prod(SHAPE))
    end, output = ended(trial, name, sparse, "missing chunks")
    check_words(end)
    check_equal(name, output, ran(trial, name, array, "all chunks", **ALL_STORED))
    if name == "convert":
        np.testing.assert_array_equal(copied(output), array)
    trial.record(name, "missing chunks")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_volume_without_any_chunk_is_that_of_the_fill_value_or_is_refused(name, trial):
    """As a copy that was given up after the metadata: what is done equals stored zeros."""
    array = np.zeros_like(voxels_of(name))
    empty, full = (
        inputs_with(trial, name, array, label, **options)
        for label, options in (("no chunk", {}), ("all chunks", ALL_STORED))
    )
    assert not chunk_files(empty, name)
    (of_empty, output), (of_full, other) = (
        ended(trial, name, inputs, label)
        for inputs, label in ((empty, "no chunk"), (full, "all chunks"))
    )
    check_words(of_empty, codes=(0, 2))
    check_words(of_full, codes=(0, 2))
    if of_empty.code == 0:
        assert of_full.code == 0, of_full
        check_equal(name, output, other)
        said = output.read_text() if name == "evaluate" else of_empty.text
        assert "chunks that were looked at are stored" in said
    trial.record(name, "no chunk at all", outcome="refused" if of_empty.code else "identical")


def test_nan_and_infinite_values_are_segmented_as_0(trial):
    found, expected = with_bad_values("segment"), with_bad_values("segment", instead=0)
    output = ran(trial, "segment", found, "NaN and infinite")
    check_equal("segment", output, ran(trial, "segment", expected, "zeros"))
    trial.record("segment", "NaN and infinite")


def with_bad_values(name, *, instead=None):
    """Return the input with NaN and infinite values, or another value at their places."""
    array = voxels_of(name).astype("f4") / (255 if SOURCES[name] == "scores" else 1)
    for place, value in (((0, 3, 5), np.nan), ((5, 20, 70), np.inf), ((7, 31, 95), -np.inf)):
        array[(..., *place)] = value if instead is None else instead
    return array


def test_nan_and_infinite_values_are_copied(trial):
    array = with_bad_values("convert")
    output = ran(trial, "convert", array, "NaN and infinite")
    np.testing.assert_array_equal(copied(output), array)
    trial.record("convert", "NaN and infinite")


@pytest.mark.parametrize("name", ["objects", "evaluate"])
def test_nan_among_scores_or_labels_is_refused_with_its_volume(name, trial):
    inputs = inputs_with(trial, name, with_bad_values(name), "NaN and infinite")
    end, _ = ended(trial, name, inputs, "NaN and infinite")
    check_words(end, codes=(1, 2))
    assert f"{SOURCES[name]}.zarr" in end.last_line, end
    assert re.search("NaN|float", end.last_line), end
    trial.record(name, "NaN and infinite", outcome="refused")


def test_a_training_counts_nan_and_infinite_values_as_0_and_says_so(trial):
    inputs = inputs_with(trial, "train", with_bad_values("train"), "NaN and infinite")
    end, output = ended(trial, "train", inputs, "NaN and infinite")
    check_words(end)
    assert re.search("NaN or infinite", end.text), end.text
    check_finite(output)
    trial.record("train", "NaN and infinite", outcome="counted as 0")


def check_finite(output):
    """Raise AssertionError if a trained weight is NaN or infinite."""
    for name, content in COMMANDS["train"].promised(output).items():
        assert np.isfinite(np.frombuffer(content, "<f4")).all(), name


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("value", [0, 255])
def test_a_constant_volume_gives_what_is_right_or_is_refused(value, name, trial):
    value = min(value, 1) if name == "evaluate" else value
    label = f"constant {value}"
    array = np.full_like(voxels_of(name), value)
    end, output = ended(trial, name, inputs_with(trial, name, array, label), label)
    check_words(end, codes=(0, 2) if name == "train" else (0,))
    if end.code == 0:
        check_right(trial, name, array, output)
    trial.record(name, label, outcome="refused" if end.code else "as computed otherwise")


@pytest.mark.parametrize("name", ["segment", "objects", "convert", "train"])
def test_a_saturated_volume_gives_what_is_right(name, trial):
    array = voxels_of(name)
    array = np.where(array > 128, 255, array).astype("u1")
    check_right(trial, name, array, ran(trial, name, array, "saturated"))
    trial.record(name, "saturated", outcome="as computed otherwise")


def check_right(trial, name, array, output):
    """Raise AssertionError unless an output is right for an array, by another way to the same."""
    if name == "convert":
        np.testing.assert_array_equal(copied(output), array)
    elif name == "objects":  # labels do not depend on the blocks
        whole = ran(trial, name, array, "one block", words=["--block", ",".join(map(str, SHAPE))])
        np.testing.assert_array_equal(*map(labels_in, (output, whole)))
    elif name == "train":
        check_finite(output)
    elif name == "evaluate":
        truth = np.asarray(zarr.open_array(trial.place.inputs / "truth.zarr", mode="r")[...])
        error = json.loads(output.read_text())["classes"]["pixel_error"]
        assert error == pytest.approx(np.mean(truth != array))
    else:
        assert COMMANDS[name].promised(output)


def labels_in(output):
    return np.asarray(zarr.open_array(output / "labels/objects/0", mode="r")[...])
