"""Every output opens in the readers that people use, in both formats: voxels, sizes and windows."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import zarr

import pipeline
from pipeline.base.local_client import local_client
from pipeline.base.location import Location
from pipeline.base.stores import open_array
from pipeline.conversion.prepare import prepare_conversion
from pipeline.conversion.request import ConvertRequest
from pipeline.conversion.run import ConversionRun
from pipeline.corrections.create import create_corrections
from pipeline.corrections.segmented import find_segmented
from pipeline.masking.propose import propose_mask, write_mask
from pipeline.masking.request import MaskRequest
from pipeline.output.image_spec import ImageSpec
from pipeline.output.ome_write import create_images
from unet import UNetPredictor

pytestmark = pytest.mark.filterwarnings("ignore")
"""The readers warn when they are imported, which each test therefore does itself."""

SIZE = {"z": 0.2, "y": 0.1, "x": 0.1}

OUTPUTS = {
    "classes": "labels/classes/0",
    "classes/labels/classes": "0",
    "scores": "0",
    "scores/labels/objects": "0",
    "objects": "labels/objects/0",
    "converted": "0",
    "converted-labels": "0",
    "mask": "0",
    "corrections": "0",
}
"""Each place that a command prints, and the array that it shows."""


def napari_layers(place):
    from napari_ome_zarr import napari_get_reader

    return napari_get_reader(str(place))(str(place))


def in_napari(place):
    layers = napari_layers(place)  # of labels: the image that they belong to comes first
    levels, about, kind = layers[-1] if "/labels/" in place else layers[0]
    assert about["scale"] == pytest.approx([*SIZE.values()])
    assert set(about["units"]) == {"micrometer"}
    if kind == "image":
        limits = np.atleast_2d(about["contrast_limits"])
        brightest = np.max(levels[0].reshape(len(limits), -1), axis=1).compute()
        seen = np.atleast_1d(about["visible"]) & (brightest > limits.mean(axis=1))
        assert seen.any(), "black, or hidden"
    return levels[0]


def in_ome_zarr_py(place):
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    nodes = [node for node in Reader(parse_url(place))() if node.data]  # an image and its labels
    node = nodes[-1] if "/labels/" in place else nodes[0]
    return node.data[0]


def in_ngff_zarr(place):
    from ngff_zarr import from_ngff_zarr

    image = from_ngff_zarr(place).images[0]
    assert [image.scale[axis] for axis in SIZE] == pytest.approx([*SIZE.values()])
    assert image.axes_units["x"] == "micrometer"
    return image.data


def in_bioio(place):
    import bioio_ome_zarr
    from bioio import BioImage

    image = BioImage(place, reader=bioio_ome_zarr.Reader)
    assert tuple(image.physical_pixel_sizes) == pytest.approx([*SIZE.values()])
    return image.data[0] if image.dims.C > 1 else image.data[0, 0]


def in_ome_zarr_models(place):
    from ome_zarr_models import open_ome_zarr

    image = open_ome_zarr(zarr.open_group(place, mode="r"))
    about = getattr(image, "ome_attributes", image.attributes)
    return zarr.open_group(place, mode="r")[about.multiscales[0].datasets[0].path]


READERS = [in_napari, in_ome_zarr_py, in_ngff_zarr, in_bioio, in_ome_zarr_models]


@pytest.fixture(scope="module", params=["0.5", "0.4"])
def outputs(request, tmp_path_factory, weights, textured):
    """One output of every kind, as the commands write them."""
    folder, version = tmp_path_factory.mktemp("outputs"), request.param
    raw = textured((1, 6, 48, 40))[0]
    source = Location.parse(folder / "in.zarr")
    create_images(source, [raw_image(raw)], version="0.5")
    open_array(source, "0")[...] = raw
    predictor = UNetPredictor(weights("3d"), precision="fp32", device="cpu")
    for name, kinds in (("classes", ("classes",)), ("scores", ("classes", "scores"))):
        pipeline.segment_volume(
            str(source), str(folder / name), predictor, outputs=kinds, format=version
        )
    for place in ("objects", "scores/labels/objects"):
        pipeline.find_objects(str(folder / "scores"), str(folder / place), format=version)
    for name, image, labels in (
        ("converted", source, False),
        ("converted-labels", Location.parse(folder / "classes/labels/classes"), True),
    ):
        wanted = ConvertRequest(
            input=image, output=Location.parse(folder / name), format=version, labels=labels
        )
        with local_client() as client:
            ConversionRun.start(prepare_conversion(wanted), client).complete()
    write_mask(propose_mask(MaskRequest(input=source, output=Location.parse(folder / "mask"))))
    painted = Location.parse(folder / "corrections")
    create_corrections(painted, find_segmented(Location.parse(folder / "classes")))
    open_array(painted, "0")[2:4, 10:20, 10:20] = 1
    yield folder
    shutil.rmtree(folder)


def raw_image(raw):
    return ImageSpec(
        name="raw", is_label=False, path="", axes="zyx", dtype=raw.dtype.name, class_names=(),
        shapes=(raw.shape,), shards=(raw.shape,), chunks=(raw.shape,),
        voxel_sizes=(tuple(SIZE.values()),), translations=((0.0, 0.0, 0.0),),
        unit=("micrometer",) * 3,
    )  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", OUTPUTS)
def test_every_output_opens_and_is_not_black(outputs, name, reader):
    place = outputs / name
    stored = open_array(Location.parse(place), OUTPUTS[name])[...]
    assert stored.any()
    shown = np.asarray(reader(str(place)))
    np.testing.assert_array_equal(shown, stored)


def test_napari_shows_corrections_as_labels_with_the_names_of_their_values(outputs):
    ((_, about, kind),) = napari_layers(outputs / "corrections")
    assert kind == "labels"
    assert about["properties"]["class"] == ["unknown", "background", "class 1"]


def test_napari_has_labels_with_names_and_colours(outputs):
    layers = napari_layers(outputs / "classes")
    (about,) = [about for _, about, kind in layers if kind == "labels"]
    assert about["properties"]["class"] == ["background", "class 1"]
    assert about["colormap"][0][3] == 0
    assert about["colormap"][1][3] == 1
