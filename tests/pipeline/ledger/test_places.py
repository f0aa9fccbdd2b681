"""A run whose input and output were moved together is resumed; with another input it is not."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

from pipeline import segment_volume
from pipeline.base.errors import OutputError
from pipeline.base.local_client import local_client
from pipeline.base.location import Location
from pipeline.conversion.prepare import prepare_conversion
from pipeline.conversion.request import ConvertRequest
from pipeline.conversion.run import ConversionRun
from pipeline.ledger.status import read_status
from pipeline.objects.definition.request import ObjectsRequest
from pipeline.objects.preparation.prepare import prepare_objects
from pipeline.objects.run import ObjectsRun
from pipeline.segmentation.prepare import prepare
from pipeline.segmentation.request import SegmentRequest
from pipeline.segmentation.run import SegmentRun
from pipeline.segmentation.sequence import complete
from pipeline.verification.repair import repair_output
from pipeline.verification.verify import verify_output
from unet import UNetPredictor

SHAPE, BLOCK = (4, 40, 40), (4, 16, 16)


@pytest.fixture(scope="module")
def threads():
    with local_client() as client:
        yield client


@pytest.fixture(scope="module")
def run(threads, weights):
    """Return a function that runs or resumes an output of a kind, and returns its notes."""
    predictor = UNetPredictor(weights("3d"), precision="fp32")

    def segment(folder, source, **options):
        request = SegmentRequest(
            input=str(source), output=str(folder / "out.zarr"), block=BLOCK,
            outputs=("classes", "scores"), **options,
        )  # fmt: skip
        started = SegmentRun.start(prepare(request, predictor), threads)
        complete(started)
        return started.prepared.notes

    def start(kind, folder, source):
        if kind == "segmentation":
            return segment(folder, source)
        if kind == "masked":
            return segment(folder, source, mask=str(folder / "mask.zarr"))
        if kind == "conversion":
            request = ConvertRequest(
                input=str(source), output=str(folder / "out.zarr"), shard=BLOCK, chunk=BLOCK
            )
            conversion = ConversionRun.start(prepare_conversion(request), threads)
            conversion.complete()
            return conversion.prepared.notes
        scored = folder / "scored.zarr"
        if not scored.exists():
            segment_volume(
                str(source), str(scored), predictor, client=threads, block=BLOCK,
                outputs=("classes", "scores"),
            )  # fmt: skip
        output = scored / "labels/objects" if kind == "objects inside" else folder / "out.zarr"
        request = ObjectsRequest(
            scores=str(scored), output=str(output), score_class="1", block=BLOCK, threshold=0.2,
            intensity=str(source),
        )  # fmt: skip
        objects = ObjectsRun.start(prepare_objects(request), threads)
        objects.complete()
        return objects.prepared.notes

    return start


@pytest.fixture
def folder(tmp_path, textured):
    folder = tmp_path / "before"
    folder.mkdir()
    zarr.create_array(folder / "in.zarr", data=textured(SHAPE), dimension_names=["z", "y", "x"])
    mask = np.ones(SHAPE, bool)
    mask[:, :8] = False
    zarr.create_array(folder / "mask.zarr", data=mask, dimension_names=["z", "y", "x"])
    return folder


def output_of(kind, folder):
    inside = kind == "objects inside"
    return folder / "scored.zarr/labels/objects" if inside else folder / "out.zarr"


def contents(output):
    files = (path for path in output.rglob("*") if path.is_file())
    named = {str(path.relative_to(output)): path for path in files}
    return {name: path.read_bytes() for name, path in named.items() if not name.startswith("run/")}


def damage(output):
    """Damage a shard of the finest level, and take its blocks back."""
    level = output if (output / "0").exists() else next(output.glob("labels/*"))
    shard = max(
        (p for p in (level / "0/c").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size
    )
    shard.write_bytes(b"damaged")
    place = Location.parse(str(output))
    repair_output(verify_output(place, on_cell=lambda done, total: None))
    assert read_status(place).total.left


KINDS = ("segmentation", "masked", "conversion", "objects", "objects inside")


@pytest.mark.parametrize("kind", KINDS)
def test_moved_together_with_its_input_a_run_is_resumed_to_the_same_bytes(kind, run, folder):
    assert not any("moved" in note for note in run(kind, folder, folder / "in.zarr"))
    whole = contents(output_of(kind, folder))
    damage(output_of(kind, folder))
    after = folder.rename(folder.parent / "after")
    notes = run(kind, after, after / "in.zarr")
    assert any(f"in.zarr was {folder / 'in.zarr'} when" in note for note in notes), notes
    assert contents(output_of(kind, after)) == whole


@pytest.mark.parametrize("kind", ["segmentation", "conversion"])
def test_moved_without_its_input_a_run_is_not_resumed(kind, run, folder):
    run(kind, folder, folder / "in.zarr")
    damage(output_of(kind, folder))
    other = folder.parent / "other.zarr"
    (folder / "in.zarr").rename(other)
    with pytest.raises(OutputError, match=r"job \(input_uri was \S+, now \S+\):"):
        run(kind, folder, other)


def test_another_volume_in_the_same_relation_is_refused(run, folder, textured):
    run("segmentation", folder, folder / "in.zarr")
    damage(folder / "out.zarr")
    after = folder.parent / "after"
    after.mkdir()
    (folder / "out.zarr").rename(after / "out.zarr")
    other = textured(SHAPE).astype(np.float32)
    zarr.create_array(after / "in.zarr", data=other, dimension_names=["z", "y", "x"])
    with pytest.raises(OutputError, match="belongs to another job"):
        run("segmentation", after, after / "in.zarr")
    other = 255 - textured(SHAPE)
    zarr.create_array(
        after / "in.zarr", data=other, dimension_names=["z", "y", "x"], overwrite=True
    )
    with pytest.raises(OutputError, match=r"belongs to another job \(input_sample was"):
        run("segmentation", after, after / "in.zarr")


def test_other_grey_values_in_the_same_relation_are_refused(run, folder, textured):
    run("objects", folder, folder / "in.zarr")
    damage(folder / "out.zarr")
    after = folder.rename(folder.parent / "after")
    zarr.open_array(after / "in.zarr", mode="r+")[:] = 255 - textured(SHAPE)
    with pytest.raises(OutputError, match=r"belongs to another job \(intensity_sample was"):
        run("objects", after, after / "in.zarr")


def test_an_output_moved_away_from_its_input_is_resumed(run, folder):
    run("segmentation", folder, folder / "in.zarr")
    whole = contents(folder / "out.zarr")
    damage(folder / "out.zarr")
    after = folder.parent / "after"
    after.mkdir()
    (folder / "out.zarr").rename(after / "out.zarr")
    assert not any("moved" in note for note in run("segmentation", after, folder / "in.zarr"))
    assert contents(after / "out.zarr") == whole
