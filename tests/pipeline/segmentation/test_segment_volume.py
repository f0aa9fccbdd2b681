"""Tiled equals whole, end to end: Zarr in, a Dask cluster, OME-Zarr out."""

import re
import uuid
from contextlib import suppress
from dataclasses import replace
from typing import Unpack, get_type_hints

import numpy as np
import pytest
import tensorstore
import zarr
from distributed.diagnostics.plugin import SchedulerPlugin

from pipeline import SegmentRequest, segment_volume
from pipeline.base.errors import OutputError, OvertileError, PlanError, RunError
from pipeline.segmentation.prepare import prepare
from pipeline.segmentation.request import SegmentSettings
from pipeline.segmentation.run import SegmentRun
from pipeline.segmentation.sequence import complete
from unet import UNetPredictor

PLAIN = ("3d", (1, 21, 33, 20), (8, 16, 16), (8, 8, 16), "map_overlap")
"""In `make test`, an anisotropic network and a block smaller than its halo stand for it."""
CASES = [
    # network, volume (c, z, y, x), block, tile, engine
    ("2d", (1, 5, 70, 83), None, None, "store"),
    ("2d", (1, 3, 70, 83), (2, 32, 48), (1, 16, 16), "store"),
    ("2d", (1, 3, 50, 61), (1, 32, 32), None, "map_overlap"),
    ("2d-rgb", (3, 2, 40, 45), (1, 16, 32), None, "store"),
    ("3d", (1, 21, 33, 40), (8, 16, 16), (8, 8, 16), "store"),
    PLAIN,
    ("3d", (1, 9, 9, 12), (4, 4, 8), None, "map_overlap"),
    ("3d", (1, 9, 17, 30), (64, 256, 256), None, "store"),
    ("3d-anisotropic", (1, 13, 50, 41), (4, 16, 32), (2, 16, 16), "store"),
    ("3d-anisotropic", (1, 9, 34, 41), (4, 16, 32), (2, 16, 16), "map_overlap"),
    ("3d", (1, 41, 33, 40), (24, 16, 32), (24, 16, 16), "sweep"),
    ("3d", (1, 29, 17, 20), None, None, "sweep"),
    ("3d-anisotropic", (1, 25, 50, 41), (16, 32, 32), None, "sweep"),
]


def predictor_of(path):
    return UNetPredictor(path, precision="fp32", device="cpu")


@pytest.fixture
def volume(tmp_path, textured):
    """Return a function that stores a test volume as plain Zarr and returns array and path."""

    def make(shape_czyx, *, chunks=None):
        raw = textured(shape_czyx)
        stored = raw if shape_czyx[0] > 1 else raw[0]
        path = tmp_path / "in.zarr"
        array = zarr.create_array(path, data=stored, chunks=chunks or "auto")
        assert array.shape == stored.shape
        return raw, str(path)

    return make


def by_tensorstore(path, *, driver="zarr3"):
    spec = {"driver": driver, "kvstore": {"driver": "file", "path": str(path)}}
    return tensorstore.open(spec, read=True).result().read().result()


def on_clusters(cases):
    """Return the cases, each on both clusters; in `make test`, the engine of Dask arrays on one."""
    for case in cases:
        yield pytest.param(*case, "one_worker", marks=[pytest.mark.slow] * (case == PLAIN))
        slow = [pytest.mark.slow] if case[-1] == "map_overlap" else []
        yield pytest.param(*case, "three_workers", marks=slow)


