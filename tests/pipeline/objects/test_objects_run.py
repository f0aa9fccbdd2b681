"""A run in tasks: the same objects for any workers, and after any stop; nothing is left behind."""

from __future__ import annotations

import errno
import os
import shutil
import time

import numpy as np
import ome_zarr_models.v04
import ome_zarr_models.v05
import pytest
import zarr

from pipeline.base.errors import OutputError, PlanError, RunError, VolumeError
from pipeline.base.local_client import local_client
from pipeline.base.location import Location
from pipeline.base.stores import list_names, open_store
from pipeline.ledger.progress import read_progress
from pipeline.objects import run as run_module
from pipeline.objects import task_run
from pipeline.objects.definition.request import ObjectsRequest
from pipeline.objects.preparation.prepare import prepare_objects
from pipeline.objects.run import ObjectsRun
from pipeline.objects.table.table_summary import summarise_table
from pipeline.objects.tasks import ids, intermediates, tasks
from pipeline.objects.tasks.intermediates import Intermediates
from pipeline.output.documents import read_bytes

SHAPE, BLOCK = (6, 20, 26), (3, 8, 13)
BLOCKS = 2 * 3 * 2
NAMES = ("cell", "membrane")
WATERSHED = {"method": "watershed", "score_class": "membrane", "depth": 0.1, "connectivity": 18}
METHODS = {
    "components": {"score_class": "cell", "threshold": 0.6, "connectivity": 26},
    "components per slice": {"score_class": "membrane", "per_slice": True},
    "watershed by depth": WATERSHED,
    "watershed by seeds": {
        "method": "watershed", "score_class": "cell", "threshold": 0.3, "seed_threshold": 0.6},
    "watershed by distance": {
        "method": "watershed", "score_class": "cell", "threshold": 0.2, "seed_distance": 0.6},
}  # fmt: skip


def store_scores(path, czyx, *, voxel_um=(1.0, 0.5, 0.5), names=NAMES):
    """Write scores as an OME-Zarr image with named classes."""
    axes = "czyx"[-czyx.ndim :] if czyx.ndim == 4 else "cyx"
    units = {"unit": "micrometer"}
    root = zarr.create_group(path)
    root.create_array("0", data=czyx, chunks=(1, *(min(8, n) for n in czyx.shape[1:])))
    root.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [{
            "axes": [{"name": "c", "type": "channel"},
                     *({"name": axis, "type": "space", **units} for axis in axes[1:])],
            "datasets": [{"path": "0", "coordinateTransformations": [
                {"type": "scale", "scale": [1.0, *voxel_um[-(czyx.ndim - 1) :]]}]}],
        }],
        "omero": {"channels": [{"label": name} for name in names]},
    }  # fmt: skip
    return path


@pytest.fixture(scope="module")
def scores(textured):
    cell = textured(SHAPE, seed=5)
    return np.stack([cell, 255 - cell])


@pytest.fixture(scope="module")
def source(scores, tmp_path_factory):
    return store_scores(tmp_path_factory.mktemp("objects") / "scores.zarr", scores)


@pytest.fixture(scope="module")
def threads():
    with local_client() as client:
        yield client


def prepared_for(source, output, **options):
    return prepare_objects(
        ObjectsRequest(scores=str(source), output=str(output), **{"block": BLOCK, **options})
    )


def find_objects(client, source, output, **options):
    run = ObjectsRun.start(prepared_for(source, output, **options), client)
    run.complete()
    return run


def labels_in(output, level=0):
    return zarr.open_array(output / f"labels/objects/{level}", mode="r")[...]


def files_of(output):
    """Return the content of every file of an output, without its ledger."""
    return {
        str(path.relative_to(output)): path.read_bytes()
        for path in output.rglob("*")
        if path.is_file() and path.relative_to(output).parts[0] != "run"
    }


