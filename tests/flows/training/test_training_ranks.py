"""Training by ranks on a cluster: neither their number nor the loss of one changes the weights."""

from __future__ import annotations

import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import cloudpickle
import numpy as np
import pytest
import torch
import zarr

from deploy import (
    ClusterSpec,
    JobSpec,
    RankLimits,
    RanksResumed,
    TurnChanged,
    open_cluster,
    run_ranks,
)
from deploy.clusters.spec import DAY_S
from deploy.ranks import attempt
from flows.options.train import LabelledVolume, TrainOptions
from flows.training.prepare import prepare_training
from flows.training.run import rank_limits, train_on_cluster
from pipeline import segment_volume
from pipeline.base.errors import RunStoppedError, TrainingError, TrainingFailedError
from pipeline.base.workers import workers_of
from unet import (
    UNet,
    UNetConfig,
    UNetPredictor,
    load_weights,
    read_weights_info,
    save_weights,
)
from unet.training.messages import StepsDone, Validated
from unet.training.run import run_training

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import the tests

STEPS = 80
"""Some seconds of work: enough time to kill or to stop it in the middle."""

CONFIG = """
[network]
base_channels = 4
levels = 2
norm = "batch"
dropout = 0.5

[training]
patch = [16, 16]
precision = "fp32"
checkpoint_every = 20
validate_every = 40

[training.augment]
elastic_sigma = 2.0
"""


@pytest.fixture(autouse=True)
def quick_checks(monkeypatch):
    """Let the driver look for workers often: a fast machine needs a second for all steps."""
    monkeypatch.setattr(attempt, "CHECK_EVERY_S", 0.02)


@pytest.fixture(scope="module")
def volume(tmp_path_factory):
    """Return a labelled volume of blobs, stored as Zarr."""
    place = tmp_path_factory.mktemp("labelled")
    rng = np.random.default_rng(0)
    _, y, x = np.indices((4, 48, 48))
    ids = 1 + (y // 12) * 4 + x // 12
    ids[((y % 12) < 3) | ((x % 12) < 3)] = 0
    raw = np.clip(90 * (ids > 0) + 60 + 20 * rng.standard_normal(ids.shape), 0, 255)
    zarr.create_array(place / "raw.zarr", data=raw.astype("uint8"), chunks=(1, 32, 32))
    zarr.create_array(place / "ids.zarr", data=ids.astype("uint32"), chunks=(2, 48, 48))
    (place / "config.toml").write_text(CONFIG)
    return place


@pytest.fixture(scope="module")
def two_workers():
    """Return a client of two worker processes; tests here may kill them."""
    with open_cluster("local", workers=2) as client:
        yield client


def prepared(volume, out, **options):
    pair = LabelledVolume(volume=str(volume / "raw.zarr"), labels=str(volume / "ids.zarr"))
    settings = {
        "config": str(volume / "config.toml"), "rule": "foreground", "steps": STEPS, "batch": 2,
        "validation_slices": (3, 4), "kept_weights": "last", **options,
    }  # fmt: skip
    return prepare_training([pair], str(out), TrainOptions(**settings))


@pytest.fixture(scope="module")
def alone(volume, two_workers, tmp_path_factory):
    """Return the weights that one rank trains."""
    out = tmp_path_factory.mktemp("alone") / "w.safetensors"
    train_on_cluster(prepared(volume, out, ranks=1), two_workers)
    return load_weights(out)[0].state_dict()


def measured(training, client):
    return replace(training, volumes=training.volumes.measured(client))


def set_status(name, dask_worker):
    """Announce the end of a worker, as Dask and a job's drain do; or take that back."""
    from distributed import Status

    dask_worker.status = Status[name]


def assert_same_weights(out, expected):
    found = load_weights(out)[0].state_dict()
    assert max(float(value.std()) for value in expected.values() if value.numel() > 1) > 0.05
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-5)


class Heard:
    """Keeps the messages; calls something at a step."""

    def __init__(self, at=None, do=None):
        self.messages, self._at, self._do = [], at, do

    def hear(self, message):
        self.messages.append(message)
        if self._do and isinstance(message, StepsDone) and message.step >= self._at:
            do, self._do = self._do, None
            do()

    def of(self, kind):
        return [message for message in self.messages if isinstance(message, kind)]