@pytest.mark.parametrize(
    ("network", "shape", "block", "tile", "engine", "cluster"), list(on_clusters(CASES))
)
def test_stored_scores_equal_whole_volume_scores(
    network, shape, block, tile, engine, cluster, request, weights, whole_scores, volume, tmp_path
):
    raw, path = volume(shape)
    expected = whole_scores(weights(network), raw)
    out = tmp_path / "out.zarr"
    figures = segment_volume(
        path, str(out), predictor_of(weights(network)), client=request.getfixturevalue(cluster),
        block=block, tile=tile, outputs=("classes", "scores"), scores_dtype="float32",
        **({"traversal": "sweep"} if engine == "sweep" else {"engine": engine}),
    )  # fmt: skip
    scores = by_tensorstore(out / "0")
    classes = by_tensorstore(out / "labels/classes/0")
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    top = np.sort(expected, axis=0)
    sure = top[-1] - top[-2] > 2e-5
    assert sure.mean() > 0.99
    np.testing.assert_array_equal(classes[sure], expected.argmax(axis=0)[sure])
    assert figures.voxels == np.prod(shape[1:])
    assert figures.class_voxels == tuple(np.bincount(classes.ravel(), minlength=len(scores)))


@pytest.mark.parametrize("version", ["0.5", "0.4"])
def test_both_formats_hold_the_same_voxels_and_every_block_its_own_files(
    version, weights, volume, tmp_path, one_worker
):
    _, path = volume((1, 9, 40, 40))
    out = tmp_path / "out.zarr"
    segment_volume(
        path, str(out), predictor_of(weights("3d")), client=one_worker, block=(8, 16, 16),
        outputs=("classes", "scores"), format=version,
    )  # fmt: skip
    driver = "zarr3" if version == "0.5" else "zarr"
    classes = by_tensorstore(out / "labels/classes/0", driver=driver)
    scores = by_tensorstore(out / "0", driver=driver)
    assert classes.shape == (9, 40, 40)
    sure = np.ptp(scores.astype(int), axis=0) > 1
    np.testing.assert_array_equal(classes[sure], scores.argmax(axis=0)[sure])


def test_no_two_tasks_write_one_shard(weights, volume, tmp_path, one_worker, monkeypatch):
    """A shard is a block's core: distinct blocks touch distinct files, and each exactly one."""
    _, path = volume((1, 20, 40, 40))
    out = tmp_path / "out.zarr"
    segment_volume(
        path, str(out), predictor_of(weights("3d")), client=one_worker, block=(8, 16, 16)
    )
    array = zarr.open_array(out / "labels/classes/0", mode="r")
    assert array.shards == (8, 16, 16)
    assert all(s % c == 0 for s, c in zip(array.shards, array.chunks, strict=True))
    files = [p for p in (out / "labels/classes/0/c").rglob("*") if p.is_file()]
    assert len(files) == 3 * 3 * 3


class TaskCounter(SchedulerPlugin):
    """Counts tasks that enter the scheduler."""

    name = "task-counter"

    def __init__(self):
        self.keys = set()

    def transition(self, key, start, finish, *args, **kwargs):
        self.keys.add(key)


@pytest.mark.parametrize("blocks_per_axis", [2, 5])
def test_the_store_engine_submits_one_task_per_block_plus_a_constant(
    blocks_per_axis, weights, volume, tmp_path, one_worker
):
    _, path = volume((1, 4, 16 * blocks_per_axis, 16 * blocks_per_axis))
    one_worker.register_plugin(TaskCounter())
    try:
        segment_volume(
            path, str(tmp_path / "out.zarr"), predictor_of(weights("3d")), client=one_worker,
            block=(4, 16, 16), outputs=("classes", "scores"),
            normalisation={"kind": "percentile"},
        )  # fmt: skip
        count = one_worker.run_on_scheduler(
            lambda dask_scheduler: len(dask_scheduler.plugins["task-counter"].keys)
        )
    finally:
        one_worker.unregister_scheduler_plugin("task-counter")
    assert count <= blocks_per_axis**2 + 20


def test_a_second_run_of_the_same_job_computes_nothing(weights, volume, tmp_path, one_worker):
    _, path = volume((1, 9, 20, 20))
    out = tmp_path / "out.zarr"
    first = segment_volume(path, str(out), predictor_of(weights("3d")), client=one_worker)
    written = {p: p.stat().st_mtime_ns for p in (out / "labels").rglob("*") if p.is_file()}
    second = segment_volume(path, str(out), predictor_of(weights("3d")), client=one_worker)
    assert second.blocks == first.blocks
    assert written == {p: p.stat().st_mtime_ns for p in (out / "labels").rglob("*") if p.is_file()}