def times_of(output):
    return {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def undisturbed(threads, source, tmp_path_factory):
    """Return the files of a run without any disturbance, and its number of objects."""
    output = tmp_path_factory.mktemp("undisturbed") / "out.zarr"
    run = find_objects(threads, source, output, **WATERSHED)
    assert run.objects > 20
    return files_of(output), run.objects


@pytest.mark.parametrize("options", METHODS.values(), ids=METHODS)
def test_stored_labels_are_those_of_the_whole_volume_with_ids_by_first_voxel(
    options, threads, source, scores, reference, tmp_path, monkeypatch
):
    for module in (ids, tasks):  # many parts of the list of names
        monkeypatch.setattr(module, "NAMES_PER_PART", 3)
    run = find_objects(threads, source, tmp_path / "out.zarr", **options)
    method = run.prepared.method
    expected = reference(scores[NAMES.index(options["score_class"])], method)
    found = labels_in(tmp_path / "out.zarr")
    assert found.dtype == "uint32"
    np.testing.assert_array_equal(found, expected)
    assert run.objects == expected.max() > 4


@pytest.mark.parametrize("border", ["keep", "drop"])
def test_filtered_objects_get_no_id_and_the_others_dense_ones(
    border, threads, source, scores, reference, tmp_path
):
    options = {"score_class": "cell", "threshold": 0.7, "border": border}
    options |= {"min_voxels": 2, "max_voxels": 40}
    run = find_objects(threads, source, tmp_path / "out.zarr", **options)
    whole = reference(scores[0], run.prepared.method)
    inner = np.zeros(SHAPE, bool)
    inner[1:-1, 1:-1, 1:-1] = True
    kept = [
        label
        for label in range(1, whole.max() + 1)
        if 2 <= np.count_nonzero(whole == label) <= 40
        and (border == "keep" or inner[whole == label].all())
    ]
    lookup = np.zeros(whole.max() + 1, int)
    lookup[kept] = np.arange(1, len(kept) + 1)
    np.testing.assert_array_equal(labels_in(tmp_path / "out.zarr"), lookup[whole])
    assert 0 < run.objects == len(kept) < whole.max()


@pytest.mark.slow
def test_three_worker_processes_give_the_same_bytes_as_threads(
    three_workers, source, undisturbed, tmp_path
):
    find_objects(three_workers, source, tmp_path / "out.zarr", **WATERSHED)
    assert files_of(tmp_path / "out.zarr") == undisturbed[0]


def test_objects_in_a_bucket_are_the_same_and_their_intermediates_are_deleted(
    s3, threads, source, tmp_path
):
    local, output = tmp_path / "out.zarr", Location.parse(f"{s3}/out.zarr")
    options = {**WATERSHED, "block": (6, 10, 26)}  # two: a bucket takes its time
    for place in (local, output):
        find_objects(threads, source, place, **options)
    store, expected = open_store(output), files_of(local)
    assert {name: read_bytes(store, name) for name in expected} == expected
    assert not list_names(output / "run/objects")


def test_any_size_of_blocks_gives_the_same_labels(threads, source, undisturbed, tmp_path):
    find_objects(threads, source, tmp_path / "whole.zarr", **{**WATERSHED, "block": SHAPE})
    find_objects(threads, source, tmp_path / "out.zarr", **{**WATERSHED, "block": (4, 13, 5)})
    whole = labels_in(tmp_path / "whole.zarr")
    assert whole.max() == undisturbed[1]
    np.testing.assert_array_equal(labels_in(tmp_path / "out.zarr"), whole)


def test_a_run_that_fails_or_is_drained_at_every_stage_gives_the_same_bytes(
    threads, source, undisturbed, tmp_path, monkeypatch
):
    stages, said, output = [], [], tmp_path / "out.zarr"
    drive = task_run.drive

    def stopping(client, items, submit, *, limit, stop):
        for batch in drive(client, items, submit, limit=limit, stop=stop):
            yield batch
            left[0] -= len(batch)
            if left[0] < 0 and len(stages) % 2:
                limit.drain()
            elif left[0] < 0:
                raise RunError("stopped by the test")

    monkeypatch.setattr(task_run, "drive", stopping)
    while "done" not in stages:
        left = [10]
        run = ObjectsRun.start(prepared_for(source, output, **WATERSHED), threads)
        try:
            run.complete()
        except RunError as error:
            said.append(str(error))
        stages.append(run.progress().stage)
        assert len(stages) < 40
    assert {"label", "merge", "write"} <= set(stages)
    assert all(
        ("same run again" if n % 2 else "by the test") in text for n, text in enumerate(said)
    )
    assert files_of(output) == undisturbed[0]
    assert not (output / "run/objects").exists()


def stored_files(output):
    return sum(1 for path in (output / "run/objects").rglob("*") if path.is_file())


def test_a_killed_command_is_resumed_to_the_same_bytes_and_leaves_no_intermediates(
    threads, source, undisturbed, tmp_path, commands
):
    output = tmp_path / "out.zarr"
    run = commands.start([
        "objects", str(source), str(output), "--workers", "1", "--method", "watershed",
        "--class", "membrane", "--depth", "0.1", "--connectivity", "18",
        "--block", ",".join(map(str, BLOCK)),
    ])  # fmt: skip
    while stored_files(output) < 8:
        assert run.poll() is None, run.text
        assert run.seconds < 120
        time.sleep(0.005)
    run.kill()
    assert not (output / "labels/objects/zarr.json").exists(), "it was killed too late"
    find_objects(threads, source, output, **WATERSHED)
    assert files_of(output) == undisturbed[0]
    assert not (output / "run/objects").exists()


def test_intermediates_that_a_kill_at_the_very_end_left_are_deleted(
    threads, source, undisturbed, tmp_path, monkeypatch
):
    output = tmp_path / "out.zarr"
    with monkeypatch.context() as patch:
        patch.setattr(Intermediates, "delete", fail)
        with pytest.raises(RuntimeError, match="by the test"):
            find_objects(threads, source, output, **WATERSHED)
    assert stored_files(output) > 4 * BLOCKS
    assert files_of(output) == undisturbed[0]
    find_objects(threads, source, output, **WATERSHED)
    assert not (output / "run/objects").exists()


def test_intermediates_that_a_run_was_asked_to_keep_stay_when_it_is_repeated(
    threads, source, tmp_path
):
    output = tmp_path / "out.zarr"
    find_objects(threads, source, output, keep_intermediates=True, **WATERSHED)
    kept = stored_files(output)
    find_objects(threads, source, output, **WATERSHED)
    assert stored_files(output) == kept > 4 * BLOCKS


def test_a_complete_output_is_not_written_again(threads, source, tmp_path):
    output = tmp_path / "out.zarr"
    objects = find_objects(threads, source, output, **METHODS["components"]).objects
    before = times_of(output / "labels")
    again = find_objects(threads, source, output, **METHODS["components"])
    assert (again.objects, again.resumed_blocks) == (objects, BLOCKS)
    assert times_of(output / "labels") == before


def test_an_output_of_other_parameters_is_refused_unless_it_is_replaced(threads, source, tmp_path):
    output = tmp_path / "out.zarr"
    find_objects(threads, source, output, **METHODS["components"])
    before = times_of(output)
    other = {**METHODS["components"], "threshold": 0.7}
    with pytest.raises(
        OutputError, match=r"another job \(threshold was 0\.6, now 0\.7\).*--overwrite"
    ):
        prepared_for(source, output, **other)
    with pytest.raises(OutputError, match=r"another job"):
        prepared_for(source, output, **METHODS["components"], min_voxels=2)
    assert times_of(output) == before
    found = labels_in(output)
    find_objects(threads, source, output, overwrite=True, **other)
    assert not np.array_equal(labels_in(output), found)


def fail(*_):
    raise RuntimeError("stopped by the test")


def test_a_damaged_intermediate_is_named_and_its_remedy_is_enough(
    threads, source, undisturbed, tmp_path, monkeypatch
):
    output, name = tmp_path / "out.zarr", "labels/0.1.1"
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "name_group", fail)
        with pytest.raises(RunError, match=r"2 groups failed .*by the test"):
            find_objects(threads, source, output, retries=0, **WATERSHED)
    path = output / "run/objects" / name
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(RunError, match=rf"{name} cannot be read .*delete the folder") as caught:
        find_objects(threads, source, output, retries=0, **WATERSHED)
    assert "\n" not in str(caught.value)
    shutil.rmtree(output / "run/objects")
    find_objects(threads, source, output, **WATERSHED)
    assert files_of(output) == undisturbed[0]


