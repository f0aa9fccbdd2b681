"""The flow `train-unet` on a real Prefect server: live figures, honest states."""

import base64
import io
import json
import re
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.utilities.callables import parameter_schema

from deploy import RanksResumed
from flows.options.cluster import ClusterOptions
from flows.options.train import LabelledVolume, TrainOptions
from flows.prefect import training_artifacts
from flows.prefect.training_artifacts import (
    LastFigures,
    TrainingArtifacts,
    figures_markdown,
    training_in_prefect,
    validation_markdown,
)
from flows.train_unet import train_unet
from flows.training.prepare import prepare_training
from flows.training.run import train_on_cluster
from unet import load_weights, read_weights_info
from unet.training.messages import StepsDone, Validated

CONFIG = """
class_names = ["cell", "membrane"]
[network]
base_channels = 2
levels = 2
[training]
steps = 6
patch = [12, 12]
batch = 1
precision = "fp32"
validate_every = 3
checkpoint_every = 3
[training.augment]
elastic_sigma = 1.0
"""


@pytest.fixture(scope="module")
def place(labelled_folder):
    """Return a folder with a volume, its labels and a config."""
    return labelled_folder(CONFIG, depth=5)


@pytest.fixture(scope="module")
def parameters(place, one_worker):
    return {
        "volumes": [
            LabelledVolume(volume=str(place / "raw.zarr"), labels=str(place / "labels.zarr"))
        ],
        "options": TrainOptions(config=str(place / "config.toml"), validation_slices=(4, 5)),
        "cluster": ClusterOptions(cluster=one_worker.scheduler.address),
    }


class Seen:
    """What Prefect's server knows of one flow run."""

    def __init__(self, state):
        self.state = state
        flow_run_id = state.state_details.flow_run_id
        of_run = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id]))
        with get_client(sync_client=True) as client:
            self.artifacts = client.read_artifacts(artifact_filter=of_run)
            self.logs = all_logs(client, flow_run_id)

    def of(self, key):
        return [artifact for artifact in self.artifacts if artifact.key == key]


def all_logs(client, flow_run_id):
    """Return what was logged; it comes to the server some seconds later."""
    of_run = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run_id]))
    until = time.monotonic() + 30
    while True:
        logs = [log.message for log in client.read_logs(of_run)]
        if any(line.startswith("Finished in state") for line in logs):
            return logs
        assert time.monotonic() < until, logs
        time.sleep(0.2)


@pytest.fixture(scope="module")
def completed(server, parameters, tmp_path_factory):
    """One run that went well: what the server knows, and the weights."""
    out = tmp_path_factory.mktemp("flow") / "w.safetensors"
    return Seen(train_unet(**parameters, out=str(out), return_state=True)), out


def test_the_flow_trains_the_weights_that_python_trains(
    completed, parameters, one_worker, tmp_path
):
    seen, out = completed
    assert seen.state.is_completed(), seen.state.message
    assert seen.state.result() == str(out)
    prepared = prepare_training(
        parameters["volumes"], str(tmp_path / "w.safetensors"), parameters["options"]
    )
    train_on_cluster(prepared, one_worker)
    one, other = (load_weights(path)[0].state_dict() for path in (out, prepared.out))
    assert all((one[name] == other[name]).all() for name in one)
    assert read_weights_info(out).class_names == ("cell", "membrane")


def test_the_progress_artifact_ends_at_100_with_loss_learning_rate_and_speed(completed):
    (artifact,) = completed[0].of("train-progress")
    assert artifact.type == "progress"
    assert artifact.data == 100
    assert re.match(
        r"step 6/6: loss \d\.\d{4}, learning rate [\de.-]+, [\d.]+ patches/s", artifact.description
    )


def test_the_figures_are_one_artifact_with_the_last_validation_of_each_class(completed):
    (artifact,) = completed[0].of("train-figures")
    rows = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", artifact.data, re.MULTILINE))
    assert rows["step"] == "6 of 6"
    assert rows["validated at step"] == "6"
    assert {"loss", "learning rate", "patches/s", "pixel error", "validation loss"} <= set(rows)
    assert {"IoU, Dice of cell", "IoU, Dice of membrane"} <= set(rows)


def test_every_validation_is_an_artifact_with_a_small_picture(completed):
    artifacts = completed[0].of("train-validation")
    assert sorted(re.findall(r"\d+", a.description)[0] for a in artifacts) == ["3", "6"]
    for artifact in artifacts:
        (png,) = re.findall(r"!\[[^]]*\]\(data:image/png;base64,([A-Za-z0-9+/=]+)\)", artifact.data)
        assert len(png) < 400_000
        sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(png))))
        assert sheet.shape[1] <= training_artifacts.PICTURE_WIDTH
        raw, truth, prediction = np.array_split(sheet.astype(int), 3, axis=1)
        coloured = [(np.ptp(part, axis=2) > 40).mean() > 0.05 for part in (raw, truth, prediction)]
        assert coloured == [False, True, True], "raw is grey, truth and prediction have colours"


