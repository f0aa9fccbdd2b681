"""Labels lie where their metadata places them in the volume; shape decides only without it."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from pipeline.base.errors import VolumeError
from pipeline.base.geometry import Box
from pipeline.base.location import Location
from pipeline.volume.find_labels import ReadAs, find_labelled
from pipeline.volume.held_out import whole
from pipeline.volume.label_values import UNKNOWN

SHAPE = (9, 30, 34)
SIZE = (0.5, 0.2, 0.2)
ORIGIN = (10.0, -4.0, 200.0)
RAW = np.random.default_rng(0).integers(0, 250, SHAPE, "u1")
ZERO = (0, 0, 0)


def at(start, size=SIZE, origin=ORIGIN):
    """Return the place of the voxel ``start`` of an image at ``origin``."""
    return tuple(o + n * s for o, n, s in zip(origin, start, size, strict=True))


def found(raw, labels, **options):
    return find_labelled(Location.parse(raw), Location.parse(labels), ReadAs(**options))


@pytest.fixture
def raw(tmp_path, placed_image):
    return placed_image(tmp_path / "raw.zarr", (RAW, SIZE, ORIGIN))


def mirrored(array, start, stop):
    """Return a box of an array, mirrored past its edge as numpy does."""
    pads = [(max(0, -a), max(0, b - n)) for a, b, n in zip(start, stop, array.shape, strict=True)]
    padded = np.pad(array, pads, mode="reflect")
    return padded[tuple(slice(max(0, a), max(0, a) + b - a)
                        for a, b in zip(start, stop, strict=True))]  # fmt: skip


CROPS = [
    ((2, 5, 7), (4, 12, 9)),
    ((0, 0, 0), (9, 30, 10)),  # it reaches the volume's edge on five sides
    ((5, 20, 24), (4, 10, 10)),
    ((8, 29, 33), (1, 1, 1)),
]


@pytest.mark.parametrize(("start", "shape"), CROPS)
@pytest.mark.parametrize("dtype", ["u1", "u8", "i2", "?"])
def test_around_the_labels_of_a_crop_grey_values_are_the_volumes_and_labels_are_unknown(
    start, shape, dtype, raw, tmp_path, placed_image
):
    labels = np.random.default_rng(1).integers(0, 2, shape).astype(dtype)
    placed = found(raw, placed_image(tmp_path / "l", (labels, SIZE, at(start))))
    box = whole(placed)
    assert placed.start == start
    assert (box.box.start, box.shape_zyx) == (start, shape)
    lie = ",".join(f"{a}:{a + n}" for a, n in zip(start, shape, strict=True))
    assert placed.notes == (
        f"by their metadata, labels {tmp_path}/l/s0 lie at voxels {lie} of {raw}/s0",
    )
    in_volume = np.full(SHAPE, UNKNOWN)
    in_volume[placed.box.slices] = labels
    for reach in (0, 3, 8):
        first, last = (-reach,) * 3, tuple(n + reach for n in shape)
        low, high = (np.add(start, ends) for ends in (first, last))
        np.testing.assert_array_equal(box.read_raw(first, last)[0], mirrored(RAW, low, high))
        read = box.read_labels(first, last)
        np.testing.assert_array_equal(read, mirrored(in_volume, low, high))
        assert read.dtype == (np.int64 if (read == UNKNOWN).any() else read.dtype)
    assert pickle.loads(pickle.dumps(box)) == box


def test_labels_in_other_units_lie_at_the_same_place(raw, tmp_path, placed_image):
    size, place = (tuple(1000 * v for v in values) for values in (SIZE, at((3, 4, 5))))
    path = placed_image(tmp_path / "l", (RAW[:2, :5, :6], size, place), unit="nanometer")
    assert found(raw, path).start == (3, 4, 5)


def test_labels_between_two_voxels_lie_at_the_nearest_one(raw, tmp_path, placed_image):
    path = placed_image(tmp_path / "l", (RAW[:2, :5, :6], SIZE, at((2.6, 4.4, 5))))
    assert found(raw, path).start == (3, 4, 5)


def test_a_volume_that_is_the_crop_is_placed_in_its_labels(tmp_path, placed_image):
    part = (slice(2, 6), slice(3, 20), slice(4, 30))
    raw = placed_image(tmp_path / "raw", (RAW[part], SIZE, at((2, 3, 4))))
    labels = placed_image(tmp_path / "labels", (RAW, SIZE, ORIGIN))
    placed = found(raw, labels)
    assert placed.box == Box(ZERO, RAW[part].shape)
    np.testing.assert_array_equal(whole(placed).read_labels(ZERO, RAW[part].shape), RAW[part])
    assert "1,768 of 9,180 of their voxels are inside it, and these are used" in placed.notes[0]


def test_labels_that_lie_partly_outside_are_used_as_far_as_they_lie_inside(
    raw, tmp_path, placed_image
):
    labels = np.arange(6 * 8 * 8).reshape(6, 8, 8).astype("u2")
    placed = found(raw, placed_image(tmp_path / "l", (labels, SIZE, at((6, -3, 30)))))
    assert placed.box == Box((6, 0, 30), (9, 5, 34))
    np.testing.assert_array_equal(whole(placed).read_labels(ZERO, (3, 5, 4)), labels[:3, 3:, :4])
    assert "60 of 384 of their voxels are inside it" in placed.notes[0]


@pytest.mark.parametrize("shape", [SHAPE, (3, 4, 5)])
def test_labels_without_a_voxel_in_the_volume_are_refused(raw, tmp_path, placed_image, shape):
    labels = placed_image(tmp_path / "l", (np.ones(shape, "u1"), SIZE, at((9, 0, 0))))
    with pytest.raises(VolumeError) as caught:
        found(raw, labels)
    assert str(caught.value) == (
        f"labels {labels}/s0 begin at voxel 9,0,0 of the volume {raw}/s0, which is 9×30×34 voxels, "
        "by the places that both state: they have no voxel in common; pass the labels of this "
        "volume"
    )


def test_labels_of_the_volumes_shape_at_another_place_lie_there(raw, tmp_path, placed_image):
    placed = found(raw, placed_image(tmp_path / "l", (RAW, SIZE, at((1, 0, -2)))))
    assert (placed.start, placed.box) == ((1, 0, -2), Box((1, 0, 0), (9, 30, 32)))
    assert len(placed.notes) == 1
    near = placed_image(tmp_path / "near", (RAW, SIZE, at((0.4, -0.4, 0))))
    assert (found(raw, near).start, found(raw, near).notes) == (ZERO, ())


@pytest.mark.parametrize("of_raw", [ZERO, (5.0, 0, 0)])
def test_a_place_that_only_one_of_two_arrays_of_one_shape_states_is_reported_and_not_used(
    of_raw, tmp_path, placed_image
):
    raw = placed_image(tmp_path / "raw", (RAW, SIZE, of_raw))
    labels = placed_image(tmp_path / "l", (RAW, SIZE, (5.0, 0, 0) if of_raw == ZERO else ZERO))
    placed = found(raw, labels)
    start = "10,0,0" if of_raw == ZERO else "-10,0,0"
    assert placed.box == Box.of_shape(SHAPE)
    assert placed.notes == (
        f"labels {labels}/s0 and the volume {raw}/s0 have the same shape, but by their metadata "
        f"the labels begin at voxel {start} of the volume: taken voxel by voxel",
    )


def test_other_voxel_sizes_of_arrays_of_one_shape_are_reported(raw, tmp_path, placed_image):
    placed = found(raw, placed_image(tmp_path / "l", (RAW, (1, 1, 1), ZERO)))
    assert placed.box == Box.of_shape(SHAPE)
    assert placed.notes[0].endswith(
        "have the same shape, but by their metadata voxels of 1×1×1 and 0.5×0.2×0.2 µm: taken "
        "voxel by voxel"
    )


@pytest.fixture
def pyramid(tmp_path, placed_image):
    """Write a volume of three levels, each half as fine in y and x; places are of voxel centres."""
    sizes = [(0.5, 0.2 * 2**n, 0.2 * 2**n) for n in range(3)]
    shift = [(1.0, 3 + 0.1 * (2**n - 1), 3 + 0.1 * (2**n - 1)) for n in range(3)]
    arrays = [RAW[:, :: 2**n, :: 2**n][:, : 28 >> n, : 32 >> n] for n in range(3)]
    return placed_image(tmp_path / "pyramid", *zip(arrays, sizes, shift, strict=True)), sizes, shift


@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.parametrize("is_crop", [True, False])
def test_labels_of_coarser_voxels_belong_to_the_level_that_has_them(
    level, is_crop, pyramid, tmp_path, placed_image
):
    raw, sizes, shift = pyramid
    start, shape = ((1, 2, 3), (3, 4, 5)) if is_crop else (ZERO, (9, 28 >> level, 32 >> level))
    ones = np.ones(shape, "u1")
    labels = placed_image(
        tmp_path / "l", (ones, sizes[level], at(start, sizes[level], shift[level]))
    )
    placed = found(raw, labels)
    assert (placed.raw.path, placed.start, placed.box.shape) == (f"s{level}", start, shape)
    assert placed.notes[0] == (
        f"labels {labels}/s0 have voxels of 0.5×{0.2 * 2**level:.3g}×{0.2 * 2**level:.3g} µm: the "
        f"level of the volume that has them is used, {raw}/s{level}"
    )
    assert len(placed.notes) == 1 + is_crop
    if is_crop:
        with pytest.raises(VolumeError, match=rf"pass --level s{level}, which has those"):
            found(raw, labels, level=0)
    assert found(raw, labels, level=level).raw == placed.raw
    assert found(raw, labels, level=level).start == start


def test_of_labels_that_are_finer_the_level_with_the_volumes_voxels_is_read(
    raw, tmp_path, placed_image
):
    fine, half = np.zeros((4, 20, 20), "u1"), tuple(size / 2 for size in SIZE)
    coarse = np.ones((2, 10, 10), "u1")
    labels = placed_image(
        tmp_path / "l", (fine, half, at((1, 2, 3))), (coarse, SIZE, at((1, 2, 3)))
    )
    placed = found(raw, labels)
    assert (placed.labels.path, placed.start, placed.notes[1:]) == ("s1", (1, 2, 3), ())
    assert whole(placed).read_labels(ZERO, (2, 10, 10)).all()


@pytest.mark.parametrize(
    ("size", "line"),
    [
        ((0.5, 0.4, 0.4), "and no level of it has those of the labels: expected labels and a level "
         "of one voxel size; add that level to the volume, or resample the labels"),
        ((0.5, 0.3, 0.3), "expected the same, or those of a coarser level; resample the labels to "
         "the voxels of the volume"),
        ((0.5, 0.1, 0.1), "expected the same, or those of a coarser level; resample"),
    ],
)  # fmt: skip
def test_labels_whose_voxels_no_level_has_are_refused(size, line, raw, tmp_path, placed_image):
    labels = placed_image(tmp_path / "l", (np.ones((2, 4, 4), "u1"), size, at((1, 1, 1))))
    with pytest.raises(VolumeError) as caught:
        found(raw, labels)
    message = str(caught.value)
    assert message.startswith(
        f"labels {labels}/s0 have voxels of {'×'.join(f'{v:g}' for v in size)} µm, the volume "
        f"{raw}/s0 has voxels of 0.5×0.2×0.2 µm"
    )
    assert line in message
    assert "\n" not in message


@pytest.mark.parametrize(("size", "place"), [(SIZE, ZERO), (None, ZERO)], ids=["at 0", "plain"])
def test_labels_of_another_shape_that_state_no_place_are_refused(
    size, place, raw, tmp_path, placed_image
):
    labels = placed_image(
        tmp_path / "l", (np.ones((2, 4, 4), "u1"), size or (1, 1, 1), place),
        unit="micrometer" if size else None,
    )  # fmt: skip
    with pytest.raises(VolumeError) as caught:
        found(raw, labels)
    assert str(caught.value) == (
        f"labels {labels}/s0 are 2×4×4 voxels, but the volume {raw}/s0 is 9×30×34: pass the labels "
        "of this volume, or of a part of it that states its place (voxel size, unit and "
        "translation), or correct --axes"
    )


def test_labels_of_the_shape_of_a_coarser_level_are_answered_with_that_level(
    tmp_path, placed_image
):
    unit = None
    raw = placed_image(
        tmp_path / "raw", (RAW, (1, 1, 1), ZERO), (RAW[:, ::2, ::2], (1, 2, 2), ZERO), unit=unit
    )
    labels = placed_image(tmp_path / "l", (RAW[:, ::2, ::2], (1, 1, 1), ZERO), unit=unit)
    with pytest.raises(VolumeError, match=r"9×30×34: pass --level s1, which has that shape$"):
        found(raw, labels)
    assert found(raw, labels, level=1).raw.path == "s1"


def test_a_flat_image_cannot_state_in_which_slice_its_labels_lie(raw, tmp_path, placed_image):
    flat = placed_image(tmp_path / "l", (np.ones((4, 5), "u1"), SIZE[1:], at((0, 2, 3))[1:]))
    with pytest.raises(VolumeError, match=r"are 1×4×5 voxels, but .* a part of it that states its"):
        found(raw, flat)
    stack = placed_image(tmp_path / "stack", (RAW[0], SIZE[1:], ORIGIN[1:]))
    assert found(stack, flat).box == Box((0, 2, 3), (1, 6, 8))