@pytest.mark.slow
def test_two_ranks_train_from_weights_with_frozen_layers_as_one_does(volume, two_workers, tmp_path):
    torch.manual_seed(3)
    network = UNetConfig(dims=2, base_channels=4, levels=2, norm="batch")
    start = tmp_path / "start.safetensors"
    save_weights(UNet(network), start, class_names=["background", "object"])
    for ranks in (1, 2):
        out = tmp_path / f"{ranks}.safetensors"
        training = prepared(
            volume, out, ranks=ranks, steps=20, start_from=str(start), freeze="contracting"
        )
        train_on_cluster(training, two_workers)
    one = load_weights(tmp_path / "1.safetensors")[0].state_dict()
    assert_same_weights(tmp_path / "2.safetensors", one)
    frozen = load_weights(start)[0].state_dict()
    for name in (name for name in frozen if name.startswith("contracting.")):
        assert torch.equal(one[name], frozen[name]), name


def test_a_norm_over_two_processes_is_torch_s_on_the_whole_batch(two_workers):
    def on_rank(rank):
        from unet.training.parallel.sync_norm import SyncNorm

        return passed(SyncNorm(torch.nn.BatchNorm2d(3)), slice(rank.rank, None if rank.rank else 1))

    def passed(layer, part):
        torch.manual_seed(0)
        x = (3 * torch.randn(4, 3, 6, 5) + 7).requires_grad_()
        y = layer(x[part])
        y.backward(torch.randn(4, 3, 6, 5)[part])
        return y.detach(), x.grad[part], layer.running_mean, layer.running_var

    whole = passed(torch.nn.BatchNorm2d(3), slice(None))
    first, second = run_ranks(on_rank, client=two_workers, ranks=2)
    for entry in (0, 1):
        joined = torch.cat([first[entry], second[entry]])
        torch.testing.assert_close(joined, whole[entry], rtol=0, atol=1e-5)
    for entry in (2, 3):
        torch.testing.assert_close(first[entry], whole[entry])
        assert torch.equal(first[entry], second[entry])


def test_two_ranks_train_the_weights_that_one_rank_trains_with_the_same_batch(
    volume, two_workers, alone, tmp_path
):
    heard = Heard()
    end = train_on_cluster(
        prepared(volume, tmp_path / "w.safetensors", ranks=2), two_workers, listeners=[heard]
    )
    assert end.finished
    assert heard.messages[-1].step == STEPS
    assert len(heard.of(Validated)) == 2
    assert_same_weights(tmp_path / "w.safetensors", alone)


def test_two_ranks_stop_early_together_and_keep_the_first_of_equal_validations(
    volume, two_workers, tmp_path
):
    config = tmp_path / "still.toml"
    text = CONFIG.replace("validate_every = 40", "validate_every = 2\nlearning_rate = 1e-12")
    config.write_text(text)
    out = tmp_path / "w.safetensors"
    options = {"config": str(config), "ranks": 2, "patience": 2, "kept_weights": "best"}
    end = train_on_cluster(prepared(volume, out, **options), two_workers)
    assert (end.step, end.stopped_early, end.selection.step) == (6, True, 2)
    stated = read_weights_info(out).provenance
    assert (stated["steps"], stated["steps_trained"]) == (2, 6)


def test_workers_that_join_are_taken_in_at_the_next_checkpoint_and_change_no_weight(
    volume, two_workers, alone, tmp_path
):
    heard = Heard()
    out = tmp_path / "w.safetensors"
    run = partial(run_ranks, client=two_workers)
    run_training(measured(prepared(volume, out), two_workers), run, ranks=1, listeners=[heard])
    (resumed,) = heard.of(RanksResumed)
    assert (resumed.world_size, resumed.reason) == (2, "1 worker joined")
    assert_same_weights(out, alone)
    steps = [message.step for message in heard.of(StepsDone)]
    assert steps == sorted(steps), "steps were repeated"


@pytest.mark.slow
@pytest.mark.parametrize(("batch", "ranks"), [(4, 4), (3, 2)])
def test_processes_train_the_weights_of_one_with_even_and_uneven_shares(
    batch, ranks, volume, tmp_path
):
    with open_cluster("local", workers=ranks) as client:
        for number in (1, ranks):
            out = tmp_path / f"{number}.safetensors"
            train_on_cluster(prepared(volume, out, ranks=number, batch=batch), client)
    expected = load_weights(tmp_path / "1.safetensors")[0].state_dict()
    assert_same_weights(tmp_path / f"{ranks}.safetensors", expected)


