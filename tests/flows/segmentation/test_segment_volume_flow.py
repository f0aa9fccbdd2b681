"""The flow `segment-volume` on a real Prefect server: same voxels, honest states."""

import base64
import io
import json
import re
import time
from pathlib import Path

import numpy as np
import pytest
import zarr
from PIL import Image
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools.validation import is_valid as is_valid_parameters

from flows.options.cluster import ClusterOptions
from flows.options.objects import ObjectDefinition
from flows.options.segment import SegmentOptions
from flows.prefect.form import cluster_of, objects_of, options_of
from flows.prefect.progress import progress_in_prefect
from flows.prefect.run_names import named_after, run_name
from flows.prefect.without_credentials import PATTERN
from flows.segment_volume import segment_volume
from flows.text import terminal
from pipeline import segment_volume as segment_volume_by_python
from pipeline import with_tta
from pipeline.base.location import Location
from pipeline.ledger.figures import Figures
from pipeline.ledger.progress import Progress, read_progress
from pipeline.segmentation.prepare import prepare
from pipeline.segmentation.request import SegmentRequest
from unet import UNetPredictor
from unet.weights.location import bundled_names

BLOCK = (8, 16, 16)


@pytest.fixture(scope="module")
def cluster(one_worker):
    """The workers of the session: what is said here holds for any cluster."""
    return ClusterOptions(cluster=one_worker.scheduler.address)


def complete_logs(client, flow_run_id):
    """Return the messages of a flow run; Prefect sends them in batches, the last after its end."""
    of_run = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run_id]))
    deadline = time.monotonic() + 20
    while True:
        messages = [log.message for log in client.read_logs(of_run)]
        if any(one.startswith("Finished in state") for one in messages):
            return messages
        if time.monotonic() > deadline:
            return messages
        time.sleep(0.2)


class Seen:
    """What Prefect's server knows of one flow run."""

    def __init__(self, state):
        self.state = state
        flow_run_id = state.state_details.flow_run_id
        of_run = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
        with get_client(sync_client=True) as client:
            self.name = client.read_flow_run(flow_run_id).name
            self.task_runs = client.read_task_runs(flow_run_filter=of_run)
            self.artifacts = {
                artifact.key: artifact
                for artifact in client.read_artifacts(
                    artifact_filter=ArtifactFilter(
                        flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id])
                    )
                )
            }
            self.logs = complete_logs(client, flow_run_id)

    def regions(self):
        return [run for run in self.task_runs if run.task_key.startswith("segment_region-")]


def run_flow(**parameters):
    return Seen(segment_volume(**parameters, return_state=True))


@pytest.fixture(scope="module")
def stored(tmp_path_factory, textured):
    raw = textured((1, 21, 33, 70))[0]
    path = tmp_path_factory.mktemp("volume") / "in.zarr"
    zarr.create_array(path, data=raw, chunks=(8, 16, 16))
    return raw, str(path)


@pytest.fixture(scope="module")
def completed(server, cluster, stored, weights, tmp_path_factory):
    """One run that went well, with objects: (what the server knows, output, parameters)."""
    output = tmp_path_factory.mktemp("flow") / "out.zarr"
    parameters = {
        "input": stored[1],
        "output": str(output),
        "weights": weights("3d"),
        "options": SegmentOptions(block=BLOCK, outputs=["classes", "scores"], precision="fp32"),
    }
    objects = ObjectDefinition(score_class=1, min_voxels=2)
    return run_flow(**parameters, objects=objects, cluster=cluster), output, parameters


def files_under(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in Path(folder).rglob("*")
        if path.is_file()
    }


def test_the_flow_writes_what_python_writes_to_the_byte(completed, one_worker, tmp_path):
    seen, output, parameters = completed
    assert seen.state.is_completed()
    assert seen.state.result() == str(output)
    segment_volume_by_python(
        parameters["input"], str(tmp_path / "out.zarr"),
        UNetPredictor(parameters["weights"], precision="fp32"), client=one_worker,
        block=BLOCK, outputs=("classes", "scores"),
    )  # fmt: skip
    for part in ("labels/classes", "0"):
        written = files_under(output / part)
        assert len(written) > 45
        assert written == files_under(tmp_path / "out.zarr" / part)


def test_the_log_names_the_voxel_size_once(completed):
    lines = [line for line in completed[0].logs if "voxel size" in line]
    assert lines == [
        "voxel size: unknown (the file states 1 × 1 × 1 without a unit); --voxel-size Z,Y,X states "
        "it in µm"
    ]