def test_the_report_of_a_run_without_a_block_to_do_keeps_the_figures_of_the_earlier_run(
    weights, volume, tmp_path, one_worker
):
    _, path = volume((1, 9, 20, 20))
    pages = []
    for _ in range(2):
        segment_volume(path, str(tmp_path / "out.zarr"), predictor_of(weights("3d")),
                       client=one_worker)  # fmt: skip
        pages.append((tmp_path / "out.zarr/run/report.html").read_text())
    rows = [dict(re.findall(r"<th[^>]*>([^<]+)</th>\s*<td[^>]*>([^<]+)</td>", p)) for p in pages]
    for name in ("voxels written", "blocks done", "read, written"):
        assert rows[1][name] == rows[0][name], name
    assert rows[1]["voxels written"] == "3,600"
    assert "0.00 " not in rows[1]["speed"]


def test_another_jobs_output_is_refused_and_overwrite_is_explicit(
    weights, volume, tmp_path, one_worker
):
    _, path = volume((1, 9, 20, 20))
    out = str(tmp_path / "out.zarr")
    segment_volume(path, out, predictor_of(weights("3d")), client=one_worker)
    with pytest.raises(OutputError, match=r"another job.*outputs was.*--overwrite") as caught:
        segment_volume(
            path, out, predictor_of(weights("3d")), client=one_worker, outputs=("scores",)
        )
    assert "\n" not in str(caught.value)
    segment_volume(
        path, out, predictor_of(weights("3d")), client=one_worker, outputs=("scores",),
        overwrite=True,
    )  # fmt: skip
    assert not (tmp_path / "out.zarr/labels").exists()


def test_unspecified_block_and_tile_come_from_the_existing_job(
    weights, volume, tmp_path, one_worker
):
    _, path = volume((1, 9, 20, 20))
    out = str(tmp_path / "out.zarr")
    predictor = predictor_of(weights("3d"))
    segment_volume(path, out, predictor, client=one_worker, block=(4, 8, 8), tile=(4, 4, 4))
    segment_volume(path, out, predictor, client=one_worker)


class Fails(UNetPredictor):
    """Weights that cannot be used on tiles with a certain voxel."""

    def __call__(self, x_nczyx):
        if (x_nczyx == 1.0).any():
            raise RuntimeError("the device\nsaid no")
        return super().__call__(x_nczyx)


@pytest.mark.parametrize("engine", ["store", "map_overlap"])
def test_a_block_that_keeps_failing_is_set_aside_named_and_done_by_the_next_run(
    engine, weights, tmp_path
):
    raw = np.zeros((8, 40, 40), np.uint8)
    raw[4, 30, 30] = 255  # only the last block's outer box holds it
    zarr.create_array(tmp_path / "in.zarr", data=raw)
    out = tmp_path / "out.zarr"
    options = {"block": (8, 20, 20), "retries": 1, "engine": engine}
    path = str(tmp_path / "in.zarr")
    with pytest.raises(RunError, match=r"block 0,1,1: RuntimeError: the device said no") as caught:
        segment_volume(path, str(out), Fails(weights("3d"), precision="fp32"), **options)
    assert "start the same run again" in str(caught.value)
    assert "the device said no" in (out / "run/report.html").read_text()
    done = zarr.open_array(out / "run/done", mode="r")[...]
    assert (done == 2).sum() == 1
    assert done[0, 1, 1] == 2
    assert (done == 1).sum() == done.size - 1
    figures = segment_volume(path, str(out), predictor_of(weights("3d")), **options)
    assert figures.voxels == raw.size
    assert "the device said no" not in (out / "run/report.html").read_text()


