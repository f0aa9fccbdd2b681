"""Grey values are measured under the scores, wherever the image says that these lie."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

from pipeline.base.errors import VolumeError
from pipeline.objects.definition.find_scores import find_scores
from pipeline.objects.definition.request import ObjectsRequest
from pipeline.objects.preparation.intensity import find_intensity, intensity_notes
from pipeline.volume.volume import find_volume

NM = (40.0, 8.0, 8.0)


def image(path, shape, *, voxel=NM, at=(0, 0, 0), unit="nanometer"):
    """Make an OME-Zarr image (z, y, x) of one level whose first voxel lies ``at`` a voxel."""
    group = zarr.create_group(path)
    group.create_array("0", data=np.zeros(shape, "u1"))
    origin = [step * place for step, place in zip(voxel, at, strict=True)]
    transformations = [
        {"type": "scale", "scale": [*voxel]}, {"type": "translation", "translation": origin},
    ]  # fmt: skip
    axes = [{"name": name, "type": "space", **({"unit": unit} if unit else {})} for name in "zyx"]
    datasets = [{"path": "0", "coordinateTransformations": transformations}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    return str(path)


@pytest.fixture
def found(tmp_path):
    """Return a function: the image's place under scores of 4×20×30 voxels, and the notes."""

    def find(scores, raw):
        scores = find_volume(image(tmp_path / "scores.zarr", (4, 20, 30), **scores))
        raw = image(tmp_path / "raw.zarr", **raw)
        request = ObjectsRequest(
            scores=scores.store, output=str(tmp_path / "out.zarr"), intensity=raw
        )
        intensity = find_intensity(request, scores)
        return intensity.start, [*intensity_notes(intensity, scores)]

    return find


def test_a_time_point_is_of_each_image_that_has_a_time_axis(tmp_path):
    zarr.create_array(tmp_path / "scores.zarr", data=np.zeros((4, 6, 6), "f4"))
    zarr.create_array(tmp_path / "series.zarr", data=np.zeros((3, 4, 6, 6), "u1"),
                      dimension_names="tzyx")  # fmt: skip
    zarr.create_array(tmp_path / "still.zarr", data=np.zeros((4, 6, 6), "u1"))
    series, still = (str(tmp_path / name) for name in ("series.zarr", "still.zarr"))
    wanted = {"scores": str(tmp_path / "scores.zarr"), "output": str(tmp_path / "out.zarr")}
    request = ObjectsRequest(**wanted, intensity=series, time=2)
    scores = find_scores(request).source
    assert (scores.time, find_intensity(request, scores).source.time) == (None, 2)
    with pytest.raises(VolumeError, match=r"--time 2: neither .*scores.* nor .*still.* has a time"):
        find_intensity(ObjectsRequest(**wanted, intensity=still, time=2), scores)
    with pytest.raises(VolumeError, match="no time axis"):
        find_scores(ObjectsRequest(**wanted, time=2))


@pytest.mark.parametrize(
    ("scores", "raw", "start"),
    [
        ({"at": (5, 7, 9)}, {"shape": (16, 64, 64)}, (5, 7, 9)),
        ({"at": (15, 17, 19)}, {"shape": (16, 64, 64), "at": (10, 10, 10)}, (5, 7, 9)),
        ({"at": (5, 7, 9)}, {"shape": (16, 64, 64), "voxel": (40.4, 8.1, 8.0)}, (5, 7, 9)),
        ({}, {"shape": (4, 20, 30)}, (0, 0, 0)),
        ({"at": (5, 7, 9)}, {"shape": (4, 20, 30), "unit": None}, (0, 0, 0)),
    ],
)
def test_a_larger_image_is_placed_by_what_both_state(scores, raw, start, found):
    place, notes = found(scores, raw)
    assert place == start
    assert len(notes) == (raw["shape"] != (4, 20, 30))
    assert all("from voxel z 5, y 7, x 9" in note for note in notes)


@pytest.mark.parametrize(
    ("scores", "raw", "says"),
    [
        ({"at": (13, 7, 9)}, {"shape": (16, 64, 64)}, "expected an image of the same voxels, or a"),
        ({"at": (5, 7.5, 9)}, {"shape": (16, 64, 64)}, "a larger one that states where it lies"),
        ({}, {"shape": (16, 64, 64), "unit": None}, "is 16×64×64 voxels, the scores are 4×20×30"),
        ({"unit": None}, {"shape": (16, 64, 64)}, "expected an image of the same voxels"),
        (
            {},
            {"shape": (4, 20, 30), "voxel": (40.0, 4.0, 4.0)},
            "has voxels of 0.04×0.004×0.004 µm",
        ),
        ({}, {"shape": (3, 20, 30)}, "expected an image of the same voxels"),
    ],
)
def test_an_image_that_does_not_have_the_voxels_of_the_scores_is_refused(scores, raw, says, found):
    with pytest.raises(VolumeError, match=says):
        found(scores, raw)


def test_a_stated_voxel_size_places_no_image_of_another_shape(tmp_path):
    """The finer level of the scores' own image, say: its first voxels are not the scores'."""
    half = (40.0, 4.0, 4.0)
    raw = image(tmp_path / "raw.zarr", (4, 40, 60), voxel=half)
    scores = image(tmp_path / "scores.zarr", (4, 20, 30))
    request = ObjectsRequest(
        scores=scores, output=str(tmp_path / "out.zarr"), intensity=raw,
        voxel_size_um=(0.04, 0.008, 0.008),
    )  # fmt: skip
    says = r"4×40×60 voxels, the scores are 4×20×30: with --voxel-size, expected .* the same shape"
    with pytest.raises(VolumeError, match=says):
        find_intensity(request, find_volume(scores))
    without = ObjectsRequest(scores=scores, output=request.output, intensity=raw)
    with pytest.raises(VolumeError, match=r"pass the level or the part that the scores are of$"):
        find_intensity(without, find_volume(scores))