def test_the_flow_does_one_share_on_request(server, cluster, stored, weights, completed, tmp_path):
    output = tmp_path / "out.zarr"
    seen = run_flow(
        input=stored[1], output=str(output), weights=weights("3d"),
        options=SegmentOptions(block=BLOCK, precision="fp32", shard="2/2"), cluster=cluster,
    )  # fmt: skip
    assert seen.state.is_completed()
    first, second = read_progress(Location.parse(output))
    assert (first.done, second.left) == (0, 0)
    assert first.blocks + second.blocks == 45
    assert len(seen.regions()) < len(completed[0].regions())
    assert {run.name for run in seen.regions()} < {run.name for run in completed[0].regions()}


@pytest.mark.slow
def test_the_flow_averages_over_orientations_as_python_does(
    server, cluster, stored, weights, one_worker, tmp_path
):
    options = SegmentOptions(block=BLOCK, precision="fp32", tta="rotations")
    seen = run_flow(
        input=stored[1], output=str(tmp_path / "flow.zarr"), weights=weights("3d"),
        options=options, cluster=cluster,
    )  # fmt: skip
    assert seen.state.is_completed()
    predictor = with_tta(UNetPredictor(weights("3d"), precision="fp32"), "rotations")
    segment_volume_by_python(
        stored[1], str(tmp_path / "python.zarr"), predictor, client=one_worker, block=BLOCK
    )
    written = files_under(tmp_path / "flow.zarr/labels")
    assert written == files_under(tmp_path / "python.zarr/labels")
    run = zarr.open_group(tmp_path / "flow.zarr/run", mode="r").attrs
    assert run["job"]["tta"] == run["provenance"]["weights"]["tta"] == "rotations"


def test_every_region_is_exactly_one_task_run(completed):
    seen, output, parameters = completed
    options = parameters["options"].request(input=parameters["input"], output=str(output))
    regions = prepare(options, UNetPredictor(parameters["weights"], precision="fp32")).regions
    assert len(regions) > 3
    count = len(regions)
    assert sorted(run.name for run in seen.regions()) == sorted(
        f"region {region.number + 1} of {count}, {len(region)} block{'s' * (len(region) > 1)}"
        for region in regions
    )
    assert all(run.state.is_completed() for run in seen.task_runs)


def test_runs_are_named_for_what_they_do(completed):
    assert completed[0].name == "segment out.zarr"
    names = {run.name for run in completed[0].task_runs}
    assert {"build pyramid", "find objects", "objects: label"} < names


def test_a_name_that_a_person_gave_is_kept(server):
    from prefect.runtime import flow_run

    named = named_after("segment-volume")
    made_by_prefect = ("whimsical-guan", "gamma457-gault-quadrant", "Ergonomic-Brug", "mu4-gagarin")
    for given, kept in (
        *((name, name) for name in ("Mouse 3", "mouse3-left-eye", "segment b.zarr")),
        *((name, name) for name in ("mouse-brain", "test-run", "Human-Cortex")),
        *((name, "segment out.zarr") for name in made_by_prefect),
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PREFECT__RUNTIME__FLOW_RUN__NAME", given)
            patch.setattr(flow_run, "parameters", {"output": "s3://a:b@c/out.zarr"}, raising=False)
            assert named() == kept


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("s3://me:a/b@bucket/x", "segment"),
        ("https://host/x.zarr?token=secret", "segment"),
        ("{0.__class__}%s/{output}.zarr", "segment {output}.zarr"),
        ("a\n\x1b[31mb.zarr", "segment a[31mb.zarr"),
        ("x" * 200, f"segment {'x' * 30}…{'x' * 29}"),
        (None, "segment None"),
    ],
)
def test_hostile_paths_give_harmless_names(path, name):
    assert run_name("segment", path) == name


def test_the_progress_artifact_ends_at_100(completed):
    artifact = completed[0].artifacts["segment-progress"]
    assert artifact.type == "progress"
    assert artifact.data == 100
    assert artifact.description.endswith("done")


def test_the_log_states_each_step_and_then_the_blocks(completed):
    steps = [
        "reading the metadata of the input, and planning", "connecting to the cluster",
        "checking the workers", "Dask dashboard", "loading the network", "finding objects",
    ]  # fmt: skip
    found = [step for line in completed[0].logs for step in steps if line.startswith(step)]
    assert found == steps


class Slow:
    """A run as Prefect shows it, with one of ten blocks done."""

    resumed_blocks, blocks = 0, 10

    def progress(self):
        figures = Figures(blocks=1, voxels=10**6, seconds=2.0)
        return Progress(blocks=10, done=1, figures=figures, workers=1)


