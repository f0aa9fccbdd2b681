"""Intermediate files hold exactly what was put in; damaged ones are named, never half read."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from pipeline.base.errors import RunError
from pipeline.base.geometry import Box
from pipeline.base.location import Location
from pipeline.objects.definition.method import Method
from pipeline.objects.fragments.labelled_block import outer_box
from pipeline.objects.fragments.labelling import label_block
from pipeline.objects.merging.link import BlockGraph, linked
from pipeline.objects.merging.merge import merge
from pipeline.objects.tasks.ids import Names
from pipeline.objects.tasks.intermediates import FOLDER, Intermediates, pack, unpack
from pipeline.objects.tasks.tasks import BlockLabels

SHAPE, CORE = (4, 6, 8), (4, 6, 4)


def values():
    """Return one of each dataclass that is stored, of two blocks; and empty ones."""
    scores = np.random.default_rng(0).integers(0, 9, SHAPE).astype(np.uint8)
    for threshold in (5, 1):
        method = Method(
            role="boundary", threshold=threshold, connectivity=26, per_slice=False, depth=3
        )
        boxes = Box((0, 0, 0), CORE), Box((0, 0, 4), SHAPE)
        blocks = [
            label_block(
                scores[outer_box(box, method, SHAPE).slices], core=box, method=method, shape=SHAPE
            )
            for box in boxes
        ]
        direction = (0, 0, 1)
        state = linked(
            blocks[0], {direction: blocks[1]}, box=boxes[0], boxes={direction: boxes[1]},
            offsets=method.offsets, shape=SHAPE,
        )  # fmt: skip
        _, settled = merge([state], method.rule)
        fields = [field.name for field in dataclasses.fields(BlockGraph)]
        graph = BlockGraph(**{name: getattr(blocks[0], name) for name in fields})
        yield from (BlockLabels(labels=blocks[0].labels), graph, state, *settled)
        yield from (
            state.records,
            Names(names=state.records.names),
            Names(names=state.records.names[:0]),
        )
        yield dataclasses.replace(graph, faces={})
        yield BlockLabels(labels=np.asfortranarray(blocks[0].labels))


def assert_equal(found, expected):
    if dataclasses.is_dataclass(expected):
        assert type(found) is type(expected)
        for field in dataclasses.fields(expected):
            assert_equal(getattr(found, field.name), getattr(expected, field.name))
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert_equal(found[key], value)
    else:
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


@pytest.fixture(scope="module")
def stored():
    return list(values())


def test_what_is_stored_is_read_with_its_shapes_and_dtypes(stored):
    for value in stored:
        assert_equal(unpack(pack(value), type(value)), value)


def test_a_part_is_read_as_it_lies_in_the_whole(stored):
    graph = next(value for value in stored if isinstance(value, BlockGraph) and value.faces)
    content = pack(graph)
    for (axis, side), face in graph.faces.items():
        assert_equal(unpack(content, type(face), part=f"faces/{axis},{side}"), face)
    assert_equal(unpack(content, np.ndarray, part="records/names"), graph.records.names)
    with pytest.raises(ValueError, match="values to unpack"):
        unpack(content, np.ndarray, part="faces/2,1/label")  # the start of a name, and not a part


def test_a_file_with_any_byte_changed_raises_or_reads_the_same():
    value = Names(names=np.arange(3, 40, dtype=np.uint64))
    content = pack(value)
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        try:
            found = unpack(bytes(damaged), Names)
        except Exception:  # Intermediates.get explains any
            continue
        assert_equal(found, value)


@pytest.mark.parametrize("damage", ["missing", "truncated", "changed", "another kind"])
def test_a_damaged_file_is_named_with_its_remedy(damage, tmp_path):
    files = Intermediates(Location.parse(tmp_path / "out.zarr"))
    files.put("numbers", "0.1", Names(names=np.arange(9, dtype=np.uint64)))
    path = tmp_path / "out.zarr" / FOLDER / "numbers" / "0.1"
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(content[:-9])
    elif damage == "changed":
        content[len(content) // 2] ^= 16
        path.write_bytes(content)
    kind = BlockGraph if damage == "another kind" else Names
    with pytest.raises(RunError) as caught:
        files.get("numbers", "0.1", kind)
    assert str(path) in str(caught.value)
    folder = tmp_path / "out.zarr" / FOLDER
    assert f"delete the folder {folder}, then start the same run again" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_are_listed_without_those_being_written_and_deleted_together(tmp_path):
    files = Intermediates(Location.parse(tmp_path / "out.zarr"))
    assert files.names("graphs") == frozenset()
    for name in ("0.0.0", "0.0.1"):
        files.put("graphs", name, Names(names=np.arange(2, dtype=np.uint64)))
    (tmp_path / "out.zarr" / FOLDER / "graphs" / "0.0.2.partial").write_bytes(b"")
    assert files.names("graphs") == {"0.0.0", "0.0.1"}
    files.delete()
    assert not (tmp_path / "out.zarr" / FOLDER).exists()