def test_a_file_that_the_store_does_not_take_costs_its_block_only(
    threads, source, undisturbed, tmp_path, monkeypatch
):
    output, kept = tmp_path / "out.zarr", intermediates.put_bytes

    def put_bytes(store, key, content):
        if key.endswith("/graphs/0.1.1"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        kept(store, key, content)

    with monkeypatch.context() as patch:
        patch.setattr(intermediates, "put_bytes", put_bytes)
        with pytest.raises(RunError, match=r"^1 block failed \(block 0,1,1: .*Input/output error"):
            find_objects(threads, source, output, retries=0, **WATERSHED)
    (progress,) = read_progress(Location.parse(output))
    assert progress.labelled == progress.blocks - 1
    find_objects(threads, source, output, **WATERSHED)
    assert files_of(output) == undisturbed[0]


@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_a_lost_or_torn_table_is_named_with_its_remedy(threads, source, tmp_path, damage):
    output = tmp_path / "out.zarr"
    find_objects(threads, source, output, threshold=0.4)
    table = Location.parse(output / "tables/objects.parquet")
    if damage == "missing":
        table.path.unlink()
    else:
        table.path.write_bytes(table.path.read_bytes()[:-20])
    with pytest.raises(OutputError, match=f"parquet is {damage}.*: find .*, with --overwrite$"):
        summarise_table(table)


def test_float_scores_give_objects(threads, scores, tmp_path):
    store_scores(tmp_path / "in.zarr", (scores / 255).astype(np.float32))
    run = find_objects(threads, tmp_path / "in.zarr", tmp_path / "out.zarr", **WATERSHED)
    assert labels_in(tmp_path / "out.zarr").max() == run.objects > 20


UNREAD_Z = 3
"""In none of the boxes that are read before the start."""


@pytest.mark.parametrize("bad", [np.nan, 1.5, -0.1])
def test_floats_that_are_no_scores_end_the_run_and_nothing_is_left(bad, threads, scores, tmp_path):
    values = (scores / 255).astype(np.float32)
    values[1, UNREAD_Z, 15, 20] = bad
    store_scores(tmp_path / "bad.zarr", values)
    output = tmp_path / "none.zarr"
    says = rf"holds {bad:g} at z 3, y 15, x 20: expected scores .*none.zarr is deleted$"
    with pytest.raises(VolumeError, match=says) as caught:
        find_objects(threads, tmp_path / "bad.zarr", output, **WATERSHED)
    assert caught  # its traceback holds the frames of the run
    assert not threads.futures, "no task is in flight, which could write into the output"
    assert not output.exists()
    values[1, 4, 15, 20] = bad
    store_scores(tmp_path / "early.zarr", values)
    with pytest.raises(VolumeError, match=rf"holds {bad:g}: expected scores from 0 to 1"):
        prepared_for(tmp_path / "early.zarr", output, **WATERSHED)


def test_blocks_of_an_earlier_run_are_kept_if_scores_are_refused(
    threads, scores, tmp_path, monkeypatch
):
    values = (scores / 255).astype(np.float32)
    path, output = store_scores(tmp_path / "in.zarr", values), tmp_path / "out.zarr"
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "name_group", fail)
        with pytest.raises(RunError, match="by the test"):
            find_objects(threads, path, output, retries=0, **WATERSHED)
    before = set(os.listdir(output / "run/objects/labels"))
    shutil.rmtree(output / "run/objects/graphs")
    zarr.open_array(path / "0")[1, UNREAD_Z, 15, 20] = np.nan
    with pytest.raises(VolumeError, match=r"holds nan at .* or uint16$"):
        find_objects(threads, path, output, **WATERSHED)
    assert set(os.listdir(output / "run/objects/labels")) == before


