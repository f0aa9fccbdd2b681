"""The flow `evaluate-volume` on a real Prefect server: same figures, an artifact."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
import zarr
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.utilities.callables import parameter_schema

from flows.evaluate_volume import evaluate_volume
from flows.options.cluster import ClusterOptions
from flows.options.evaluate import EvaluateOptions
from pipeline import EvaluateRequest
from pipeline import evaluate_volume as evaluate_by_python

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stored")
    truth = np.zeros((4, 20, 20), np.uint8)
    truth[:, ::5] = 1
    zarr.create_array(folder / "truth.zarr", data=truth)
    zarr.create_array(folder / "score.zarr", data=np.roll(truth, 1, axis=2) * np.float32(0.7))
    return str(folder / "score.zarr"), str(folder / "truth.zarr")


def run_flow(cluster, **parameters):
    """Return the state of one flow run, and its artifacts by key."""
    state = evaluate_volume(
        **parameters,
        cluster=ClusterOptions(cluster=cluster.scheduler.address),
        return_state=True,
    )
    of_run = ArtifactFilterFlowRunId(any_=[state.state_details.flow_run_id])
    with get_client(sync_client=True) as client:
        artifacts = client.read_artifacts(artifact_filter=ArtifactFilter(flow_run_id=of_run))
    return state, {artifact.key: artifact for artifact in artifacts}


def test_the_flow_returns_shows_and_writes_what_python_finds(server, stored, one_worker, tmp_path):
    options = {"scores": 0, "objects": "components", "truth_objects": 0, "per_slice": True}
    state, artifacts = run_flow(
        one_worker, prediction=stored[0], truth=stored[1], options=EvaluateOptions(**options),
        json_file=str(tmp_path / "out.json"),
    )  # fmt: skip
    assert state.is_completed()
    expected = evaluate_by_python(*stored, client=one_worker, **options).to_json()
    found = state.result()
    for values in (found, expected):
        values.pop("seconds")
    assert found == expected
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["objects"] == found["objects"]
    shown = artifacts["evaluation"]
    assert shown.type == "markdown"
    assert f"| adapted Rand error | {found['objects']['adapted_rand_error']:.4f} |" in shown.data
    assert "1,600 of them counted" in shown.description
    assert "dask-dashboard" in artifacts


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"truth": "gone.zarr"}, "gone.zarr does not exist"),
        ({"options": {"objects": "watershed"}}, "--scores"),
        ({"json_file": "gone/out.json"}, "gone/out.json cannot be written"),
    ],
)
def test_bad_input_fails_with_one_line(wrong, says, server, stored, one_worker, tmp_path,
                                       monkeypatch):  # fmt: skip
    monkeypatch.chdir(tmp_path)
    parameters = {"prediction": stored[1], "truth": stored[1], **wrong}
    state, artifacts = run_flow(one_worker, **parameters)
    assert state.is_failed()
    assert says in state.message
    assert "\n" not in state.message
    assert "evaluation" not in artifacts
    assert not list(tmp_path.iterdir())


def test_every_field_of_the_form_has_a_title_a_description_and_a_default():
    schema = json.loads(json.dumps(parameter_schema(evaluate_volume).model_dump_for_openapi()))
    fields = dict(schema["properties"])
    for definition in ("EvaluateOptions", "ClusterOptions"):
        fields |= schema["definitions"][definition]["properties"]
    for name, field in fields.items():
        assert field.get("title"), name
        assert len(field.get("description", "")) > 5, name
        assert ("default" in field) == (name not in ("prediction", "truth")), name
    asked = set(EvaluateRequest.__dataclass_fields__)
    assert asked <= set(fields), "whatever the pipeline can be asked for can be asked for here"


def test_every_deployment_names_a_flow_that_is_there_and_none_is_named_twice():
    listed = yaml.safe_load((ROOT / "deploy/prefect.yaml").read_text())["deployments"]
    names = []
    for one in listed:
        module, _, function = one["entrypoint"].rpartition(".")
        found = getattr(importlib.import_module(module), function)
        names.append(f"{found.name}/{one['name']}")
    assert "evaluate-volume/evaluate-local" in names
    assert len(set(names)) == len(names)