def test_a_run_whose_blocks_all_fail_stops_early(weights, tmp_path):
    class Broken(UNetPredictor):
        def __call__(self, x_nczyx):
            raise RuntimeError("no device")

    zarr.create_array(tmp_path / "in.zarr", data=np.ones((8, 200, 200), np.uint8))
    with pytest.raises(RunError, match="blocks all failed"):
        segment_volume(
            str(tmp_path / "in.zarr"), str(tmp_path / "out.zarr"), Broken(weights("3d")),
            block=(4, 20, 20), retries=0,
        )  # fmt: skip


def test_nan_is_counted_and_does_not_spread(weights, tmp_path, one_worker):
    random = np.random.default_rng(0)
    raw = random.normal(size=(6, 30, 30)).astype(np.float32)
    clean = raw.copy()
    raw[2, 10:13, 5] = np.nan
    clean[2, 10:13, 5] = 0
    options = {"client": one_worker, "normalisation": {"kind": "none"}, "outputs": ("scores",),
               "block": (4, 16, 16)}  # fmt: skip
    results = {}
    for name, array in (("nan", raw), ("clean", clean)):
        zarr.create_array(tmp_path / f"{name}.zarr", data=array)
        out = tmp_path / f"{name}-out.zarr"
        figures = segment_volume(
            str(tmp_path / f"{name}.zarr"), str(out), predictor_of(weights("3d")), **options
        )
        results[name] = (figures.bad_voxels, zarr.open_array(out / "0", mode="r")[...])
    assert results["nan"][0] == 3
    assert results["clean"][0] == 0
    np.testing.assert_array_equal(results["nan"][1], results["clean"][1])


@pytest.mark.parametrize("kind", ["percentile", "zscore"])
def test_a_measured_normalisation_is_one_for_the_volume_and_is_recorded(
    kind, weights, volume, tmp_path, one_worker
):
    raw, path = volume((1, 9, 40, 40), chunks=(4, 16, 16))
    out = tmp_path / "out.zarr"
    segment_volume(
        path, str(out), predictor_of(weights("3d")), client=one_worker,
        normalisation={"kind": kind}, block=(4, 16, 16),
    )  # fmt: skip
    measured = zarr.open_group(out / "run", mode="r").attrs["intensity"]
    if kind == "zscore":
        expected = raw.mean(), 1 / raw.std()
    else:
        low, high = np.percentile(raw, [1, 99.8], method="inverted_cdf")
        expected = low, 1 / (high - low)
    np.testing.assert_allclose([measured["offset"][0], measured["scale"][0]], expected)


def test_memory_volumes_need_workers_in_the_same_process(weights, textured, one_worker):
    zarr.create_array("memory://there.zarr", data=textured((1, 8, 20, 20))[0], overwrite=True)
    predictor = predictor_of(weights("3d"))
    with pytest.raises(OvertileError, match="one process"):
        segment_volume("memory://there.zarr", "memory://o1.zarr", predictor, client=one_worker)
    figures = segment_volume("memory://there.zarr", "memory://o2.zarr", predictor)
    assert figures.voxels == 8 * 20 * 20


@pytest.mark.parametrize("name", ["instance", "group"])
def test_networks_with_tile_statistics_are_refused_unless_seams_are_allowed(name, volume, tmp_path):
    import torch

    from unet import UNet, UNetConfig, save_weights

    torch.manual_seed(0)
    file = tmp_path / "w.safetensors"
    save_weights(UNet(UNetConfig(dims=3, base_channels=4, levels=2, norm=name)), file)
    _, path = volume((1, 6, 20, 20))
    with pytest.raises(OvertileError, match="--allow-seams"):
        segment_volume(path, str(tmp_path / "out.zarr"), predictor_of(file))
    assert not (tmp_path / "out.zarr").exists()
    segment_volume(path, str(tmp_path / "out.zarr"), predictor_of(file), allow_seams=True)


class Slow(UNetPredictor):
    """Weights that call a function of the test before each tile; for one process only."""

    def __call__(self, x_nczyx):
        before_tile()
        return super().__call__(x_nczyx)


