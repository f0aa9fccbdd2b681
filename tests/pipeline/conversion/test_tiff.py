"""A TIFF holds the voxels, the voxel size and the unit of the image, read in a few planes each."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
import zarr

from pipeline.base.errors import OutputError, VolumeError
from pipeline.base.geometry import Box
from pipeline.base.location import Location
from pipeline.conversion import tiff
from pipeline.conversion.tiff import export_tiff
from pipeline.volume.volume import find_volume, open_volume

SHAPE = (2, 7, 20, 30)
RANDOM = np.random.default_rng(4)


def store_image(folder, values, *, axes="czyx", scale=(3.0, 0.5, 0.25), unit="micrometer"):
    """Write an OME-Zarr image of one level, with names of its channels."""
    letters = axes[-values.ndim :]
    named = [{"name": a, "type": "space", "unit": unit} if a in "zyx" else
             {"name": a, "type": "channel"} for a in letters]  # fmt: skip
    if unit is None:
        named = [{k: v for k, v in one.items() if k != "unit"} for one in named]
    sizes = dict(zip("zyx", scale, strict=True))
    steps = {"type": "scale", "scale": [sizes.get(a, 1.0) for a in letters]}
    datasets = [{"path": "0", "coordinateTransformations": [steps]}]
    omero = {"channels": [{"label": "DAPI"}, {"label": "GFP"}]} if "c" in letters else {}
    group = zarr.create_group(folder)
    group.create_array("0", data=values, chunks=tuple(min(4, n) for n in values.shape))
    multiscales = [{"axes": named, "datasets": datasets}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": multiscales, "omero": omero}
    return folder


def export(source, target, **more):
    found = find_volume(str(source), holds="anything")
    return found, export_tiff(found, Location.parse(target), **more)


def random_values(dtype, shape=SHAPE):
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return RANDOM.random(shape) > 0.5
    if kind.kind == "f":
        return RANDOM.normal(size=shape).astype(dtype)
    limits = np.iinfo(dtype)
    high = min(limits.max, 2**32 - 1)
    return RANDOM.integers(max(limits.min, -(2**31)), high, shape, dtype, endpoint=True)


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [("uint8", "ImageJ"), ("uint16", "ImageJ"), ("float32", "ImageJ"), ("bool", "ImageJ"),
     ("float16", "ImageJ"), ("int8", "OME"), ("int16", "OME"), ("float64", "OME"),
     ("uint32", "OME"), ("uint64", "OME"), ("int32", "OME")],
)  # fmt: skip
@pytest.mark.parametrize("axes", ["yx", "zyx", "cyx", "czyx"])
def test_voxels_size_unit_and_channels_survive(tmp_path, dtype, kind, axes):
    values = random_values(dtype)[tuple(slice(None) if a in axes else 0 for a in "czyx")]
    store_image(tmp_path / "in.zarr", values, axes=axes)
    before, layout = export(tmp_path / "in.zarr", tmp_path / "out.tif")
    assert layout.kind == kind
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        assert (file.is_imagej, file.is_ome) == (kind == "ImageJ", kind == "OME")
        (series,) = file.series
        stored = series.asarray()
    expected = np.moveaxis(values, 0, 1) if axes == "czyx" else values
    np.testing.assert_array_equal(stored, expected)
    after = find_volume(str(tmp_path / "out.tif"))
    again = open_volume(after).read(Box.of_shape(after.shape_zyx))
    np.testing.assert_array_equal(again.ravel(), values.ravel())
    known = slice(None) if "z" in axes else slice(1, None)
    assert after.voxel_size[known] == pytest.approx(before.voxel_size[known], rel=1e-6)
    assert after.unit == before.unit
    if kind == "OME" and "c" in axes:
        assert after.channel_names == ("DAPI", "GFP")


@pytest.mark.parametrize("name", ["out.tif", "out.ome.tif"])
@pytest.mark.parametrize(
    ("unit", "scale", "expected"),
    [("nanometer", (40.0, 8.0, 8.25), "nanometer"), ("millimeter", (0.5, 0.1, 0.3), "millimeter"),
     ("angstrom", (30.0, 20.0, 10.0), "micrometer"), (None, (3.0, 2.0, 1.0), None)],
)  # fmt: skip
def test_units_are_kept_or_become_micrometres(tmp_path, name, unit, scale, expected):
    store_image(tmp_path / "in.zarr", random_values("u1")[0], scale=scale, unit=unit)
    _, layout = export(tmp_path / "in.zarr", tmp_path / name)
    assert layout.kind == ("OME" if "ome" in name else "ImageJ")
    after = find_volume(str(tmp_path / name))
    assert after.unit == (expected,) * 3
    factor = 1e-4 if unit == "angstrom" else 1
    if expected:
        assert after.voxel_size == pytest.approx([one * factor for one in scale], rel=1e-6)
    assert any("no voxel size" in note for note in layout.notes) == (expected is None)


@pytest.mark.parametrize(
    ("highest", "dtype", "says"),
    [(65_535, "uint16", None), (65_536, "uint32", "65,536 need 32 bits"),
     (2**24 + 1, "uint32", "above 16,777,216 rounded"), (2**32 - 1, "uint32", "4,294,967,295")],
)  # fmt: skip
def test_ids_have_as_few_bits_as_they_need_and_none_is_changed(tmp_path, highest, dtype, says):
    ids = np.zeros(SHAPE[1:], np.uint64)
    ids[-1, -1, -1] = highest
    store_image(tmp_path / "in.zarr", ids)
    _, layout = export(tmp_path / "in.zarr", tmp_path / "out.tif")
    stored = tifffile.imread(tmp_path / "out.tif")
    assert stored.dtype == layout.dtype == dtype
    np.testing.assert_array_equal(stored, ids)
    assert [says in note for note in layout.notes] == ([True] if says else [])


@pytest.mark.parametrize("values", [[2**32], [-1, 2**31]])
def test_ids_that_no_viewer_shows_are_refused_and_nothing_is_written(tmp_path, values):
    ids = np.zeros(SHAPE[1:], np.int64)
    ids[0, 0, : len(values)] = values
    store_image(tmp_path / "in.zarr", ids)
    with pytest.raises(VolumeError, match="integers of 32 bits at most; number the objects anew"):
        export(tmp_path / "in.zarr", tmp_path / "out.tif")
    assert [path.name for path in tmp_path.iterdir()] == ["in.zarr"]


def test_planes_are_read_once_and_few_at_a_time(tmp_path, monkeypatch):
    values = random_values("uint16")
    store_image(tmp_path / "in.zarr", values)
    boxes, read = [], tiff.read_box

    def reading(source, box):
        boxes.append(box)
        return read(source, box)

    monkeypatch.setattr(tiff, "read_box", reading)
    monkeypatch.setattr(tiff, "SLAB_BYTES", 3 * values[:, 0].nbytes)
    seen = []
    export(tmp_path / "in.zarr", tmp_path / "out.tif", on_planes=lambda *of: seen.append(of))
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out.tif"), np.moveaxis(values, 0, 1))
    assert [z for box in boxes for z in range(box.start[0], box.stop[0])] == list(range(7))
    assert max(box.shape[0] for box in boxes) <= 3
    assert seen == [(box.stop[0], 7) for box in boxes]
    monkeypatch.setattr(tiff, "PLANE_BYTES", values[:, 0].nbytes - 1)
    with pytest.raises(OutputError, match="choose a coarser level with --level"):
        export(tmp_path / "in.zarr", tmp_path / "other.tif")


def test_what_ends_early_leaves_no_file(tmp_path):
    def stop(*_):
        raise KeyboardInterrupt

    store_image(tmp_path / "in.zarr", random_values("uint16"))
    with pytest.raises(KeyboardInterrupt):
        export(tmp_path / "in.zarr", tmp_path / "out.tif", on_planes=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["in.zarr"]


def test_what_a_killed_export_left_is_deleted_by_the_next_one(tmp_path):
    store_image(tmp_path / "in.zarr", random_values("uint16"))
    for name in (".out.tif.0f.partial", ".other.tif.0f.partial"):
        (tmp_path / name).write_bytes(b"half")
    export(tmp_path / "in.zarr", tmp_path / "out.tif")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [".other.tif.0f.partial", "in.zarr", "out.tif"]


def test_labels_are_not_shown_black_in_fiji(tmp_path):
    ids = RANDOM.integers(0, 4, SHAPE[1:], np.uint8)
    store_image(tmp_path / "in.zarr", ids)
    export(tmp_path / "in.zarr", tmp_path / "out.tif")
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        assert (file.imagej_metadata["min"], file.imagej_metadata["max"]) == (0.0, 3.0)
