"""``train --voxel-size``: what the start says, what is chosen by it, and what the weights state."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
import zarr

from flows.options.train import LabelledVolume, TrainOptions
from flows.text.training import start_lines
from flows.text.training_plan import _data_rows
from flows.training.prepare import prepare_training
from pipeline.base.errors import PlanError, TrainingError, VolumeError
from unet.training.plan.statistics import statistics_of
from unet.training.same_training import check_same_training

SHAPE = (20, 64, 60)
SIZE = (0.5, 0.1, 0.1)
UNKNOWN = (
    "voxel size: unknown (the file states 1 × 1 × 1 without a unit); --voxel-size Z,Y,X states it "
    "in µm"
)
BY_OPTION = (
    "voxel size: 0.5 × 0.1 × 0.1 µm (z, y, x), by --voxel-size; the file states 1 × 1 × 1 without "
    "a unit"
)
ASSUMED = "note: the files do not state how far apart the slices are, so a 3-D network was chosen"


@pytest.fixture
def place(tmp_path, textured, monkeypatch):
    """A folder with a stack that states no size, as TIFF, and its labels."""
    raw = textured(SHAPE)
    for name, array in (("raw", raw), ("labels", (raw > 128).astype(np.uint8))):
        tifffile.imwrite(tmp_path / f"{name}.tif", array, photometric="minisblack")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def prepared(raw="raw.tif", labels="labels.tif", *more, **options):
    volumes = [LabelledVolume(volume=raw, labels=labels), *more]
    return prepare_training(
        volumes, "w.safetensors", TrainOptions(normalisation="range:0:255", **options)
    )


def stated(one):
    """Return the voxel size that the weights of a training state."""
    return one.job(batch=1).facts.voxel_size_um


def test_a_stack_of_unknown_size_is_learnt_in_3d_with_a_note(place):
    one = prepared()
    lines = start_lines(one)
    assert UNKNOWN in lines
    (note,) = [line for line in lines if line.startswith(ASSUMED)]
    assert "--voxel-size Z,Y,X (from 3 times as far on, the network is 2-D)" in note
    assert "dims in the table [network] of a --config" in note
    assert (one.recipe.network.dims, stated(one)) == (3, None)


@pytest.mark.parametrize(
    ("size", "dims", "in_weights"),
    [(SIZE, 2, (0.1, 0.1)), ((0.15, 0.1, 0.1), 3, (0.15, 0.1, 0.1)), ((2, 2, 2), 3, (2, 2, 2))],
)
def test_the_stated_size_chooses_the_network_and_is_that_of_the_weights(
    place, size, dims, in_weights
):
    one = prepared(voxel_size_um=size)
    lines = start_lines(one)
    assert not [line for line in lines if line.startswith(ASSUMED)]
    assert one.recipe.network.dims == dims
    assert stated(one) == pytest.approx(in_weights)
    if size == SIZE:
        assert BY_OPTION in lines


def test_a_plan_names_the_size_and_its_origin(place):
    one = prepared(voxel_size_um=SIZE)
    found = statistics_of([SHAPE], one.surveys, core=one.core, patches=1)
    rows = list(_data_rows(one, SimpleNamespace(statistics=found, empty_patches=0)))
    assert ("voxel size", BY_OPTION.removeprefix("voxel size: ")) in rows


def test_a_config_that_states_its_network_needs_no_note(place):
    (place / "c.toml").write_text("network = { dims = 3, base_channels = 2, levels = 2 }\n")
    lines = start_lines(prepared(config="c.toml"))
    assert UNKNOWN in lines
    assert not [line for line in lines if line.startswith(ASSUMED)]


def test_a_file_that_states_the_size_of_pixels_alone_is_not_taken_for_thick_slices(place):
    tifffile.imwrite(
        "pixels.tif", tifffile.imread("raw.tif"), photometric="minisblack",
        resolution=(1e5, 1e5), resolutionunit="CENTIMETER",
    )  # fmt: skip
    one = prepared("pixels.tif")
    lines = start_lines(one)
    assert one.recipe.network.dims == 3
    (line,) = [line for line in lines if line.startswith("voxel size: ")]
    assert "? × 0.1 × 0.1 µm" in line
    assert "none of z: add --voxel-size" in line
    assert [line for line in lines if line.startswith(ASSUMED)]


def test_volumes_of_several_sizes_have_a_line_each(place, placed_image, textured):
    raw = textured(SHAPE)
    labels = (raw > 128).astype(np.uint8)
    for name, size in (("a", SIZE), ("b", (1.0, 0.2, 0.2))):
        placed_image(place / f"{name}.zarr", (raw, size, (0, 0, 0)))
        placed_image(place / f"{name}-labels.zarr", (labels, size, (0, 0, 0)))
    more = LabelledVolume(volume="b.zarr", labels="b-labels.zarr")
    lines = start_lines(prepared("a.zarr", "a-labels.zarr", more))
    assert [line.split(", as")[0] for line in lines if line.startswith("voxel size: ")] == [
        "voxel size: 0.5 × 0.1 × 0.1 µm (z, y, x)", "voxel size: 1 × 0.2 × 0.2 µm (z, y, x)",
    ]  # fmt: skip
    both = prepared("a.zarr", "a-labels.zarr", more, voxel_size_um=SIZE)
    sizes = [line for line in start_lines(both) if line.startswith("voxel size: ")]
    assert len(sizes) == 2
    assert all("0.5 × 0.1 × 0.1 µm (z, y, x)" in line for line in sizes)


def test_labels_are_compared_with_the_stated_size_or_with_that_of_the_file(place, placed_image):
    raw, labels = (tifffile.imread(f"{name}.tif") for name in ("raw", "labels"))
    wrong, other = (5.0, 5.0, 5.0), (1.0, 3.0, 3.0)
    placed_image(place / "raw.zarr", (raw, wrong, (0, 0, 0)))
    crop = labels[2:18, 8:60, 10:58]
    for name, size in (("of-file", wrong), ("of-option", SIZE), ("other", other)):
        at = tuple(n * s for n, s in zip((2, 8, 10), size, strict=True))
        placed_image(place / f"{name}.zarr", (crop, size, at))
        placed_image(place / f"whole-{name}.zarr", (labels, size, (0, 0, 0)))
    for name in ("of-file", "of-option"):
        one = prepared("raw.zarr", f"{name}.zarr", voxel_size_um=SIZE)
        (box,) = one.volumes.training
        assert box.labels_start == (2, 8, 10)
        assert box.raw.voxel_size == SIZE
        notes = prepared("raw.zarr", f"whole-{name}.zarr", voxel_size_um=SIZE).volumes.notes
        assert notes == ()
    with pytest.raises(VolumeError, match=r"have voxels of 1×3×3 µm, the volume .* of 0\.5"):
        prepared("raw.zarr", "other.zarr", voxel_size_um=SIZE)
    (note,) = prepared("raw.zarr", "whole-other.zarr", voxel_size_um=SIZE).volumes.notes
    assert "voxels of 1×3×3 and 0.5×0.1×0.1 µm: taken voxel by voxel" in note


def test_a_training_is_resumed_with_the_same_size_only(place):
    with_size, without = prepared(voxel_size_um=(2, 2, 2)), prepared()
    record = {"recipe": with_size.recipe.to_dict(), "data_sets": with_size.data_sets}
    check_same_training(record, with_size.recipe, with_size.data_sets)
    with pytest.raises(TrainingError, match=r"_size_um = \[2\.0, 2\.0, 2\.0\], now it is not set"):
        check_same_training(record, without.recipe, without.data_sets)


def test_sizes_along_other_axes_are_one_line(place, shell):
    argv = ("train", "--volume", "raw.tif", "--labels", "labels.tif", "--out", "w.safetensors")
    code, out, err = shell(*argv, "--voxel-size", "1,1")
    assert (code, out) == (2, "")
    assert err == "overtile: --voxel-size 1,1: expected 3 sizes, along z, y, x\n"
    with pytest.raises(PlanError, match="a size of 0 µm: expected sizes from"):
        prepared(voxel_size_um=(0, 1, 1))


def test_plain_arrays_state_what_was_assumed(place):
    zarr.create_array("raw.zarr", data=tifffile.imread("raw.tif"))
    (note,) = [note for note in prepared("raw.zarr").notes if "axes are not stated" in note]
    assert note.startswith(f"{place}/raw.zarr: axes are not stated: assumed z y x")