def test_what_a_run_reads_is_never_in_the_output_that_it_may_delete(source, tmp_path):
    read = tmp_path / "read.zarr"
    zarr.create_array(read, data=np.zeros(SHAPE, np.uint8))
    for option in ("intensity", "reuse"):
        for output in (read, tmp_path, read / "inside.zarr"):
            with pytest.raises(OutputError, match=r"the same|lies inside"):
                prepared_for(source, output, overwrite=True, score_class=0, **{option: str(read)})


def test_an_array_has_no_labels_inside(tmp_path):
    scores = tmp_path / "in.zarr"
    zarr.create_array(scores, data=np.zeros(SHAPE, np.uint8))
    with pytest.raises(OutputError, match="lies inside an array"):
        prepared_for(scores, scores / "labels/objects")


@pytest.mark.parametrize(
    ("name", "threshold", "seeds", "says"),
    [("cell", 0.6, 0.3, "above"), ("membrane", 0.3, 0.6, "below"), ("cell", None, 0.4, "above")],
)
def test_seeds_that_would_be_whole_objects_are_refused(
    name, threshold, seeds, says, source, tmp_path
):
    options = {"method": "watershed", "score_class": name, "threshold": threshold}
    with pytest.raises(PlanError, match=rf"--seed-threshold {seeds} .* {says} it"):
        prepared_for(source, tmp_path / "out.zarr", seed_threshold=seeds, **options)
    prepared_for(source, tmp_path / "o", seed_threshold=seeds, seed_distance=0.5, **options)


