"""`overtile plan` shows the cost of a run, quickly, without running it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict, replace

import pytest
import zarr

from pipeline.base.location import Location
from pipeline.base.text import flops_text, shape_text, size_text
from pipeline.segmentation.prepare import prepare
from pipeline.segmentation.request import SegmentRequest
from unet import UNetPredictor

MEASURED = """
import json, resource, subprocess, sys
ended = subprocess.run(sys.argv[1:], capture_output=True, text=True)
peak_kib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps([ended.returncode, ended.stdout, ended.stderr, peak_kib / 1024]))
"""


def plan(*argv):
    """Run `overtile plan` as its own process: what it printed, its peak memory in MiB, seconds."""
    command = [sys.executable, "-m", "flows.cli", "plan", *map(str, argv)]
    start = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", MEASURED, *command], capture_output=True, text=True, check=True
    )
    seconds = time.monotonic() - start
    code, out, err, peak_mib = json.loads(ended.stdout)
    assert code == 0, err
    return out, peak_mib, seconds


@pytest.fixture
def lazy_volume(tmp_path):
    """Return a function from a size to a cube of it that holds no chunk."""

    def make(size):
        path = tmp_path / f"{size}.zarr"
        zarr.create_array(path, shape=(size,) * 3, chunks=(128,) * 3, dtype="u1")
        return path

    return make


@pytest.mark.parametrize("version", ["0.5", "0.4"])
def test_text_and_json_state_the_budget_that_a_run_would_have(version, weights, lazy_volume, shell):
    path, file = lazy_volume(500), weights("3d-anisotropic")
    options = {"block": (64, 128, 128), "outputs": ("classes", "scores"), "format": version}
    output = f"{path}-out"
    request = SegmentRequest(input=str(path), output=output, **options)
    prepared = prepare(request, UNetPredictor(file))
    argv = ["plan", str(path), output, "--weights", file, "--block", "64,128,128",
            "--outputs", "classes,scores", "--format", version]  # fmt: skip
    told = json.loads(shell(*argv, "--json")[1])
    budget = asdict(prepared.budget)
    assert {name: told[name] for name in budget} == budget
    assert told["block"] == [64, 128, 128]
    assert told["grid"] == list(prepared.plan.grid)
    assert told["output"] == output
    assert told["output_action"] == "created"
    assert [image["name"] for image in told["images"]] == ["classes", "scores"]
    _, text, _ = shell(*argv)
    rows = [line.split("  ", 1)[-1].strip() for line in text.splitlines()]
    for words in (
        f"{budget['blocks']:,} of 64×128×128 voxels",
        f"{budget['tiles']:,} of {shape_text(prepared.plan.tile)} voxels",
        f"{budget['regions']:,}",
        size_text(budget["bytes_read"]),
        f"{size_text(budget['bytes_written'])} before compression",
        f"{budget['read_amplification']:.2f} from the store",
        f"{budget['tile_amplification']:.2f} into the network",
        f"{budget['files']:,} at full resolution",
        size_text(budget["worker_memory_bytes"]),
        shape_text(prepared.plan.grid),
    ):
        assert words in rows
    assert flops_text(budget["flops"]) in text
    assert not (path.parent / "500.zarr-out").exists()


def test_augmentation_shows_in_the_plan_with_what_it_costs(weights, lazy_volume, shell):
    argv = ["plan", str(lazy_volume(300)), "out.zarr", "--weights", weights("3d"),
            "--block", "64,128,128", "--tile", "64,64,128"]  # fmt: skip
    plain = json.loads(shell(*argv, "--json")[1])
    assert "tta" not in plain["weights"]
    for tta, passes in (("rotations", 4), ("full", 16)):
        told = json.loads(shell(*argv, "--tta", tta, "--json")[1])
        assert told["weights"]["tta"] == tta
        assert told["flops"] == passes * plain["flops"]
        assert told["tile_memory_bytes"] > plain["tile_memory_bytes"]
        assert told["bytes_read"] == plain["bytes_read"]
    assert "\ntta                   rotations\n" in shell(*argv, "--tta", "rotations")[1]


def test_the_password_of_an_address_is_not_printed(weights, lazy_volume):
    from flows.text.plan import plan_json, plan_text

    path = lazy_volume(300)
    plain = prepare(SegmentRequest(input=str(path), output=f"{path}-out"),
                    UNetPredictor(weights("3d")))  # fmt: skip
    source, output = (
        Location(f"https://me:secret@host/{n}.zarr?sig=secret") for n in ("in", "out")
    )
    prepared = replace(
        plain,
        source=replace(plain.source, store=source),
        request=replace(plain.request, input=source, output=output),
    )
    told = plan_text(prepared) + json.dumps(plan_json(prepared))
    assert "host/out.zarr" in told
    assert "secret" not in told


def test_an_empty_list_of_filters_of_zarr_2_prints_no_warning(weights, tmp_path):
    zarr.create_array(tmp_path / "in.zarr", shape=(20,) * 3, dtype="u1", zarr_format=2)
    document = tmp_path / "in.zarr/.zarray"
    document.write_text(json.dumps({**json.loads(document.read_text()), "filters": []}))
    argv = ["plan", tmp_path / "in.zarr", tmp_path / "out.zarr", "--weights", weights("3d")]
    ended = subprocess.run(
        [sys.executable, "-m", "flows.cli", *argv], capture_output=True, text=True, check=True
    )
    assert "arning" not in ended.stderr, ended.stderr


def test_planning_needs_no_torch_no_cluster_and_no_prefect(weights, lazy_volume):
    argv = ["plan", str(lazy_volume(300)), "out.zarr", "--weights", weights("3d")]
    code = (
        "import sys; from flows.cli.main import main; main(sys.argv[1:]); "
        "print(sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, *argv], capture_output=True, text=True, check=True
    )
    assert ended.stdout.startswith("volume")
    heavy = {"torch", "distributed", "dask", "prefect", "safetensors", "scipy", "bokeh"}
    assert heavy & set(json.loads(ended.stderr.replace("'", '"'))) == set()


@pytest.mark.parametrize(
    ("size", "options", "blocks"),
    [pytest.param(2048, [], None, marks=pytest.mark.slow), (3200, ["--block", "32,32,32"], 10**6)],
    ids=["8 GiB", "a million blocks"],
)
def test_planning_takes_little_memory_whatever_the_volume(
    size, options, blocks, weights, lazy_volume
):
    out, peak_mib, seconds = plan(
        lazy_volume(size), "out.zarr", "--weights", weights("3d"), "--json", *options
    )
    print(f"{size}³: {seconds:.2f} s, {peak_mib:.0f} MiB")
    assert json.loads(out)["voxels"] == size**3
    assert blocks in (None, json.loads(out)["blocks"])
    assert peak_mib < 150