def test_log_and_artifact_show_the_same_line_as_the_shell(server, monkeypatch):
    monkeypatch.setattr(terminal, "PLAIN_SHORTEST_S", 0.05)
    logged = []

    @flow
    def stopped():
        with progress_in_prefect(logged.append, key="some-progress", doing="reading") as progress:
            progress.say("waiting for a job")
            progress.doing("a job")
            with progress.watch(Slow()):
                while len(logged) < 3:
                    time.sleep(0.02)
            raise OSError("disk full")

    seen = Seen(stopped(return_state=True))
    assert logged[:2] == ["reading", "waiting for a job"]
    line = r"1/10 blocks, 0\.50 blocks/s, 0\.50 Mvoxel/s, 1\d s left"
    assert re.fullmatch(line, logged[2])
    artifact = seen.artifacts["some-progress"]
    assert artifact.data == 10
    assert re.fullmatch(line + ", stopped", artifact.description)


def test_the_dashboard_is_a_link_artifact_and_is_logged(completed, one_worker):
    seen = completed[0]
    link = one_worker.dashboard_link
    assert link.startswith("http")
    assert f"({link})" in seen.artifacts["dask-dashboard"].data
    assert [message for message in seen.logs if message == f"Dask dashboard: {link}"]


def pictures_in(markdown):
    found = re.findall(r"!\[[^]]*\]\(data:image/png;base64,([A-Za-z0-9+/=]+)\)", markdown)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(png)))) for png in found]


def test_the_report_artifact_holds_figures_and_raw_scores_and_overlay(completed, stored):
    artifact = completed[0].artifacts["segment-report"]
    assert artifact.type == "markdown"
    assert "| blocks done | 45 of 45 |" in artifact.data
    assert "| computing |" in artifact.data
    (sheet,) = pictures_in(artifact.data)
    middle = stored[0][10]
    zoom = round(420 / max(middle.shape))
    assert sheet.shape[1] > 3 * middle.shape[1] * zoom, "three pictures side by side"
    columns = np.array_split(sheet[: middle.shape[0] * zoom], 3, axis=1)
    coloured = [(np.ptp(c.astype(int), axis=2) > 40).mean() > 0.05 for c in columns]
    assert coloured == [False, True, True], "raw is grey, scores and overlay have colours"


def test_the_report_is_written_beside_the_ledger_too(completed):
    page = (completed[1] / "run/report.html").read_text()
    assert "45 of 45" in page
    (link,) = re.findall(r'<a href="([^"]+)"', page)
    assert "What objects are" in (completed[1] / "run" / link).read_text()


def test_objects_are_found_in_one_task_run(completed):
    seen, output, _ = completed
    (found,) = [run for run in seen.task_runs if run.task_key.startswith("find_objects-")]
    assert found.state.is_completed()
    labels = zarr.open_array(output / "labels/objects/0", mode="r")[...]
    assert labels.any()


def test_every_stage_of_finding_objects_is_one_task_run_within_theirs(completed):
    seen = completed[0]
    (found,) = [run for run in seen.task_runs if run.task_key.startswith("find_objects-")]
    stages = [run for run in seen.task_runs if run.task_key.startswith("objects_stage-")]
    stages.sort(key=lambda run: run.start_time)
    assert [run.name for run in stages] == [
        f"objects: {name}" for name in ("label", "merge", "number", "write", "table", "pyramid")
    ]
    assert all(run.state.is_completed() for run in stages)
    assert found.start_time <= stages[0].start_time
    assert stages[-1].end_time <= found.end_time


def test_objects_have_a_progress_artifact_of_their_own(completed):
    of_blocks, of_objects = (
        completed[0].artifacts[key] for key in ("segment-progress", "objects-progress")
    )
    assert of_objects.type == "progress"
    assert of_objects.data == of_blocks.data == 100
    assert of_objects.description == "1/1 block, done"
    assert of_objects.task_run_id != of_blocks.task_run_id


def test_objects_are_an_optional_group_of_the_form(schema):
    field = schema["properties"]["objects"]
    assert field["title"] == "objects"
    assert "labels/objects" in field["description"]
    assert field["default"] is None
    nothing, listed, group = field["anyOf"]
    assert nothing == {"title": "No", "type": "null"}
    assert listed["enum"] == ["components", "watershed"]
    inside = schema["definitions"][group["$ref"].rsplit("/", 1)[-1]]
    for name, one in inside["properties"].items():
        assert one.get("title"), name
        assert len(one.get("description", "")) > 5, name