@pytest.mark.slow
def test_a_worker_that_announces_its_end_costs_no_step_and_no_weight(
    volume, two_workers, alone, tmp_path
):
    first = min(workers_of(two_workers))

    def retire():
        two_workers.run(set_status, "closing_gracefully", workers=[first])

    heard = Heard(at=1, do=retire)
    out = tmp_path / "w.safetensors"
    try:
        train_on_cluster(prepared(volume, out, ranks=2), two_workers, listeners=[heard])
    finally:
        two_workers.run(set_status, "running", workers=[first])
    (resumed,) = heard.of(RanksResumed)
    assert (resumed.world_size, resumed.reason) == (1, "1 worker left")
    assert_same_weights(out, alone)
    steps = [message.step for message in heard.of(StepsDone)]
    assert steps == sorted(steps), "steps were repeated"


@pytest.mark.slow
def test_a_killed_worker_costs_time_and_no_step(volume, two_workers, alone, tmp_path):
    def kill():
        pids = two_workers.run(os.getpid)
        os.kill(next(iter(pids.values())), signal.SIGKILL)

    heard = Heard(at=1, do=kill)
    end = train_on_cluster(
        prepared(volume, tmp_path / "w.safetensors", ranks=2), two_workers, listeners=[heard]
    )
    assert end.finished
    assert len(heard.of(RanksResumed)) == 1
    assert_same_weights(tmp_path / "w.safetensors", alone)


def test_a_stopped_training_keeps_a_checkpoint_and_resumes_to_the_same_weights(
    volume, two_workers, alone, tmp_path
):
    out = tmp_path / "w.safetensors"
    stop = threading.Event()
    with pytest.raises(RunStoppedError, match="--resume"):
        train_on_cluster(
            prepared(volume, out, ranks=2), two_workers, listeners=[Heard(at=1, do=stop.set)],
            stop=stop,
        )  # fmt: skip
    assert not out.exists()
    with pytest.raises(TrainingError, match="add --resume"):
        prepared(volume, out, ranks=2)
    again = prepared(volume, out, ranks=1, resume=True)
    assert 1 <= again.done_steps < STEPS
    train_on_cluster(again, two_workers)
    assert_same_weights(out, alone)


@pytest.mark.slow
def test_of_two_trainings_with_one_out_the_newer_one_finishes(volume, two_workers, alone, tmp_path):
    older, newer = (prepared(volume, tmp_path / "w.safetensors", ranks=1) for _ in range(2))
    with ThreadPoolExecutor() as pool:
        runs = []
        heard = Heard(
            at=1, do=lambda: runs.append(pool.submit(train_on_cluster, newer, two_workers))
        )
        with pytest.raises(TrainingFailedError, match="another training has taken over"):
            train_on_cluster(older, two_workers, listeners=[heard])
        assert runs[0].result(timeout=120).finished
    assert_same_weights(tmp_path / "w.safetensors", alone)


@pytest.mark.slow
def test_a_training_and_a_segmentation_share_the_workers_and_both_finish(
    volume, two_workers, weights, tmp_path
):
    out = tmp_path / "out.zarr"
    over = threading.Event()
    segmented = []

    def segment():
        while not over.is_set():  # one segmentation after the other, as long as there is training
            segment_volume(
                str(volume / "raw.zarr"), str(out), UNetPredictor(weights("2d"), precision="fp32"),
                client=two_workers, block=(1, 16, 16), overwrite=True,
            )  # fmt: skip
            segmented.append(1)

    heard = Heard()
    side = threading.Thread(target=segment)
    side.start()
    try:
        end = train_on_cluster(
            prepared(volume, tmp_path / "w.safetensors", ranks=2, steps=150), two_workers,
            listeners=[heard], limits=RankLimits(turn_s=0.5),
        )  # fmt: skip
    finally:
        over.set()
        side.join(timeout=60)
    assert end.finished
    assert segmented, "the segmentation starved"
    assert heard.of(TurnChanged), "the training never gave the workers away"


@pytest.mark.parametrize(
    ("cluster", "ranks", "start_s", "queue_s"),
    [
        (ClusterSpec(), 2, 60, 10),
        (ClusterSpec(first_worker_s=300), 2, 300, 300),
        (ClusterSpec(kind="slurm", job=JobSpec(jobs=2)), 2, DAY_S, DAY_S),
        (ClusterSpec(kind="slurm", job=JobSpec(jobs=2)), 3, 60, DAY_S),
        (ClusterSpec(kind="slurm", job=JobSpec(maximum_jobs=9)), 2, 60, DAY_S),
    ],
)
def test_jobs_of_a_training_may_wait_in_a_queue_unless_there_are_too_few(
    cluster, ranks, start_s, queue_s
):
    limits = rank_limits(cluster, ranks=ranks)
    assert (limits.start_s, limits.queue_s) == (start_s, queue_s)
