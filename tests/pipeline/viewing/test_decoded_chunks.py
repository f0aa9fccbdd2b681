"""Stored chunks that are larger than what a viewer asks for are decoded once."""

from __future__ import annotations

import itertools
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zarr

from pipeline.base.errors import VolumeError
from pipeline.base.geometry import Box
from pipeline.base.location import Location
from pipeline.viewing import decoded_chunks
from pipeline.viewing.decoded_chunks import DecodedChunks
from pipeline.viewing.layers import find_view
from pipeline.viewing.virtual_zarr import answer

SHAPE, CHUNK = (100, 131, 150), (100, 101, 75)
"""Chunks are halved to pieces that do not divide them: a piece reaches into the next chunk."""


@pytest.fixture
def stored(tmp_path, textured):
    """A volume of four chunks, and its one layer."""
    values = textured((1, *SHAPE))[0]
    folder = tmp_path / "in.zarr"
    zarr.create_array(folder, data=values, chunks=CHUNK, dimension_names=list("zyx"))
    (layer,) = find_view(Location.parse(folder)).layers
    return values, layer


@pytest.fixture
def decoded(monkeypatch):
    """The boxes that were really read, in their order."""
    boxes, read_box = [], decoded_chunks.read_box

    def counted(source, box):
        boxes.append(box)
        return read_box(source, box)

    monkeypatch.setattr(decoded_chunks, "read_box", counted)
    return boxes


def test_pieces_that_are_asked_for_at_once_decode_each_stored_chunk_once(stored, decoded):
    values, layer = stored
    piece = json.loads(answer(layer, "0/.zarray"))["chunks"]
    assert any(c % p for c, p in zip(CHUNK, piece, strict=True))
    grid = [range(-(-n // p)) for n, p in zip(SHAPE, piece, strict=True)]
    read = DecodedChunks().read

    def content(index):
        return answer(layer, f"0/{'/'.join(map(str, index))}", read=read)

    with ThreadPoolExecutor(4) as pool:
        indices = [*itertools.product(*grid)]
        contents = dict(zip(indices, pool.map(content, indices), strict=True))
    assert len(contents) > len(decoded) == len(set(decoded)) == 4
    for index, found in contents.items():
        place = tuple(slice(i * p, (i + 1) * p) for i, p in zip(index, piece, strict=True))
        expected = values[place]
        shown = np.frombuffer(found, values.dtype).reshape(piece)
        np.testing.assert_array_equal(shown[tuple(map(slice, expected.shape))], expected)


def test_the_chunks_read_last_are_held_up_to_a_number_of_bytes(stored, decoded):
    _, layer = stored
    chunks = DecodedChunks(most_bytes=0)
    first, other = Box((0, 0, 0), (1, 1, 1)), Box((99, 130, 149), (100, 131, 150))
    for box in (first, first, other, other, first):
        chunks.read(layer.source, box)
    assert len(decoded) == 3


def test_a_chunk_that_could_not_be_read_is_tried_again(stored):
    values, layer = stored
    path = layer.source.location.path / "c/0/0/0"
    content, box, chunks = path.read_bytes(), Box((0, 0, 0), (9, 9, 9)), DecodedChunks()
    path.write_bytes(b"no zstd frame")
    with pytest.raises(VolumeError):
        chunks.read(layer.source, box)
    path.write_bytes(content)
    np.testing.assert_array_equal(chunks.read(layer.source, box)[0], values[box.slices])