BAD = {
    "no input": ({"input": "nothing.zarr"}, r"nothing\.zarr does not exist"),
    "output is input": ({"output": "in.zarr"}, r"in\.zarr"),
    "no weights": ({"weights": "nothing.safetensors"}, r"nothing\.safetensors"),
    "no such channel": ({"options": {"channel": 3}}, "channel"),
    "block off the divisor": ({"options": {"block": [7, 16, 16]}}, "block"),
    "no cluster": ({"cluster": {"cluster": "nowhere"}}, "nowhere"),
}


@pytest.mark.parametrize(("wrong", "message"), BAD.values(), ids=BAD.keys())
def test_bad_input_fails_with_one_line_and_writes_nothing(
    wrong, message, server, cluster, stored, weights, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)  # relative paths start at the folder in which the flow runs
    Path("in.zarr").symlink_to(stored[1])
    parameters = {"input": "in.zarr", "output": "out.zarr", "weights": weights("3d")}
    seen = run_flow(**{**parameters, "cluster": cluster, **wrong})
    assert seen.state.is_failed()
    assert re.search(message, seen.state.message), seen.state.message
    assert "\n" not in seen.state.message
    assert seen.task_runs == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.zarr"]


@pytest.fixture
def damaged(tmp_path, textured):
    """Return a function: a stored volume of six slices, of which one or all cannot be decoded."""

    def make(which):
        path = tmp_path / "in.zarr"
        zarr.create_array(path, data=textured((1, 6, 40, 50))[0], chunks=(1, 40, 50))
        good = {}
        for chunk in path.glob(f"c/{which}/0/0"):
            good[chunk] = chunk.read_bytes()
            chunk.write_bytes(b"no zstd frame")

        def repair():
            for chunk, stored in good.items():
                chunk.write_bytes(stored)

        return str(path), repair

    return make


@pytest.mark.parametrize(
    "slice_z",
    [pytest.param(5, marks=pytest.mark.slow), 2],
    ids=["the last slice", "the slice of the picture"],
)
def test_a_failing_block_fails_the_run_at_its_end_with_the_rest_done(
    slice_z, server, cluster, damaged, weights, tmp_path
):
    path, repair = damaged(slice_z)
    output = tmp_path / "out.zarr"
    parameters = {
        "input": path, "output": str(output), "weights": weights("2d"), "cluster": cluster,
        "options": {"block": [1, 20, 52], "retries": 1},
    }  # fmt: skip
    seen = run_flow(**parameters)
    assert seen.state.is_failed()
    assert "2 of 12 blocks failed and were set aside" in seen.state.message
    assert f"block {slice_z},0,0: " in seen.state.message
    assert "\n" not in seen.state.message
    assert all(run.state.is_completed() for run in seen.regions())
    done = zarr.open_array(output / "run/done", mode="r")[...]
    assert (done == 1).sum() == 10
    assert (done[slice_z] == 2).all()
    report = seen.artifacts["segment-report"].data
    assert f"block {slice_z},0,0: " in report
    assert "| blocks done | 10 of 12 |" in report
    assert len(pictures_in(report)) == (slice_z != 2)
    assert seen.artifacts["segment-progress"].data == pytest.approx(1000 / 12)
    repair()
    again = run_flow(**parameters)
    assert again.state.is_completed()
    assert "| of these by an earlier run | 10 |" in again.artifacts["segment-report"].data


def test_a_run_whose_blocks_all_fail_ends_early_with_the_reason(
    server, cluster, damaged, weights, tmp_path
):
    path, _ = damaged("*")
    seen = run_flow(
        input=path, output=str(tmp_path / "out.zarr"), weights=weights("2d"), cluster=cluster,
        options={"block": [1, 4, 48], "retries": 0},
    )  # fmt: skip
    assert seen.state.is_failed()
    assert re.search(r"the first \d+ blocks all failed, the last one with: ", seen.state.message)
    assert len(seen.regions()) < 10, "regions that had not begun are not begun"
    assert "segment-report" in seen.artifacts


def fields_of(schema):
    """Yield (name, field) of every field of the form, nested ones too."""
    definitions = schema["definitions"]
    for name, field in schema["properties"].items():
        yield name, field
        for group in (kind for kind in field.get("anyOf", []) if "$ref" in kind):
            nested = definitions[group["$ref"].rsplit("/", 1)[-1]]
            for inner, inner_field in nested["properties"].items():
                yield f"{name}.{inner}", inner_field


