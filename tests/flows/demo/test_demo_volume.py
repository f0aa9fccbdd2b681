"""The demo volume: made from its seed alone, chunk by chunk, and not trivial."""

import json
from pathlib import Path

import numpy as np
import pytest
import zarr
from ome_zarr_models.v05.image import Image
from scipy.ndimage import gaussian_filter, label

import unet
from flows.demo import volume as demo_volume
from flows.demo.scene import Scene, render
from flows.demo.volume import CLASS_NAMES, make_demo_volume
from pipeline.base.errors import GeometryError, OutputError, VolumeError
from pipeline.base.geometry import Box
from pipeline.evaluation.confusion import confusion
from pipeline.report.seams import seam_statistics

SHAPE = (40, 140, 150)  # more than one chunk along each axis, none of them whole


def voxels_of(uri):
    return np.asarray(zarr.open_array(f"{uri}/0", mode="r")[:])


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return make_demo_volume(tmp_path_factory.mktemp("demo"), shape=SHAPE, seed=3)


@pytest.fixture(scope="module")
def raw(demo):
    return voxels_of(demo.raw_uri)


@pytest.fixture(scope="module")
def truth(demo):
    return voxels_of(demo.truth_uri)


def test_the_same_seed_makes_the_same_voxels_and_another_seed_others(demo, raw, truth, tmp_path):
    again = make_demo_volume(tmp_path / "again", shape=SHAPE, seed=3)
    np.testing.assert_array_equal(voxels_of(again.raw_uri), raw)
    np.testing.assert_array_equal(voxels_of(again.truth_uri), truth)
    np.testing.assert_array_equal(voxels_of(again.cells_uri), voxels_of(demo.cells_uri))

    other = voxels_of(make_demo_volume(tmp_path / "other", shape=SHAPE, seed=4).truth_uri)
    assert 0.1 < (other != truth).mean() < 0.5


def test_both_are_ome_zarr_with_axes_and_voxel_size(demo):
    for uri in (demo.raw_uri, demo.truth_uri, demo.cells_uri):
        (multiscale,) = Image.from_zarr(zarr.open_group(uri, mode="r")).ome_attributes.multiscales
        assert [axis.name for axis in multiscale.axes] == ["z", "y", "x"]
        assert {axis.unit for axis in multiscale.axes} == {"micrometer"}
        (scale,) = multiscale.datasets[0].coordinateTransformations
        assert tuple(scale.scale) == demo.voxel_size_um == (0.2, 0.1, 0.1)
        level = zarr.open_array(f"{uri}/0", mode="r")
        assert (level.shape, level.dtype) == (SHAPE, "uint32" if "cells" in uri else "uint8")
        metadata = json.loads((Path(uri) / "0" / "zarr.json").read_text())
        assert metadata["dimension_names"] == ["z", "y", "x"]


@pytest.mark.slow
def test_chunk_borders_are_invisible(tmp_path, monkeypatch):
    monkeypatch.setattr(demo_volume, "CHUNK", (8, 20, 20))
    cut = make_demo_volume(tmp_path, shape=(32, 120, 120), seed=3)
    edges = [range(8, 32, 8), range(20, 120, 20), range(20, 120, 20)]
    assert seam_statistics(voxels_of(cut.truth_uri), block_edges=edges).ratio < 1.1
    smooth = gaussian_filter(voxels_of(cut.raw_uri).astype(np.float32), 0.7)
    assert seam_statistics(smooth, block_edges=edges).ratio == pytest.approx(1.0, abs=0.03)


def test_a_box_shows_the_same_tissue_however_the_volume_is_cut():
    scene = Scene(SHAPE, 3)
    whole, part = Box((0, 0, 0), (12, 40, 40)), Box((4, 10, 8), (12, 40, 32))
    inside = part.relative_to(whole.start).slices
    for number in (1, 2):
        np.testing.assert_array_equal(
            render(whole, scene=scene)[number][inside], render(part, scene=scene)[number]
        )
    np.testing.assert_allclose(
        scene.tissue(whole)[2][inside], scene.tissue(part)[2], rtol=0, atol=1e-4
    )


def test_truth_is_thin_walls_that_enclose_cells(truth):
    assert set(np.unique(truth)) == {0, 1}
    assert len(CLASS_NAMES) == 2
    assert 0.08 < truth.mean() < 0.3
    along_x = np.diff(np.flatnonzero(np.diff(truth.ravel().astype(int))))[::2]
    assert 2 <= np.median(along_x) <= 5


