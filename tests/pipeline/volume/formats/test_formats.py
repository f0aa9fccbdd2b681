"""However an image is stored, the same voxels are read; others are refused in one line."""

from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.base.choices import DECODED_CACHE_BYTES
from pipeline.base.errors import VolumeError
from pipeline.base.geometry import Box
from pipeline.volume.formats import tiff as tiff_format
from pipeline.volume.formats.chunked import ChunkedArray, _cache
from pipeline.volume.volume import find_volume, open_volume

ZYX = np.random.default_rng(3).integers(0, 60000, (6, 70, 90)).astype(np.uint16)
RGB = np.random.default_rng(4).integers(0, 255, (3, 70, 90)).astype(np.uint8)
SIZES = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 2.0}


def read_all(location, **choices) -> np.ndarray:
    """Return a volume as (c, z, y, x), after it travelled to a worker."""
    source = pickle.loads(pickle.dumps(find_volume(str(location), **choices)))
    return open_volume(source).read(Box.of_shape(source.shape_zyx))


def slices(folder: Path, planes: np.ndarray, suffix: str, first: int = 8) -> Path:
    """Write planes as files whose numbers have no leading zeros, so text order is wrong."""
    folder.mkdir()
    for number, plane in enumerate(planes, first):
        if suffix == "png":
            (folder / f"s{number}.png").write_bytes(
                imagecodecs.png_encode(np.ascontiguousarray(plane))
            )
        else:
            tifffile.imwrite(folder / f"s{number}.{suffix}", plane, compression="lzw")
    return folder


STACKS = {
    "plain": {"metadata": None},
    "compressed strips": {"metadata": None, "compression": "zlib", "rowsperstrip": 7},
    "one compressed strip a page": {"metadata": None, "compression": "lzw", "rowsperstrip": 70},
    "tiles": {"metadata": None, "tile": (32, 48), "compression": "zlib", "predictor": True},
    "BigTIFF of big-endian tiles": {"bigtiff": True, "byteorder": ">", "tile": (32, 32)},
    "big-endian strips": {"byteorder": ">", "metadata": None},
    "ImageJ": {"imagej": True, "metadata": {"axes": "ZYX"}},
    "OME-TIFF": {"ome": True, "metadata": {"axes": "ZYX"}, "tile": (16, 16), "compression": "zstd"},
}


@pytest.mark.parametrize("kind", STACKS)
@pytest.mark.parametrize("whole_page_bytes", [0, 2**20])
def test_a_stack_in_one_file_is_read_like_its_zarr(tmp_path, monkeypatch, kind, whole_page_bytes):
    monkeypatch.setattr(tiff_format, "WHOLE_PAGE_BYTES", whole_page_bytes)
    tifffile.imwrite(tmp_path / "a.tif", ZYX, **STACKS[kind])
    zarr.create_array(str(tmp_path / "a.zarr"), data=ZYX)
    expected = read_all(tmp_path / "a.zarr", axes="zyx")
    np.testing.assert_array_equal(read_all(tmp_path / "a.tif"), expected)


@pytest.mark.parametrize("suffix", ["tif", "tiff", "png"])
@pytest.mark.parametrize("by", ["folder", "pattern"])
def test_a_folder_of_slices_is_read_in_the_order_of_its_numbers(tmp_path, suffix, by):
    folder = slices(tmp_path / "stack", ZYX, suffix)
    (folder / "notes.txt").write_text("not a slice")
    location = folder if by == "folder" else folder / f"s*.{suffix}"
    np.testing.assert_array_equal(read_all(location), ZYX[None])


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_samples_of_a_colour_image_are_channels(tmp_path, planar, compression):
    pixels = RGB if planar == "separate" else np.moveaxis(RGB, 0, -1)
    tifffile.imwrite(
        tmp_path / "a.tif", pixels, photometric="rgb", planarconfig=planar, compression=compression
    )
    np.testing.assert_array_equal(read_all(tmp_path / "a.tif"), RGB[:, None])
    np.testing.assert_array_equal(read_all(tmp_path / "a.tif", channel=[2, 0]), RGB[[2, 0], None])


def test_slices_of_colour_and_a_single_png_are_read(tmp_path):
    folder = slices(tmp_path / "stack", np.stack([np.moveaxis(RGB, 0, -1)] * 3), "png")
    np.testing.assert_array_equal(read_all(folder), np.stack([RGB] * 3, axis=1))
    np.testing.assert_array_equal(read_all(folder / "s8.png"), RGB[:, None])