@pytest.fixture(scope="module")
def schema():
    return json.loads(json.dumps(parameter_schema(segment_volume).model_dump_for_openapi()))


def test_every_field_of_the_form_has_a_title_a_description_and_a_default(schema):
    fields = dict(fields_of(schema))
    assert {*SegmentRequest.__dataclass_fields__} - {
        "input",
        "output",
        "tile_memory_bytes",
        "for_objects",
    } <= {name.removeprefix("options.") for name in fields}, (
        "whatever the pipeline can be asked for can be asked for here"
    )
    for name, field in fields.items():
        assert field.get("title"), name
        assert len(field.get("description", "")) > 5, name
        assert ("default" in field) == (name not in ("input", "output", "weights")), name
    assert schema["required"] == ["input", "output", "weights"]


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("scores_dtype", ["uint8", "float16", "float32"]),
        ("precision", ["auto", "bf16", "fp32"]),
        ("engine", ["store", "map_overlap"]),
        ("format", ["0.5", "0.4"]),
    ],
)
def test_choices_are_listed_in_the_form_the_default_first(schema, name, choices):
    field = dict(fields_of(schema))[f"options.{name}"]
    assert field["enum"] == choices
    assert field["default"] == choices[0]


def test_what_matters_comes_first_and_all_else_is_folded_behind_a_tab(schema):
    fields = schema["properties"]
    assert list(fields) == ["input", "output", "weights", "objects", "cluster", "options"]
    assert [fields[name]["position"] for name in fields] == list(range(6))
    for name in ("objects", "cluster", "options"):
        shown, *_ = fields[name]["anyOf"]
        assert "$ref" not in shown, name
        assert fields[name]["default"] in shown.get("enum", [None]), name
        (folded,) = [kind for kind in fields[name]["anyOf"] if "$ref" in kind]
        assert schema["definitions"][folded["$ref"].rsplit("/", 1)[-1]]["title"] == "Advanced"


def test_weights_and_clusters_are_chosen_from_lists(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "overtile").mkdir()
    for name in ("night", "slurm", "not a name"):
        (tmp_path / f"overtile/{name}.toml").write_text('kind = "slurm"\n')
    fields = parameter_schema(segment_volume).model_dump_for_openapi()["properties"]
    bundled, own = fields["weights"]["anyOf"]
    assert bundled["enum"] == bundled_names()
    assert own == {"title": "File or URI", "type": "string", "pattern": PATTERN}
    assert fields["cluster"]["anyOf"][0]["enum"] == ["local", "cuda", "slurm", "night"]


@pytest.mark.parametrize(
    ("parameters", "is_valid"),
    [
        ({}, True),
        ({"cluster": "slurm", "objects": "watershed", "weights": "/data/w.safetensors"}, True),
        ({"cluster": {"cluster": "slurm", "maximum_jobs": 8}, "objects": None}, True),
        ({"objects": {"method": "watershed", "depth": 0.2}}, True),
        ({"options": {"outputs": ["classes", "scores"], "block": [8, 16, 16]}}, True),
        ({"options": {"blok": [8, 16, 16]}}, False),
        ({"cluster": "nowhere"}, False),
    ],
    ids=str,
)
def test_parameters_of_scripts_are_valid_as_before(schema, parameters, is_valid):
    given = {"input": "in.zarr", "output": "out.zarr", "weights": "demo", **parameters}
    assert is_valid_parameters(given, schema) == is_valid


def test_choices_of_the_form_mean_the_settings_behind_the_other_tab():
    assert options_of("defaults", SegmentOptions) == SegmentOptions()
    assert cluster_of("slurm") == ClusterOptions(cluster="slurm")
    assert objects_of("watershed") == ObjectDefinition(method="watershed")
    for given in (SegmentOptions(retries=0), ClusterOptions(workers=1), ObjectDefinition(), None):
        assert options_of(given, type(given)) is cluster_of(given) is objects_of(given) is given


def test_outputs_are_chosen_from_a_list(schema):
    field = dict(fields_of(schema))["options.outputs"]
    assert field["items"]["enum"] == ["classes", "scores"]
    assert field["default"] == []


def test_the_flow_runs_the_preflight_checks_first(
    server, cluster, stored, weights, tmp_path, refusing
):
    seen = run_flow(
        input=stored[1], output=str(tmp_path / "out.zarr"), weights=weights("3d"), cluster=cluster
    )
    assert seen.state.is_failed()
    assert refusing in seen.state.message
    assert not (tmp_path / "out.zarr").exists()
