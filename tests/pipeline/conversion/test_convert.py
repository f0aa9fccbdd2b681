"""A converted image holds the same voxels and metadata, however often the conversion was killed."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
import zarr

from pipeline.base.errors import OutputError, RunError, VolumeError
from pipeline.base.geometry import Box
from pipeline.conversion import run as run_module
from pipeline.conversion.prepare import prepare_conversion
from pipeline.conversion.request import ConvertRequest
from pipeline.conversion.run import ConversionRun
from pipeline.ledger.status import read_status
from pipeline.volume.volume import find_volume, open_volume

ZYX = np.random.default_rng(3).integers(0, 60000, (9, 70, 90)).astype(np.uint16)
LARGE = np.tile(ZYX[:6], (1, 12, 9))  # its pages are too large to be decoded as one chunk
TILES = {"tile": (256, 256), "compression": "zlib", "metadata": None}
SMALL = {"shard": (4, 256, 256), "chunk": (2, 128, 256)}
OME = {
    "axes": "CZYX",
    "PhysicalSizeX": 0.5,
    "PhysicalSizeY": 0.25,
    "PhysicalSizeZ": 2.0,
    "Channel": {"Name": ["DAPI", "GFP"]},
}


def convert(client, source, output, **options):
    request = ConvertRequest(input=str(source), output=str(output), **options)
    run = ConversionRun.start(prepare_conversion(request), client)
    run.complete()
    return run


def read_all(location, **choices):
    source = find_volume(str(location), **choices)
    return open_volume(source).read(Box.of_shape(source.shape_zyx))


def files_of(folder):
    """Return every stored chunk and document of an output, without its ledger."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.relative_to(folder).parts[0] != "run"
    }


