"""A coarse image is the means of the volume's voxels, however these are stored."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

from pipeline.base.geometry import Box
from pipeline.masking import coarse
from pipeline.masking.coarse import coarse_image
from pipeline.volume.volume import find_volume, open_volume


def block_means(array_czyx, factor):
    """Return the means of boxes; those at the end hold fewer voxels."""
    wide = array_czyx.astype(float)
    pads = [(0, 0), *((0, -n % f) for n, f in zip(wide.shape[1:], factor, strict=True))]
    padded = np.pad(wide, pads, constant_values=np.nan)
    c, *shape = padded.shape
    split = [size for n, f in zip(shape, factor, strict=True) for size in (n // f, f)]
    return np.nanmean(padded.reshape(c, *split), axis=(2, 4, 6))


@pytest.mark.parametrize("dtype", ["u1", "i2", "f4"])
@pytest.mark.parametrize("chunks", [(1, 3, 16, 16), (2, 5, 7, 33), (1, 1, 64, 64)])
def test_coarse_voxels_are_means_whatever_the_chunks(
    chunks, dtype, textured, tmp_path, monkeypatch
):
    monkeypatch.setattr(coarse, "MOST_VOXELS", 400)
    monkeypatch.setattr("pipeline.volume.measure_intensity._STEP_VOXELS", 500)  # many boxes
    raw = (textured((2, 11, 33, 50)).astype("i4") - 100).astype(dtype)
    zarr.create_array(tmp_path / "in.zarr", data=raw, chunks=chunks, dimension_names=tuple("czyx"))
    image = coarse_image(find_volume(str(tmp_path / "in.zarr")), is_level_chosen=False)
    assert np.prod(image.values_czyx.shape[1:]) <= 400
    factor = tuple(int(f) for f in image.factor)
    np.testing.assert_allclose(image.values_czyx, block_means(raw, factor), rtol=1e-5, atol=1e-3)


def test_values_that_are_not_finite_count_as_0(tmp_path, monkeypatch):
    monkeypatch.setattr(coarse, "MOST_VOXELS", 1)
    zarr.create_array(tmp_path / "in.zarr", data=np.array([[[np.nan, np.inf], [4, 8]]] * 2, "f4"))
    image = coarse_image(find_volume(str(tmp_path / "in.zarr")), is_level_chosen=False)
    assert image.values_czyx.ravel().tolist() == [3.0]


def test_no_more_than_a_few_million_voxels_are_read_at_once(tmp_path, monkeypatch):
    zarr.create_array(
        tmp_path / "in.zarr", shape=(60, 900, 1000), chunks=(16, 128, 128), dtype="u1"
    )
    source = find_volume(str(tmp_path / "in.zarr"))
    read, volume = [], type(open_volume(source))
    original = volume.read

    def counted(self, box):
        read.append(box)
        return original(self, box)

    monkeypatch.setattr(volume, "read", counted)
    coarse_image(source, is_level_chosen=False)
    assert max(box.voxels for box in read) <= 2**22
    covered = sum(box.voxels for box in read)
    assert covered == Box.of_shape(source.shape_zyx).voxels
