"""An image has the voxel size that was stated to the runs which made an output from it."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

from pipeline.base.location import Location
from pipeline.ledger.stated_size import as_run_read
from pipeline.objects.outlines.pixel_grid import PixelGrid, grid_of_image
from pipeline.volume.micrometres import voxel_size_um
from pipeline.volume.volume import find_volume

WRONG, COARSE = (1.0, 5.0, 5.0), (1.0, 10.0, 10.0)
STATED = [0.5, 0.2, 0.2]


@pytest.fixture
def place(tmp_path, placed_image):
    """A folder with an image of two levels, and a function that writes what a run states."""
    levels = [(np.ones((1, 40 // n, 40 // n), np.uint8), size, (0, 0, 0))
              for n, size in ((1, WRONG), (2, COARSE))]  # fmt: skip
    placed_image(tmp_path / "in.zarr", *levels)

    def run(name, source, path, **job):
        made = {"input": str(tmp_path / source), "input_path": path}
        zarr.open_group(tmp_path / name / "run", mode="w").attrs.update(
            {"job": job, "provenance": made}
        )
        return Location.parse(str(tmp_path / name))

    return tmp_path, run


def sizes(folder, output, name="in.zarr"):
    image = Location.parse(str(folder / name))
    return voxel_size_um(as_run_read(find_volume(image), image, output))


def test_it_is_that_of_the_segmentation(place):
    folder, run = place
    assert sizes(folder, run("out.zarr", "in.zarr", "s1", voxel_size_um=STATED)) == (0.5, 0.2, 0.2)
    assert sizes(folder, run("plain.zarr", "in.zarr", "s1")) == WRONG
    assert sizes(folder, run("else.zarr", "gone.zarr", "s1", voxel_size_um=STATED)) == WRONG
    assert sizes(folder, run("flat.zarr", "in.zarr", "s1", voxel_size_um=[0.2, 0.2])) == WRONG


def test_it_is_that_of_the_objects_where_they_state_one_of_their_scores(place):
    folder, run = place
    run("out.zarr", "in.zarr", "s1", voxel_size_um=STATED)
    cells = run("cells.zarr", "out.zarr", "0", kind="objects")
    assert sizes(folder, cells) == (0.5, 0.2, 0.2)
    cells = run("cells.zarr", "out.zarr", "0", kind="objects", voxel_size_um=[1.0, 0.6, 0.6])
    assert sizes(folder, cells) == pytest.approx((1.0, 0.3, 0.3))  # s1 is half as fine
    assert sizes(folder, run("more.zarr", "gone.zarr", "0", kind="objects")) == WRONG


@pytest.mark.parametrize("objects", [False, True])
def test_it_is_found_through_links_and_after_output_and_image_were_moved_together(
    place, tmp_path, objects
):
    folder, run = place
    output = run("out.zarr", "in.zarr", "s1", voxel_size_um=STATED)
    zarr.open_group(output.path / "run").attrs["place"] = str(output)
    if objects:
        output = run("cells.zarr", "out.zarr", "0", kind="objects")
        zarr.open_group(output.path / "run").attrs["place"] = str(output)
    (tmp_path / "link.zarr").symlink_to(folder / "in.zarr")
    assert sizes(folder, output, "link.zarr") == (0.5, 0.2, 0.2)
    after = tmp_path / "after"
    after.mkdir()
    for name in ("in.zarr", "out.zarr", "cells.zarr"):
        if (folder / name).exists():
            (folder / name).rename(after / name)
    assert sizes(after, Location.parse(str(after / output.name))) == (0.5, 0.2, 0.2)


def test_outlines_count_the_pixels_of_the_image_whose_size_was_stated(place, placed_image):
    folder, run = place
    output = run("out.zarr", "in.zarr", "s1", voxel_size_um=STATED)
    labels = np.ones((1, 20, 20), np.uint32)
    placed_image(folder / "labels.zarr", (labels, (0.5, 0.4, 0.4), (0, 0.1, 0.1)))
    image = Location.parse(str(folder / "in.zarr"))
    grid = grid_of_image(find_volume(str(folder / "labels.zarr")), image, output=output)
    assert grid.scale == pytest.approx((2.0, 2.0))
    assert grid.shift == pytest.approx((0.0, 0.0))
    assert grid != PixelGrid()
