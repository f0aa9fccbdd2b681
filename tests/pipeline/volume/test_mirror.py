import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.base.geometry import Box
from pipeline.volume.mirror import mirror_index, read_mirrored


class ArrayVolume:
    """A volume in memory that raises for reads outside it."""

    def __init__(self, czyx):
        self.czyx = czyx
        self.shape_zyx = czyx.shape[1:]

    def read(self, box):
        assert Box.of_shape(self.shape_zyx).contains(box)
        return self.czyx[(slice(None), *box.slices)]


small = hnp.array_shapes(min_dims=3, max_dims=3, max_side=6)
pads = st.tuples(*[st.tuples(st.integers(0, 15), st.integers(0, 15))] * 3)


@given(small, pads)
def test_mirroring_is_numpys_reflect_at_any_distance(shape, pad):
    array = np.arange(np.prod(shape)).reshape(shape)
    outer = Box(
        tuple(-low for low, _ in pad),
        tuple(n + high for n, (_, high) in zip(shape, pad, strict=True)),
    )
    read = read_mirrored(ArrayVolume(array[None]), outer)
    np.testing.assert_array_equal(read[0], np.pad(array, pad, mode="reflect"))


@given(small, pads, st.data())
def test_a_mirrored_read_of_a_block_equals_that_part_of_the_mirrored_volume(shape, pad, data):
    array = np.arange(np.prod(shape)).reshape(shape)
    whole = np.pad(array, pad, mode="reflect")
    ranges = [
        sorted((data.draw(st.integers(0, n - 1)), data.draw(st.integers(0, n - 1))))
        for n in whole.shape
    ]
    box = Box(
        tuple(a - low for (a, _), (low, _) in zip(ranges, pad, strict=True)),
        tuple(b + 1 - low for (_, b), (low, _) in zip(ranges, pad, strict=True)),
    )
    expected = whole[tuple(slice(a, b + 1) for a, b in ranges)]
    np.testing.assert_array_equal(read_mirrored(ArrayVolume(array[None]), box)[0], expected)


def test_an_axis_of_one_voxel_repeats_it():
    assert mirror_index(-3, 4, 1).tolist() == [0] * 7


def test_a_read_inside_the_volume_reads_only_its_box():
    volume = ArrayVolume(np.arange(1000).reshape(1, 10, 10, 10))
    box = Box((2, 3, 4), (5, 6, 7))
    np.testing.assert_array_equal(read_mirrored(volume, box), volume.read(box))