def test_volumes_dashboard_and_figures_are_logged(completed, one_worker):
    logs = completed[0].logs
    assert f"Dask dashboard: {one_worker.dashboard_link}" in logs
    assert [line for line in logs if re.match(r"train on .*raw\.zarr slices 0:4, 4×32×36", line)]
    assert [line for line in logs if line.startswith("step 6/6: loss ")]
    assert completed[0].of("dask-dashboard")


BAD = {
    "no volume": ({"volumes": []}, "no volume to train on"),
    "no such volume": (
        {"volumes": [{"volume": "gone.zarr", "labels": "labels.zarr"}]},
        r"gone\.zarr does not exist",
    ),
    "no such config": ({"options": {"config": "gone.toml"}}, r"config 'gone\.toml'"),
    "no cluster": ({"cluster": {"cluster": "nowhere"}}, "nowhere"),
    "too many ranks": (
        {"options": {"ranks": 3}, "cluster": {"workers": 2}}, "3 ranks on 2 workers"),
    "slices outside": ({"options": {"validation_slices": [3, 9]}}, "0:5"),
}  # fmt: skip


@pytest.mark.parametrize(("wrong", "message"), BAD.values(), ids=BAD.keys())
def test_bad_input_fails_with_one_line_and_writes_nothing(
    wrong, message, server, parameters, place, tmp_path, monkeypatch
):
    monkeypatch.chdir(place)
    out = tmp_path / "w.safetensors"
    state = train_unet(**{**parameters, **wrong}, out=str(out), return_state=True)
    assert state.is_failed()
    assert re.search(message, state.message), state.message
    assert "\n" not in state.message
    assert list(tmp_path.iterdir()) == []


def test_a_run_with_resume_starts_without_a_checkpoint_and_continues_from_one(
    completed, parameters, server
):
    _, out = completed
    again = parameters["options"].model_copy(update={"resume": True})

    def logs():
        state = train_unet(**{**parameters, "options": again}, out=str(out), return_state=True)
        assert state.is_completed(), state.message
        return Seen(state).logs

    assert f"done already: 6 steps; weights: {out}" in logs()
    out.unlink()
    assert "resuming: 6 of 6 steps are done" in logs()
    assert out.exists()


STEP = StepsDone(
    step=4, steps=10, loss=0.5, losses=(0.5,), learning_rate=1e-3, patches_per_s=2.0,
    wait_share=0.25,
)  # fmt: skip


def test_an_unreachable_server_delays_no_step_and_gets_everything_later(monkeypatch):
    sent = []
    away = threading.Event()
    away.set()
    monkeypatch.setattr(training_artifacts, "UPDATE_EVERY_S", 0.5)

    def send(self):
        if away.is_set():
            time.sleep(0.2)
            raise ConnectionError("no server")
        sent.append(self._last)

    monkeypatch.setattr(TrainingArtifacts, "send", send)
    with training_in_prefect(["a", "b"]) as artifacts:
        began = time.monotonic()
        for step in range(1000):
            artifacts.hear(replace(STEP, step=step))
        assert time.monotonic() - began < 1.0
        away.clear()
        artifacts.hear(replace(STEP, step=1000))
    assert sent[-1].steps.step == 1000


def test_figures_show_that_no_step_is_done_and_that_a_rank_was_lost():
    assert "waiting for the workers" in figures_markdown(LastFigures(), names=[])
    why = "rank 1 was lost: its worker tcp://a|b ended"
    resumed = RanksResumed(attempt=1, world_size=1, reason=why)
    last = LastFigures(steps=STEP, resumed=resumed, resumptions=2, seconds_left=61)
    text = figures_markdown(last, names=[])
    assert "| resumptions | 2; the last: rank 1 was lost" in text
    assert "| time left | 1 min 01 s |" in text
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 3 for line in text.splitlines())


def test_figures_and_pictures_mark_the_best_validation():
    best = Validated(
        step=4, loss=0.7, pixel_error=0.1, iou=(0.9,), dice=(0.95,), mean_iou=0.9, picture="none",
        is_best=True,
    )  # fmt: skip
    artifacts = TrainingArtifacts(["a"])
    for message in (best, replace(best, step=8, is_best=False)):
        artifacts.hear(message)
    text = figures_markdown(artifacts._last, names=["a"])
    assert "| validated at step | 8 |" in text
    assert "| best validation | at step 4 |" in text
    assert validation_markdown(best, names=["a"]).startswith(
        "### Validation at step 4, the best so far\n"
    )


@pytest.fixture(scope="module")
def schema():
    return json.loads(json.dumps(parameter_schema(train_unet).model_dump_for_openapi()))


def test_the_form_asks_for_volumes_and_out_and_describes_every_option(schema):
    assert schema["required"] == ["volumes", "out"]
    options = schema["definitions"]["TrainOptions"]["properties"]
    assert {*TrainOptions.model_fields} == {*options}
    for name, field in {**options, **schema["definitions"]["LabelledVolume"]["properties"]}.items():
        assert field.get("title"), name
        assert len(field.get("description", "")) > 5, name


def test_the_flow_runs_the_preflight_checks_first(server, parameters, tmp_path, refusing):
    out = tmp_path / "w.safetensors"
    state = train_unet(**parameters, out=str(out), return_state=True)
    assert state.is_failed()
    assert refusing in state.message
    assert not list(tmp_path.iterdir())