def test_true_cells_cover_the_volume_and_meet_in_the_middle_of_its_walls(demo, truth):
    cells = voxels_of(demo.cells_uri)
    assert cells.min() >= 1
    meet = np.zeros(cells.shape, bool)
    meet[:, :, 1:] |= cells[:, :, 1:] != cells[:, :, :-1]
    meet[:, 1:] |= cells[:, 1:] != cells[:, :-1]
    assert truth[meet].mean() > 0.95
    pieces = sum(label(cells == one)[1] for one in np.unique(cells))
    assert pieces < 1.1 * len(np.unique(cells))  # the edge of the volume cuts a few in two


def test_membranes_are_brighter_but_no_threshold_finds_them(raw, truth):
    assert raw[truth == 1].mean() > 1.3 * raw[truth == 0].mean()
    assert 0 < (raw == 255).mean() < 0.02
    smooth = gaussian_filter(raw.astype(np.float32), (0.5, 1, 1))
    ious = [confusion(truth, smooth > t, classes=2).iou[1] for t in range(20, 250, 4)]
    assert 0.25 < max(ious) < 0.6


def test_an_existing_volume_is_left_unchanged(tmp_path, monkeypatch):
    made = make_demo_volume(tmp_path, shape=(4, 20, 20))
    monkeypatch.setattr(demo_volume, "render", None)  # a second rendering would fail
    assert make_demo_volume(tmp_path, shape=(4, 20, 20)) == made


@pytest.mark.parametrize("there", ["a file", "another volume", "half a volume", "another seed"])
def test_another_file_of_this_name_is_neither_used_nor_overwritten(there, tmp_path):
    raw_path = tmp_path / "raw.zarr"
    if there == "a file":
        raw_path.write_text("mine")
    elif there == "another volume":
        zarr.create_array(str(raw_path), shape=(3,), dtype="uint8")
    else:
        make_demo_volume(tmp_path, shape=(4, 20, 20), seed=1)
        if there == "half a volume":
            del zarr.open_group(str(raw_path)).attrs["overtile_demo"]
    before = sorted((p, p.stat().st_mtime_ns) for p in tmp_path.rglob("*"))

    with pytest.raises(OutputError, match=r"raw\.zarr exists"):
        make_demo_volume(tmp_path, shape=(4, 20, 20), seed=2 if there == "another seed" else 1)

    assert sorted((p, p.stat().st_mtime_ns) for p in tmp_path.rglob("*")) == before


@pytest.mark.parametrize("shape", [(0, 8, 8), (8, 8), (1, 2, 3, 4)])
def test_a_volume_without_voxels_is_refused_before_anything_is_written(shape, tmp_path):
    with pytest.raises(GeometryError, match="three axes"):
        make_demo_volume(tmp_path / "new", shape=shape)
    assert not (tmp_path / "new").exists()


def test_a_negative_seed_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(VolumeError, match="seed -1"):
        make_demo_volume(tmp_path / "new", seed=-1)
    assert not (tmp_path / "new").exists()


def test_the_smallest_volume_can_be_made(tmp_path):
    assert voxels_of(make_demo_volume(tmp_path, shape=(1, 1, 1)).raw_uri).shape == (1, 1, 1)


def test_the_bundled_weights_find_membranes_that_no_threshold_does(raw, truth):
    bundled = Path(unet.__file__).parent / "bundled" / "demo.safetensors"
    predictor = unet.UNetPredictor(str(bundled), device="cpu", precision="fp32")
    assert predictor.class_names == CLASS_NAMES
    assert predictor.normalisation == {"kind": "range", "low": 0, "high": 255}

    core = (16, 96, 96)
    outer = tuple(slice(0, size) for size in predictor.input_shape(core))
    scores = predictor((raw[outer] / 255).astype(np.float32)[None, None])[0]
    within = tuple(slice(h, h + c) for h, c in zip(predictor.halo, core, strict=True))
    classes = scores.argmax(axis=0)[tuple(slice(0, c) for c in core)]
    network = confusion(truth[within], classes, classes=2)

    smooth = gaussian_filter(raw.astype(np.float32), (0.5, 1, 1))[within]
    thresholds = [confusion(truth[within], smooth > t, classes=2) for t in range(20, 250, 4)]
    assert network.iou[1] > 0.1 + max(matrix.iou[1] for matrix in thresholds)