def before_tile():
    """Replaced by a test."""


def test_a_run_whose_output_vanishes_fails(weights, volume, tmp_path, monkeypatch):
    _, path = volume((1, 8, 40, 40))
    out = tmp_path / "out.zarr"

    def vanish():
        if list(out.glob("labels/classes/0/c/0/0/*")):
            with suppress(FileNotFoundError):  # another thread was first
                out.rename(tmp_path / f"gone-{uuid.uuid4()}")  # at once, whatever others write

    monkeypatch.setitem(Slow.__call__.__globals__, "before_tile", vanish)
    with pytest.raises(RunError, match="was moved or deleted"):
        segment_volume(path, str(out), Slow(weights("3d")), block=(8, 8, 8))
    assert not (out / "run/report.html").exists(), "a report alone is no output"


def test_a_run_whose_output_another_run_takes_over_ends_and_writes_no_more(
    weights, volume, tmp_path, one_worker
):
    _, path = volume((1, 8, 40, 40))
    out = str(tmp_path / "out.zarr")
    request = SegmentRequest(input=path, output=out, block=(8, 8, 8))
    predictor = predictor_of(weights("3d"))
    first = SegmentRun.open(request, predictor, one_worker)
    second = SegmentRun.open(replace(request, overwrite=True), predictor, one_worker)
    with pytest.raises(RunError, match="taken over"):
        complete(first)
    assert not (tmp_path / "out.zarr/run/report.html").exists()
    assert not [p for p in (tmp_path / "out.zarr/labels/classes/0/c").rglob("*") if p.is_file()]
    assert complete(second).figures.voxels == 8 * 40 * 40
    page = (tmp_path / "out.zarr/run/report.html").read_text()
    assert "25 of 25 blocks done" in page
    assert "out.zarr/run/report.html" in page


def test_an_input_whose_contents_changed_is_another_job(weights, volume, tmp_path, one_worker):
    raw, path = volume((1, 8, 40, 40))
    out = str(tmp_path / "out.zarr")
    segment_volume(path, out, predictor_of(weights("3d")), client=one_worker)
    zarr.open_array(path, mode="r+")[...] = 255 - raw[0]
    with pytest.raises(OutputError, match="input_sample"):
        segment_volume(path, out, predictor_of(weights("3d")), client=one_worker)


@pytest.mark.parametrize(("factor", "noted"), [(1, False), (200, True), (0.001, True)])
def test_grey_values_outside_the_weights_range_are_reported(
    factor, noted, weights, textured, tmp_path
):
    dtype = "float32" if factor < 1 else "uint16"
    raw = (textured((1, 8, 40, 40))[0] * float(factor)).astype(dtype)
    zarr.create_array(tmp_path / "in.zarr", data=raw)
    request = SegmentRequest(input=str(tmp_path / "in.zarr"), output=str(tmp_path / "out.zarr"))
    notes = prepare(request, predictor_of(weights("3d"))).notes
    assert any("--normalisation" in note for note in notes) == noted


def test_figures_of_a_resumed_job_count_every_block_once(weights, volume, tmp_path):
    _, path = volume((1, 8, 40, 40))
    out = str(tmp_path / "out.zarr")
    first = segment_volume(path, out, predictor_of(weights("3d")), block=(8, 8, 8))
    again = segment_volume(path, out, predictor_of(weights("3d")), block=(8, 8, 8))
    assert (again.blocks, again.voxels) == (first.blocks, first.voxels) == (25, 12800)
    assert again.class_voxels == first.class_voxels


def test_a_run_whose_chosen_block_is_longer_than_the_volume_resumes(weights, volume, tmp_path):
    _, path = volume((1, 103, 13, 58))
    out, predictor = tmp_path / "out.zarr", predictor_of(weights("3d"))
    request = SegmentRequest(input=path, output=out, tile=(8, 8, 10))
    chosen = prepare(request, predictor).plan.core
    assert chosen[1] >= 13 + predictor.divisor[1]
    segment_volume(path, str(out), predictor, tile=(8, 8, 10))
    assert prepare(request, predictor).plan.core == chosen