@pytest.mark.parametrize("version", ["0.5", "0.4"])
def test_voxels_scale_and_channels_survive_a_conversion(tmp_path, one_worker, version):
    czyx = np.stack([LARGE, LARGE[::-1] // 2])
    tifffile.imwrite(tmp_path / "a.ome.tif", czyx, metadata=OME, compression="zlib")
    convert(one_worker, tmp_path / "a.ome.tif", tmp_path / "a.zarr", format=version, **SMALL)
    np.testing.assert_array_equal(read_all(tmp_path / "a.zarr"), czyx)
    before, after = (find_volume(str(tmp_path / name)) for name in ("a.ome.tif", "a.zarr"))
    assert after.voxel_size == before.voxel_size == (2.0, 0.25, 0.5)
    assert after.unit == before.unit
    assert after.channel_names == ("DAPI", "GFP")
    assert find_volume(str(tmp_path / "a.zarr"), level=1).shape_zyx == (6, 420, 810)


@pytest.mark.parametrize("axes", ["yx", "yxc", "zyx"])
def test_the_axes_of_the_image_are_kept_without_t_and_with_c_first(tmp_path, one_worker, axes):
    values = {"yx": ZYX[0], "yxc": np.moveaxis(ZYX[:3], 0, -1), "zyx": ZYX}[axes]
    zarr.create_array(str(tmp_path / "in.zarr"), data=values)
    convert(one_worker, tmp_path / "in.zarr", tmp_path / "out.zarr", axes=axes)
    found = find_volume(str(tmp_path / "out.zarr"))
    assert found.axes == {"yx": "yx", "yxc": "cyx", "zyx": "zyx"}[axes]
    expected = read_all(tmp_path / "in.zarr", axes=axes)
    np.testing.assert_array_equal(read_all(tmp_path / "out.zarr"), expected)


def test_coarser_levels_of_labels_hold_labels_only(tmp_path, one_worker):
    ids = (np.arange(16 * 600 * 600).reshape(16, 600, 600) // 7777 * 1000003).astype(np.uint32)
    zarr.create_array(str(tmp_path / "in.zarr"), data=ids, dimension_names=["z", "y", "x"])
    convert(one_worker, tmp_path / "in.zarr", tmp_path / "out.zarr", labels=True)
    coarse = zarr.open_array(str(tmp_path / "out.zarr/1"), mode="r")[...]
    assert np.isin(np.unique(coarse), ids).all()
    zarr.create_array(str(tmp_path / "f.zarr"), data=np.ones((9, 9), np.float32))
    with pytest.raises(VolumeError, match="holds float32: labels are integers"):
        convert(one_worker, tmp_path / "f.zarr", tmp_path / "none.zarr", labels=True)
    assert not (tmp_path / "none.zarr").exists()


def test_a_stopped_conversion_resumes_to_the_same_bytes(tmp_path, one_worker, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", LARGE, **TILES)
    convert(one_worker, tmp_path / "a.tif", tmp_path / "undisturbed.zarr", **SMALL)
    recorded = []

    def stop_soon(self, outcomes):
        recorded.extend(outcomes)
        original(self, outcomes)
        if len(recorded) > 4:
            raise RunError("stopped by the test")

    original = ConversionRun._record
    with monkeypatch.context() as patch:
        patch.setattr(run_module.ConversionRun, "_record", stop_soon)
        with pytest.raises(RunError, match="by the test"):
            convert(one_worker, tmp_path / "a.tif", tmp_path / "out.zarr", **SMALL)
    done = read_status(ConvertRequest(input="a", output=str(tmp_path / "out.zarr")).output)
    assert 0 < done.total.done < done.total.blocks
    run = convert(one_worker, tmp_path / "a.tif", tmp_path / "out.zarr", **SMALL)
    assert run.resumed_blocks == done.total.done
    first, second = (files_of(tmp_path / name) for name in ("undisturbed.zarr", "out.zarr"))
    named = {k: v.replace(b"undisturbed", b"out") for k, v in first.items()}
    assert named == second


def test_another_input_is_not_mixed_into_an_output(tmp_path, one_worker):
    for name, values in (("a", ZYX), ("b", ZYX + 1)):
        tifffile.imwrite(tmp_path / f"{name}.tif", values, metadata=None)
    convert(one_worker, tmp_path / "a.tif", tmp_path / "out.zarr")
    with pytest.raises(OutputError, match="belongs to another job"):
        convert(one_worker, tmp_path / "b.tif", tmp_path / "out.zarr")
    convert(one_worker, tmp_path / "b.tif", tmp_path / "out.zarr", overwrite=True)
    np.testing.assert_array_equal(read_all(tmp_path / "out.zarr"), (ZYX + 1)[None])


def test_a_damaged_chunk_is_set_aside_and_named(tmp_path, one_worker):
    tifffile.imwrite(tmp_path / "a.tif", LARGE, **TILES)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        offset = file.pages[5].dataoffsets[5]
    content = bytearray((tmp_path / "a.tif").read_bytes())
    content[offset : offset + 40] = bytes(40)
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(RunError, match=r"1 of 32 blocks failed .*block 1,1,1: .*Error"):
        convert(one_worker, tmp_path / "a.tif", tmp_path / "out.zarr", retries=0, **SMALL)
    np.testing.assert_array_equal(read_all(tmp_path / "out.zarr")[0, :4], LARGE[:4])


@pytest.mark.parametrize("version", ["0.5", "0.4"])
def test_a_chunk_that_is_repaired_leaves_no_trace(tmp_path, one_worker, version):
    source, volume = tmp_path / "a.zarr", np.arange(8**3, dtype=np.uint16).reshape(8, 8, 8)
    array = zarr.create_array(source, shape=volume.shape, chunks=(4, 4, 4), dtype="uint16")
    array[:] = volume  # the chunk of its highest grey values is damaged
    brightest = source / "c" / "1" / "1" / "1"
    content = brightest.read_bytes()
    brightest.write_bytes(content[:5])
    same = {"format": version, "shard": (4, 4, 4), "chunk": (4, 4, 4), "retries": 0}
    with pytest.raises(RunError, match="1 of 8 blocks failed"):
        convert(one_worker, source, tmp_path / "out.zarr", **same)
    brightest.write_bytes(content)
    convert(one_worker, source, tmp_path / "out.zarr", **same)
    convert(one_worker, source, tmp_path / "undisturbed.zarr", **same)
    found, expected = (files_of(tmp_path / name) for name in ("out.zarr", "undisturbed.zarr"))
    assert found == {name: text.replace(b"undisturbed", b"out") for name, text in expected.items()}