def test_slices_that_are_cut_into_different_strips_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(tiff_format, "WHOLE_PAGE_BYTES", 0)
    (tmp_path / "s").mkdir()
    for number, rows in enumerate((7, 70, 9)):
        tifffile.imwrite(
            tmp_path / f"s/{number}.tif", ZYX[number], compression="zlib", rowsperstrip=rows
        )
    np.testing.assert_array_equal(read_all(tmp_path / "s"), ZYX[None, :3])


def test_times_and_channels_of_a_hyperstack_are_selected(tmp_path):
    tzcyx = np.random.default_rng(1).integers(0, 9, (2, 3, 4, 20, 30)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", tzcyx, imagej=True, metadata={"axes": "TZCYX"})
    read = read_all(tmp_path / "a.tif", time=1, channel=2)
    np.testing.assert_array_equal(read, tzcyx[1, :, 2][None])


def test_levels_of_a_pyramid_are_selected_with_their_voxel_size(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as file:
        options = {"tile": (32, 32), "compression": "zlib"}
        metadata = {"axes": "ZYX", "Channel": {"Name": ["DAPI"]}, **SIZES}
        file.write(ZYX, subifds=1, metadata=metadata, **options)
        file.write(ZYX[:, ::2, ::2], subfiletype=1, **options)
    np.testing.assert_array_equal(read_all(tmp_path / "a.ome.tif", level=1), ZYX[None, :, ::2, ::2])
    whole, half = (find_volume(str(tmp_path / "a.ome.tif"), level=n) for n in (0, 1))
    assert whole.voxel_size == (2.0, 0.5, 0.5)
    assert half.voxel_size == (2.0, 1.0, 1.0)
    assert half.unit == ("micrometer",) * 3
    with pytest.raises(VolumeError, match=r"has no level 2; it has 0 \(6×70×90\), 1"):
        find_volume(str(tmp_path / "a.ome.tif"), level=2)


@pytest.mark.parametrize(
    ("options", "size", "unit"),
    [
        ({"ome": True, "metadata": {"axes": "ZYX", **SIZES}}, (2, 0.5, 0.5), "micrometer"),
        (
            {
                "imagej": True,
                "resolution": (4, 2),
                "metadata": {"axes": "ZYX", "spacing": 3, "unit": "nm"},
            },
            (3, 0.5, 0.25),
            "nanometer",
        ),
        (
            {"metadata": None, "resolution": (2e4, 1e4), "resolutionunit": "CENTIMETER"},
            (1, 1, 0.5),
            "micrometer",
        ),
        ({"metadata": None, "resolution": (300, 300), "resolutionunit": "INCH"}, (1, 1, 1), None),
        (
            {"metadata": None, "description": "Aperio Image Library\r\n|AppMag = 20|MPP = 0.499"},
            (1, 0.499, 0.499),
            "micrometer",
        ),
    ],
)
def test_the_voxel_size_is_what_the_file_states(tmp_path, options, size, unit):
    tifffile.imwrite(tmp_path / "a.tif", ZYX, **options)
    source = find_volume(str(tmp_path / "a.tif"))
    assert source.voxel_size == pytest.approx(size)
    assert source.unit[1:] == (unit, unit)


def test_channels_are_selected_by_the_names_of_the_file(tmp_path):
    metadata = {"axes": "CYX", "Channel": {"Name": ["red", "green", "blue"]}}
    tifffile.imwrite(tmp_path / "a.ome.tif", RGB, metadata=metadata)
    np.testing.assert_array_equal(read_all(tmp_path / "a.ome.tif", channel="green"), RGB[1:2, None])


def test_tiles_that_the_file_leaves_out_are_zero(tmp_path):
    plane = np.zeros((64, 64), np.uint8)
    plane[:32, :32] = 7

    def tiles():
        yield plane[:32, :32]
        yield from (None, None, None)

    tifffile.imwrite(
        tmp_path / "a.tif", tiles(), shape=(64, 64), dtype="uint8", tile=(32, 32),
        compression="zlib",
    )  # fmt: skip
    np.testing.assert_array_equal(read_all(tmp_path / "a.tif"), plane[None, None])


@st.composite
def boxes(draw):
    shape = draw(st.lists(st.integers(1, 9), min_size=1, max_size=4).map(tuple))
    chunks = tuple(draw(st.integers(1, 5)) for _ in shape)
    selection = tuple(
        draw(st.integers(0, n - 1))
        if draw(st.booleans())
        else slice(*sorted((draw(st.integers(0, n)), draw(st.integers(0, n)))))
        for n in shape
    )
    return shape, chunks, selection


@given(boxes())
def test_chunks_put_together_equal_the_array(case):
    shape, chunks, selection = case
    values = np.arange(np.prod(shape)).reshape(shape)

    def read_chunk(index):
        return values[tuple(slice(i * n, (i + 1) * n) for i, n in zip(index, chunks, strict=True))]

    array = ChunkedArray(shape, chunks, values.dtype, read_chunk)
    np.testing.assert_array_equal(array[selection], values[selection])


def test_the_cache_of_chunks_is_bounded_and_dies_with_its_arrays():
    chunk = np.zeros(2**23, np.uint8)
    array = ChunkedArray((2**29,), (2**23,), chunk.dtype, lambda index: chunk)
    for start in range(0, 2**29, 2**23):
        array[(slice(start, start + 1),)]
        assert _cache._bytes <= DECODED_CACHE_BYTES
    kept = _cache._bytes
    del array
    assert _cache._bytes < kept


def truncated(path: Path) -> Path:
    tifffile.imwrite(path, ZYX, compression="zlib", metadata=None)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    return path


def truncated_plane(path: Path) -> Path:
    """A file whose tags come first and are whole, but whose pixels are not."""
    tifffile.imwrite(path, ZYX[0], metadata=None)
    path.write_bytes(path.read_bytes()[:-1000])
    return path


def pages_of_two_sizes(path: Path) -> Path:
    with tifffile.TiffWriter(path) as file:
        file.write(ZYX[0], metadata=None)
        file.write(ZYX[0, :32], metadata=None)
    return path


def gap(path: Path) -> Path:
    slices(path, ZYX, "png")
    (path / "s10.png").unlink()
    return path


def odd_size(path: Path) -> Path:
    slices(path, ZYX, "tif")
    tifffile.imwrite(path / "s14.tif", ZYX[0, :9])
    return path


def odd_type(path: Path) -> Path:
    slices(path, ZYX, "tif")
    tifffile.imwrite(path / "s14.tif", ZYX[0].astype(np.uint8))
    return path


def two_formats(path: Path) -> Path:
    slices(path, ZYX, "tif")
    (path / "s99.png").write_bytes(imagecodecs.png_encode(ZYX[0]))
    return path


def two_numbers(path: Path) -> Path:
    path.mkdir()
    for z in range(2):
        for c in range(2):
            tifffile.imwrite(path / f"z{z}_c{c}.tif", ZYX[0])
    return path


def several_pages(path: Path) -> Path:
    path.mkdir()
    for z in range(2):
        tifffile.imwrite(path / f"{z}.tif", ZYX)
    return path


@pytest.mark.parametrize(("mode", "samples"), [("L", 2), ("RGB", 4), ("P", 4)])
def test_a_png_with_a_transparent_colour_has_one_more_channel(mode, samples, tmp_path):
    picture = Image.fromarray(np.array([[0, 1, 2], [2, 3, 0]], np.uint8)).convert(mode)
    colour = (0, 0, 0) if mode == "RGB" else 0
    picture.save(tmp_path / "one.png", transparency=colour)
    found = read_all(tmp_path / "one.png")
    assert found.shape == (samples, 1, 2, 3)
    assert found[-1, 0].tolist() == [[0, 255, 255], [255, 255, 0]]


def truncated_png(path: Path) -> Path:
    path.mkdir()
    (path / "1.png").write_bytes(imagecodecs.png_encode(ZYX[0])[:20])
    return path


def pattern_of_nothing(path: Path) -> Path:
    return path / "*.tif"


def no_image(path: Path) -> Path:
    path.write_text("hello")
    return path


def czi(path: Path) -> Path:
    path = path.with_suffix(".czi")
    path.write_bytes(b"ZISRAWFILE" + bytes(100))
    return path


def link_loop(path: Path) -> Path:
    path.symlink_to(path)
    return path


def pipe(path: Path) -> Path:
    slices(path, ZYX, "tif")
    os.mkfifo(path / "s14.tif")
    return path


def distant_number(path: Path) -> Path:
    slices(path, ZYX, "png")
    (path / "s13.png").rename(path / f"s{10**30}.png")
    return path


def png_header(path: Path, height: int, width: int) -> Path:
    path = path.with_suffix(".png")
    whole = imagecodecs.png_encode(ZYX[0])
    path.write_bytes(whole[:16] + struct.pack(">II", width, height) + whole[24:])
    return path


def empty_png(path: Path) -> Path:
    return png_header(path, 0, 9)


def huge_png(path: Path) -> Path:
    return png_header(path, 2**31 - 1, 2**31 - 1)


def changed_tag(path: Path, name: str, value: Any, **options: Any) -> Path:
    """A file of one page that states another value in a tag."""
    tifffile.imwrite(path, ZYX[0], metadata=None, **options)
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[0].tags[name].overwrite(value)
    return path


def empty_page(path: Path) -> Path:
    return changed_tag(path, "ImageWidth", 0)


def huge_strip(path: Path) -> Path:
    return changed_tag(path, "ImageWidth", 2**31, compression="zlib", rowsperstrip=70)


def missing_strips(path: Path) -> Path:
    return changed_tag(path, "ImageLength", 90, compression="zlib", rowsperstrip=10)


def strips_without_rows(path: Path) -> Path:
    return changed_tag(path, "RowsPerStrip", 0, compression="zlib")


def complex_numbers(path: Path) -> Path:
    tifffile.imwrite(path, ZYX.astype(np.complex64))
    return path


def missing_planes(path: Path) -> Path:
    """An OME-TIFF whose second plane would be in another file."""
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="90" SizeY="70" '
        'SizeZ="2" SizeC="1" SizeT="1"><TiffData IFD="0" FirstZ="0"/><TiffData IFD="0" FirstZ="1">'
        '<UUID FileName="absent.ome.tif">urn:uuid:1</UUID></TiffData></Pixels></Image></OME>'
    )
    tifffile.imwrite(path, ZYX[0], description=xml, metadata=None)
    return path


def chain_of_pages(path: Path, count: int, back_to: int) -> Path:
    """A file of pages of alternating sizes; the last one is followed by an earlier one."""
    with tifffile.TiffWriter(path) as file:
        for number in range(count):
            file.write(ZYX[0, : 2 + number % 2, :2], metadata=None)
    with tifffile.TiffFile(path) as file:
        last, target = file.pages[count - 1].offset, file.pages[back_to].offset
    content = bytearray(path.read_bytes())
    (tags,) = struct.unpack_from("<H", content, last)
    struct.pack_into("<I", content, last + 2 + 12 * tags, target)
    path.write_bytes(content)
    return path


def pages_in_a_circle(path: Path) -> Path:
    return chain_of_pages(path, 3, 0)


def pages_in_a_late_circle(path: Path) -> Path:
    return chain_of_pages(path, 150, 120)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (pipe, "s14.tif is not a file, or a link to nothing"),
        (distant_number, "number 13, 14, .* more missing between 8 and 10{30}"),
        (empty_png, "is empty: its shape is 0×9"),
        (huge_png, "is truncated: it states 2147483647×2147483647 pixels"),
        (empty_page, "is empty: its shape is 70×0"),
        (huge_strip, "is damaged: it states 280 GiB for a strip or tile"),
        (missing_strips, "is damaged: it has 7 of 9 strips or tiles"),
        (strips_without_rows, "input: "),
        (complex_numbers, "holds complex64, not grey values"),
        (missing_planes, "is incomplete .*absent.ome.tif"),
        (pages_in_a_circle, "is truncated or damaged .*circular"),
        (pages_in_a_late_circle, "its chain of pages returns to an earlier page"),
        (truncated, "is truncated or damaged"),
        (truncated_plane, "is truncated"),
        (pages_of_two_sizes, r"holds 2 images .*0: 70×90 uint16; 1: 32×90.* e\.g\. .*/0$"),
        (gap, "slice number 10 missing between 8 and 13"),
        (odd_size, "1 of 7 slices differ from the first: s14.tif is 9×90 uint16"),
        (odd_type, "s14.tif is 70×90 uint8"),
        (two_formats, r"several formats \(png, tif\)"),
        (two_numbers, "2 numbers vary in the file names"),
        (several_pages, "has 6 pages: a stack of slices has one page per file"),
        (truncated_png, "is not a PNG file, or is truncated"),
        (pattern_of_nothing, "matches no file"),
        (no_image, "is not an image"),
        (czi, "Zeiss CZI.*convert it to OME-TIFF or OME-Zarr"),
        (link_loop, "symbolic link"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(tmp_path, make, text):
    with pytest.raises(VolumeError, match=text) as caught:
        find_volume(str(make(tmp_path / "input")))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["Aperio |MPP = 0.1.2|", "ImageJ=1.53\nimages=1\nunit=um\nspacing=x"]
)
def test_an_unusable_voxel_size_costs_a_note_only(tmp_path, text):
    tifffile.imwrite(tmp_path / "a.tif", ZYX[0], description=text, metadata=None)
    assert find_volume(str(tmp_path / "a.tif")).notes == (
        "the stated voxel size is unusable: assumed 1",
    )


def test_a_codec_that_is_not_installed_is_named(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", ZYX, compression="zlib")
    monkeypatch.setattr(type(tifffile.TIFF.DECOMPRESSORS), "__getitem__", lambda self, key: {}[key])
    with pytest.raises(VolumeError, match="compressed as ADOBE_DEFLATE, and its codec is not"):
        find_volume(str(tmp_path / "a.tif"))