def test_keyword_arguments_of_segment_volume_are_the_optional_fields_of_the_request():
    settings, fields = get_type_hints(SegmentSettings), get_type_hints(SegmentRequest)
    assert settings == {n: kind for n, kind in fields.items() if n not in ("input", "output")}
    assert get_type_hints(segment_volume)["settings"] == Unpack[SegmentSettings]


def deep_volume(volume):
    return volume((1, 96, 40, 40), chunks=(16, 16, 16))


def test_a_deep_volume_is_swept_and_its_plan_states_why(weights, volume, monkeypatch):
    _, path = deep_volume(volume)
    monkeypatch.setattr("pipeline.planning.tile_choice.SMALL_FLOPS", 0)
    monkeypatch.setattr("pipeline.planning.tile_choice.WORKERS", (1,))
    request = SegmentRequest(input=path, output="out.zarr", tile_memory_bytes=3 * 2**20)
    prepared = prepare(request, predictor_of(weights("3d")))
    assert prepared.plan.traversal == "sweep"
    assert "per voxel in sweeps of" in prepared.plan_reason
    assert "per voxel in tiles of" in prepared.plan_reason
    tile = replace(request, tile=(8, 8, 8))
    assert prepare(tile, predictor_of(weights("3d"))).plan.traversal == "tiles"


def test_an_unfinished_sweep_is_resumed_as_a_sweep_to_the_same_bytes(
    weights, volume, tmp_path, one_worker, three_workers
):
    _, path = deep_volume(volume)
    predictor, once = predictor_of(weights("3d")), tmp_path / "once.zarr"
    sizes = {"block": (32, 16, 16), "traversal": "sweep", "outputs": ("scores",)}
    segment_volume(path, str(once), predictor, client=three_workers, **sizes)
    out = tmp_path / "out.zarr"
    request = SegmentRequest(input=path, output=out, **sizes)
    run = SegmentRun.open(request, predictor, one_worker)
    run.segment_region(run.regions[0])
    open_request = SegmentRequest(input=path, output=out, outputs=("scores",))
    prepared = prepare(open_request, predictor)
    assert (prepared.plan.traversal, prepared.plan.core) == ("sweep", (32, 16, 16))
    assert prepared.job(predictor).parts["traversal"] == "sweep"
    segment_volume(path, str(out), predictor, client=one_worker, outputs=("scores",))
    np.testing.assert_array_equal(by_tensorstore(out / "0"), by_tensorstore(once / "0"))
    with pytest.raises(OutputError, match="traversal was sweep"):
        prepare(replace(open_request, tile=prepared.plan.tile), predictor)


@pytest.mark.parametrize("network", ["2d", "another"])
def test_a_sweep_of_a_network_that_cannot_be_swept_is_refused(weights, volume, network):
    _, path = volume((1, 20, 40, 40))
    predictor = predictor_of(weights("2d" if network == "2d" else "3d"))
    if network == "another":
        predictor = AnotherPredictor(predictor)
    request = SegmentRequest(input=path, output="out.zarr", traversal="sweep")
    with pytest.raises(PlanError, match="cannot be swept"):
        prepare(request, predictor)
    assert prepare(replace(request, traversal="auto"), predictor).plan.traversal == "tiles"


class AnotherPredictor:
    """A user's own predictor: all that the protocol asks for, and no sweep."""

    def __init__(self, predictor):
        self._predictor = predictor

    def __getattr__(self, name):
        if name.startswith(("sweep", "__")):
            raise AttributeError(name)
        return getattr(self._predictor, name)

    def __call__(self, x_nczyx):
        return self._predictor(x_nczyx)


def test_a_sweep_with_the_engine_map_overlap_is_refused():
    with pytest.raises(PlanError, match="--traversal sweep with --engine map_overlap"):
        SegmentRequest(input="a", output="b", traversal="sweep", engine="map_overlap")
