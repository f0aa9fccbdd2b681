"""A voxel size that a person states holds for every level, and moves nothing in voxels."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
import zarr

from pipeline.base.errors import PlanError
from pipeline.base.geometry import Box
from pipeline.conversion.request import ConvertRequest
from pipeline.objects.definition.request import ObjectsRequest
from pipeline.segmentation.request import SegmentRequest
from pipeline.volume.box_text import resolve_box
from pipeline.volume.given_size import as_stored, with_size_of_level, with_voxel_size
from pipeline.volume.image_levels import levels_of
from pipeline.volume.mask import find_mask
from pipeline.volume.micrometres import voxel_size_um
from pipeline.volume.size_text import size_line, size_origin
from pipeline.volume.volume import find_volume

SHAPE = (4, 33, 64)
GIVEN = (1.5, 0.4, 0.4)
EXPECTED = "expected sizes from 0.001 nm to 1 m"


def pyramid(path, *, size=(1.0, 0.5, 0.5), unit="micrometer", at=(0, 0, 0), scales=True):
    """Make an OME-Zarr image of three levels that halve y and x; the first voxel lies ``at``."""
    group, datasets = zarr.create_group(path), []
    for level in range(3):
        factor = (1, 2**level, 2**level)
        shape = tuple(-(-n // f) for n, f in zip(SHAPE, factor, strict=True))
        group.create_array(f"s{level}", data=np.zeros(shape, "u1"))
        scale = [a * b for a, b in zip(size, factor, strict=True)] if scales else [1.0, 1.0, 1.0]
        places = [s * (a + 0.5) - 0.5 * b for s, a, b in zip(scale, at, size, strict=True)]
        transformations = [
            {"type": "scale", "scale": scale}, {"type": "translation", "translation": places},
        ]  # fmt: skip
        datasets.append({"path": f"s{level}", "coordinateTransformations": transformations})
    axes = [{"name": name, "type": "space", **({"unit": unit} if unit else {})} for name in "zyx"]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    return str(path)


@pytest.mark.parametrize(
    "stated",
    [{}, {"unit": None}, {"size": (9.0, 0.2, 0.1)}, {"scales": False, "unit": None},
     {"size": (-1.0, 0.5, 0.5)}, {"at": (3, 8, 5)}],
    ids=["stated", "no unit", "wrong", "no scale", "backwards", "elsewhere"],
)  # fmt: skip
@pytest.mark.parametrize("level", [0, 1, 2])
def test_the_size_is_that_of_the_finest_level_and_coarser_ones_keep_their_factor(
    stated, level, tmp_path
):
    source = find_volume(pyramid(tmp_path / "in.zarr", **stated), level=level)
    sized = with_voxel_size(source, GIVEN)
    expected = (GIVEN[0], GIVEN[1] * 2**level, GIVEN[2] * 2**level)
    assert sized.voxel_size == pytest.approx(expected)
    assert voxel_size_um(sized) == pytest.approx(expected)
    places = [
        np.divide(one.translation, one.step) for one in (source, sized)
    ]  # in voxels of the level
    np.testing.assert_allclose(*places, atol=1e-12)
    assert (sized.direction, sized.location) == (source.direction, source.location)
    assert as_stored(sized) == source
    assert size_origin(sized) == "option"
    for number, other in levels_of(sized):
        expected = (GIVEN[0], GIVEN[1] * 2**number, GIVEN[2] * 2**number)
        assert other.voxel_size == pytest.approx(expected)
    assert with_voxel_size(sized, GIVEN) == sized


@pytest.mark.parametrize("level", [0, 2])
def test_the_size_that_the_file_states_is_no_other_size(level, tmp_path):
    path = pyramid(tmp_path / "in.zarr", size=(1000.0, 500.0, 500.0), unit="nanometer")
    source = find_volume(path, level=level)
    assert with_voxel_size(source, (1.0, 0.5, 0.5000001)) == source
    assert with_voxel_size(source, None) == source
    assert source.given_size_part() == {}
    assert with_voxel_size(source, (1.0, 0.5, 0.501)).given_size_part() == {
        "voxel_size_um": [1.0, 0.5, 0.501]
    }


def test_a_plane_takes_two_sizes_or_three_and_a_volume_three(tmp_path):
    plane = tmp_path / "plane.zarr"
    zarr.create_array(plane, data=np.zeros((8, 9), "u1"), dimension_names=("y", "x"))
    source = find_volume(str(plane))
    assert voxel_size_um(with_voxel_size(source, (0.2, 0.1))) == (None, 0.2, 0.1)
    assert with_voxel_size(source, (7.0, 0.2, 0.1)) == with_voxel_size(source, (0.2, 0.1))
    assert with_size_of_level(source, (7.0, 0.2, 0.1)) == with_voxel_size(source, (0.2, 0.1))
    volume = find_volume(pyramid(tmp_path / "in.zarr"))
    with pytest.raises(PlanError) as caught:
        with_voxel_size(volume, (0.2, 0.1))
    assert str(caught.value) == "--voxel-size 0.2,0.1: expected 3 sizes, along z, y, x"


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        ((0.0, 1.0, 1.0), f"0,1,1: a size of 0 µm: {EXPECTED}"),
        ((1.0, -0.5, 1.0), f"1,-0.5,1: a size of -0.5 µm: {EXPECTED}"),
        ((1.0, 1.0, float("nan")), f"1,1,nan: a size of nan µm: {EXPECTED}"),
        ((1.0, float("inf")), f"1,inf: a size of inf µm: {EXPECTED}"),
        ((1.0,), "1: 1 size: expected three, as Z,Y,X, or two of a 2-D image, as Y,X"),
        ((1.0,) * 4, "1,1,1,1: 4 sizes: expected three, as Z,Y,X, or two of a 2-D image, as Y,X"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", [SegmentRequest, ConvertRequest, ObjectsRequest])
def test_what_is_not_a_size_is_refused_before_anything_is_read(kind, sizes, says):
    name = "scores" if kind is ObjectsRequest else "input"
    with pytest.raises(PlanError) as caught:
        kind(**{name: "gone.zarr", "output": "out.zarr", "voxel_size_um": sizes})
    assert str(caught.value) == f"--voxel-size {says}"


def test_one_line_names_the_size_and_where_it_is_from(tmp_path):
    stated = find_volume(pyramid(tmp_path / "a.zarr"), level=1)
    assert size_line(stated) == (
        "voxel size: 1 × 1 × 1 µm (z, y, x) at level s1, as the file states"
    )
    assert size_line(with_voxel_size(stated, GIVEN)) == (
        "voxel size: 1.5 × 0.8 × 0.8 µm (z, y, x) at level s1, by --voxel-size; the file states "
        "1 × 1 × 1 µm"
    )
    zarr.create_array(tmp_path / "b.zarr", data=np.zeros(SHAPE, "u1"), dimension_names="zyx")
    silent = find_volume(str(tmp_path / "b.zarr"))
    assert size_line(silent) == (
        "voxel size: unknown (the file states 1 × 1 × 1 without a unit); --voxel-size Z,Y,X states "
        "it in µm"
    )
    assert size_line(with_voxel_size(silent, (0.05, 0.004, 0.004))) == (
        "voxel size: 0.05 × 0.004 × 0.004 µm (z, y, x), by --voxel-size; the file states "
        "1 × 1 × 1 without a unit"
    )
    tifffile.imwrite(
        tmp_path / "c.tif", np.zeros((3, 8, 9), "u1"), imagej=True, resolution=(5, 5),
        metadata={"axes": "ZYX", "unit": "um"},
    )  # fmt: skip
    assert size_line(find_volume(str(tmp_path / "c.tif"))) == (
        "voxel size: ? × 0.2 × 0.2 µm (z, y, x), as the file states; it states none of z: add "
        "--voxel-size"
    )
    nanometres = find_volume(pyramid(tmp_path / "d.zarr", size=(50, 4, 4), unit="nanometer"))
    assert "50 × 4 × 4 nm (z, y, x) at level s0, as" in size_line(nanometres)


def test_a_box_in_lengths_is_measured_with_the_given_size(tmp_path):
    source = find_volume(pyramid(tmp_path / "in.zarr"))
    assert resolve_box(":,0:4um,4um:8um", source) == Box((0, 0, 8), (4, 8, 16))
    sized = with_voxel_size(source, GIVEN)
    assert resolve_box(":,0:4um,4um:8um", sized) == Box((0, 0, 10), (4, 10, 20))


@pytest.mark.parametrize("factor", [0.25, 0.5, 3.0, 4.0])
@pytest.mark.parametrize("of_the_file", [True, False])
def test_a_mask_lies_over_a_volume_by_the_size_with_which_it_was_made(
    of_the_file, factor, tmp_path
):
    """Level 2 as a mask: of the file, or written later with the true size.

    With the other size, some of these masks would be those of a larger field of view.
    """
    volume = find_volume(pyramid(tmp_path / "in.zarr"))
    z, y, x = volume.voxel_size
    given = (z, y * factor, x * factor)
    size = volume.voxel_size if of_the_file else given
    masks = pyramid(tmp_path / "mask.zarr", size=size)
    mask = find_volume(f"{masks}/s2").location
    assert find_mask(mask, with_voxel_size(volume, given)).axes == (
        find_mask(find_volume(f"{tmp_path}/in.zarr/s2").location, volume).axes
    )
