"""The example images of the tutorial: TIFF with voxel size, made once, never over another file."""

import numpy as np
import pytest
import tifffile

from flows.cli.main import main
from flows.demo.example_images import make_example_images
from pipeline.volume.volume import find_volume


@pytest.mark.slow
def test_example_images_are_tiff_stacks_with_their_voxel_size(tmp_path, capsys):
    assert main(["demo", "--images", "--directory", str(tmp_path)]) == 0
    images = make_example_images(tmp_path)  # again: unchanged
    assert capsys.readouterr().err.split() == [
        str(path) for path in (images.image, images.training, images.training_labels)
    ]
    source = find_volume(str(images.image))
    assert source.shape_zyx == (64, 256, 256)
    assert source.voxel_size == pytest.approx((0.2, 0.1, 0.1))
    assert source.unit == ("micrometer",) * 3
    labels = tifffile.imread(images.training_labels)
    assert labels.shape == tifffile.imread(images.training).shape
    assert set(np.unique(labels)) == {0, 1}

    tifffile.imwrite(images.image, labels)
    assert main(["demo", "--images", "--directory", str(tmp_path)]) == 2
    assert np.array_equal(tifffile.imread(images.image), labels)
