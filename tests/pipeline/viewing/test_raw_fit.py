"""``overtile view OUTPUT RAW``: an image that has nothing to do with the output is refused."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.base.errors import VolumeError
from pipeline.base.location import Location
from pipeline.viewing.layers import find_view
from pipeline.viewing.raw_fit import fit_note
from pipeline.volume.image_levels import levels_of
from pipeline.volume.volume import find_volume

SIZE, SHAPE = (1.0, 0.5, 0.5), (4, 20, 24)


@pytest.fixture
def image(tmp_path, placed_image):
    """Return a function that writes an image of some levels: shape, size and place of each."""
    written = iter(range(100))

    def write(*levels, unit="micrometer"):
        arrays = [
            (np.ones(shape, np.uint8), size, place)
            for shape, size, place in ((*one, (0, 0, 0))[:3] for one in levels)
        ]
        path = tmp_path / f"{next(written)}.zarr"
        placed_image(path, *arrays, unit=unit)
        return find_volume(str(path))

    return write


@pytest.mark.parametrize("unit", ["micrometer", None])
def test_an_image_of_the_shape_of_any_level_fits(image, unit):
    output = image((SHAPE, SIZE), unit=unit)
    finer = image(((4, 40, 48), (1.0, 0.25, 0.25)), (SHAPE, SIZE), unit=unit)
    assert fit_note(finer, [output]) is None
    levels = [level for _, level in levels_of(finer)]
    assert fit_note(output, levels) is None
    assert fit_note(image((SHAPE, (9.0, 9.0, 9.0))), [output]) is None


def test_an_image_around_a_part_that_states_its_place_fits(image):
    whole = image(((10, 60, 60), SIZE))
    assert fit_note(whole, [image((SHAPE, SIZE, (2.0, 5.0, 5.0)))]) is None
    at_start = [image((SHAPE, SIZE))]
    assert fit_note(whole, at_start, is_part=True) is None
    assert "check that they belong together" in fit_note(whole, at_start)


def test_without_units_only_a_known_part_fits(image):
    whole, part = (image((shape, (1, 1, 1)), unit=None) for shape in ((10, 60, 60), SHAPE))
    assert fit_note(whole, [part], is_part=True) is None
    for raw, own in ((whole, part), (part, whole)):
        with pytest.raises(VolumeError, match=r"RAW .*: expected the image that it"):
            fit_note(raw, [own])


@pytest.mark.parametrize("place", [(0, 100.0, 0), (50.0, 0, 0), (0, 0, -90.0)])
def test_an_image_of_another_place_is_refused(image, place):
    with pytest.raises(VolumeError, match="or one that shows the same place by its metadata"):
        fit_note(image(((3, 30, 30), SIZE, place)), [image((SHAPE, SIZE))])


def test_an_image_of_other_voxels_at_the_same_place_is_noted(image):
    note = fit_note(image(((8, 33, 35), (0.5, 0.3, 0.3))), [image((SHAPE, SIZE))])
    assert "is 8×33×35 voxels of 0.5×0.3×0.3 µm, the output 4×20×24 of 1×0.5×0.5 µm" in note


def test_a_view_has_the_note(image):
    raw, output = image(((8, 33, 35), (0.5, 0.3, 0.3))), image((SHAPE, SIZE))
    (note,) = find_view(output.image, Location.parse(str(raw.image))).notes
    assert "check that they belong together" in note