def test_an_output_of_other_scores_is_refused_by_their_place_alone(threads, scores, tmp_path):
    for name, dtype in (("a.zarr", np.uint8), ("b.zarr", np.uint16)):
        store_scores(tmp_path / name, scores.astype(dtype))
    output = tmp_path / "out.zarr"
    find_objects(threads, tmp_path / "a.zarr", output, **WATERSHED)
    says = r"\(input_uri was \S+a.zarr, now \S+b.zarr\): choose another output"
    with pytest.raises(OutputError, match=says):
        prepared_for(tmp_path / "b.zarr", output, **WATERSHED)


MODELS = {"0.4": ome_zarr_models.v04, "0.5": ome_zarr_models.v05}


@pytest.mark.parametrize("version", MODELS)
@pytest.mark.parametrize("is_flat", [False, True])
def test_objects_are_ome_zarr_labels_whose_coarser_levels_hold_their_ids(
    version, is_flat, threads, textured, tmp_path
):
    shape = (1, 600, 40) if is_flat else (4, 300, 40)
    czyx = textured((2, *shape), seed=2)
    store_scores(tmp_path / "in.zarr", czyx[:, 0] if is_flat else czyx)
    output, block = tmp_path / "out.zarr", (1, 256, 32) if is_flat else (4, 128, 32)
    find_objects(
        threads, tmp_path / "in.zarr", output, score_class="cell", format=version, block=block
    )
    root, models = zarr.open_group(output, mode="r"), MODELS[version]
    models.Image.from_zarr(root)
    models.Labels.from_zarr(root["labels"])
    label = models.ImageLabel.from_zarr(root["labels/objects"])
    attributes = label.ome_attributes if version == "0.5" else label.attributes
    assert attributes.image_label.source.image == "../../"
    levels = [labels_in(output, number) for number in range(2)]
    assert levels[0].shape == shape[int(is_flat) :]
    assert levels[1].shape[-2] == shape[1] // 2
    assert np.isin(levels[1], levels[0]).all()
    both = (levels[0] > 0).mean(), (levels[1] > 0).mean()
    assert abs(both[0] - both[1]) < 0.2
    scale = attributes.multiscales[0].datasets[0].coordinateTransformations[0].scale
    assert tuple(scale) == ((0.5, 0.5) if is_flat else (1.0, 0.5, 0.5))
