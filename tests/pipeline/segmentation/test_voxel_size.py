"""A voxel size that a person states counts like one that the file states, from scale to table."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import tifffile
import zarr

import pipeline
from pipeline.base.errors import OutputError, PlanError
from pipeline.base.location import Location
from pipeline.segmentation.prepare import prepare
from pipeline.segmentation.request import SegmentRequest
from pipeline.segmentation.run import SegmentRun
from pipeline.segmentation.run_report import run_report
from pipeline.segmentation.sequence import complete
from pipeline.segmentation.trained_scale import has_other_scale, voxel_size_note
from pipeline.viewing.layers import find_view
from pipeline.volume.micrometres import voxel_size_um
from unet import UNetPredictor

TRUE = (0.8, 0.2, 0.2)
SHAPE = (2, 20, 300)
IGNORED = "Ignore this if your objects are as many voxels wide as those of the training"


def image(path, raw, size, unit):
    """Write an OME-Zarr image of one level."""
    group = zarr.create_group(path)
    group.create_array("0", data=raw)
    scale = {"type": "scale", "scale": [*size]}
    axes = [{"name": name, "type": "space", **({"unit": unit} if unit else {})} for name in "zyx"]
    datasets = [{"path": "0", "coordinateTransformations": [scale]}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    return str(path)


@pytest.fixture(scope="module")
def place(tmp_path_factory, textured):
    """A folder with one image in two files, which state its true voxel size and another one."""
    folder = tmp_path_factory.mktemp("sized")
    raw = textured(SHAPE)
    image(folder / "true.zarr", raw, TRUE, "micrometer")

    image(folder / "wrong.zarr", raw, (5, 5, 5), "nanometer")
    return folder


@pytest.fixture
def predictor(weights):
    path = weights("2d", voxel_size_um=[0.2, 0.2])
    return UNetPredictor(path, precision="fp32", device="cpu")


def multiscales(output, path=""):
    node = zarr.open_group(str(output), path=path, mode="r")
    return node.attrs["ome"]["multiscales"]


def segment(place, name, predictor, tmp_path, **settings):
    """Segment an image and find its objects; return the output."""
    output = tmp_path / f"{name}-out.zarr"
    pipeline.segment_volume(
        str(place / f"{name}.zarr"), str(output), predictor, outputs=("classes", "scores"),
        **settings,
    )  # fmt: skip
    pipeline.find_objects(
        str(output), f"{output}/labels/objects", score_class=1, intensity=str(place / "true.zarr"),
        min_voxels=3,
    )  # fmt: skip
    return output


def test_scales_levels_and_tables_are_those_of_a_file_that_states_the_size(
    place, predictor, tmp_path
):
    expected = segment(place, "true", predictor, tmp_path)
    assert len(multiscales(expected)[0]["datasets"]) == 2
    rows = pq.read_table(expected / "labels/objects/tables/objects.parquet")
    assert len(rows) > 1
    assert {"volume_um3", "intensity_mean_0"} <= {*rows.column_names}
    output = segment(place, "wrong", predictor, tmp_path, voxel_size_um=TRUE)
    for path in ("", "labels/classes", "labels/objects"):
        assert multiscales(output, path) == multiscales(expected, path)
    found = pq.read_table(output / "labels/objects/tables/objects.parquet")
    assert found.equals(rows, check_metadata=True)
    for path in ("0", "1", "labels/classes/1", "labels/objects/1"):
        one, other = (zarr.open_array(f"{out}/{path}", mode="r") for out in (output, expected))
        np.testing.assert_array_equal(one[...], other[...])
    raw = find_view(Location.parse(output)).layers[0]
    assert raw.name == "raw"
    assert raw.source.voxel_size == pytest.approx(TRUE)


def test_a_coarser_level_of_a_tiff_lies_below_objects_of_another_size(
    predictor, textured, tmp_path
):
    """No path leads to the level that was read: view opens the image at its finest one."""
    raw, tiled = textured(SHAPE), {"tile": (16, 16), "photometric": "minisblack"}
    with tifffile.TiffWriter(tmp_path / "in.ome.tif") as file:
        sizes = {"PhysicalSizeZ": 1.0, "PhysicalSizeY": 0.5, "PhysicalSizeX": 0.5}
        file.write(raw, subifds=1, metadata={"axes": "ZYX", **sizes}, **tiled)
        file.write(raw[:, ::2, ::2], subfiletype=1, **tiled)
    scores, objects = str(tmp_path / "scores.zarr"), str(tmp_path / "objects.zarr")
    pipeline.segment_volume(
        str(tmp_path / "in.ome.tif"), scores, predictor, outputs=("scores",), level=1
    )
    pipeline.find_objects(scores, objects, score_class=1, voxel_size_um=(3, 4, 4))
    layers = find_view(Location.parse(objects)).layers
    sized = {layer.name: voxel_size_um(layer.source) for layer in layers}
    assert sized.pop("raw") == pytest.approx((3, 2, 2))
    assert voxel_size_um(layers[0].levels[1]) == pytest.approx((3, 4, 4))
    assert set(sized.values()) == {(3, 4, 4)}
    assert len(sized) >= 2


def test_an_output_is_resumed_with_its_voxel_size_alone(place, predictor, tmp_path):
    stored = {"true": ("classes", "scores"), "wrong": ("classes",)}

    def prepared(name, size=None):
        request = SegmentRequest(
            input=str(place / f"{name}.zarr"), output=str(tmp_path / f"{name}-out.zarr"),
            voxel_size_um=size, outputs=stored[name],
        )  # fmt: skip
        return prepare(request, predictor)

    for name, size in (("true", None), ("wrong", TRUE)):
        pipeline.segment_volume(
            str(place / f"{name}.zarr"), str(tmp_path / f"{name}-out.zarr"), predictor,
            voxel_size_um=size, outputs=stored[name],
        )  # fmt: skip
    measured = (
        f"; to measure objects with this size: overtile objects {tmp_path}/true-out.zarr OBJECTS "
        "--voxel-size 1,1,1"
    )
    assert prepared("true", TRUE).output_action == "resumed"
    assert prepared("wrong", TRUE).output_action == "resumed"
    for name, size, was, now, more in (
        ("true", (1, 1, 1), "as in the file", "1,1,1", measured),
        ("wrong", (1, 1, 1), "0.8,0.2,0.2", "1,1,1", ""),
        ("wrong", None, "0.8,0.2,0.2", "as in the file", ""),
    ):
        with pytest.raises(OutputError) as caught:
            prepared(name, size)
        assert str(caught.value) == (
            f"{tmp_path}/{name}-out.zarr belongs to another job (voxel_size_um was {was}, now "
            f"{now}): choose another output, or replace it with --overwrite{more}"
        )


def test_the_report_measures_and_judges_with_the_given_size(place, predictor, tmp_path, one_worker):
    request = SegmentRequest(
        input=str(place / "wrong.zarr"), output=str(tmp_path / "out.zarr"), voxel_size_um=TRUE
    )
    run = complete(SegmentRun.open(request, predictor, one_worker))
    report = run_report(run)
    assert report.planes[0].um_per_px == pytest.approx(0.2)
    assert dict(report.key_figures)["voxel size"] == (
        "0.8 × 0.2 × 0.2 µm (z, y, x), by --voxel-size; the file states 5 × 5 × 5 nm"
    )
    other = "The voxels have another size than in the network's training."
    assert other not in report.verdict.text
    source = request.find_source(level=None).in_file
    as_in_file = replace(run, prepared=replace(run.prepared, source=source))
    assert other in run_report(as_in_file).verdict.text


@pytest.mark.parametrize(
    ("size", "note"),
    [
        (TRUE, None),
        (None, "differs from that of the training, 0.2×0.2 µm, by more than a factor of 1.5, and "
               "no level of the image fits: shrink it 40 times (in Fiji: Image > Scale; overtile "
               "convert makes coarser levels of a large one, for --level), or use other weights; "
               "if the file is wrong, pass the true size as --voxel-size. "),
        ((1, 9, 9), "no level of the image fits: enlarge it 45 times (in Fiji: Image > Scale), or "
                    "use other weights. "),
    ],
)  # fmt: skip
def test_the_given_size_is_compared_with_that_of_the_training(size, note, place, predictor):
    request = SegmentRequest(input=str(place / "wrong.zarr"), output="x.zarr", voxel_size_um=size)
    source = request.find_source(level=None)
    found = voxel_size_note(predictor, source)
    assert has_other_scale(predictor, source) == (note is not None)
    assert found is None if note is None else found.endswith(f"{note}{IGNORED}")


def test_labels_inside_an_image_have_its_voxels(place, predictor):
    with pytest.raises(PlanError) as caught:
        pipeline.segment_volume(
            str(place / "wrong.zarr"), str(place / "wrong.zarr/labels/classes"), predictor,
            into_input=True, voxel_size_um=TRUE,
        )  # fmt: skip
    assert str(caught.value) == (
        f"--voxel-size 0.8,0.2,0.2: labels inside {place}/wrong.zarr have the voxel size that it "
        "states; choose another output"
    )
    assert not (place / "wrong.zarr/labels").exists()
