"""A training that does not end on the first signal ends on the second one, at once."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import zarr

from faults.commands import PROGRAM
from flows.cli.train import with_resume
from flows.options.train import LabelledVolume, TrainOptions
from flows.training.prepare import prepare_training
from flows.training.run import train_interruptibly, train_on_cluster
from pipeline.base.errors import RunStoppedError
from pipeline.base.local_client import local_client
from pipeline.base.scheduling import LOST_SCHEDULER
from pipeline.volume import measure_intensity

HANGS = """
import os, signal, sys, threading, time
from flows.training import run
from flows.signals.drain import drain_on_signal
from flows.signals.stop import handle_stops

def hangs(*args, stop, **more):
    os.kill(os.getpid(), signal.{first})
    time.sleep(0.2)
    os.kill(os.getpid(), signal.{first})  # the same, sent twice by `timeout`
    stop.wait()
    time.sleep(1.2)
    print("asked", flush=True)
    os.kill(os.getpid(), signal.{second})
    time.sleep(60)

run.train_on_cluster = hangs
handle_stops()
try:
    with drain_on_signal("a step") as drain:
        run.train_interruptibly(None, None, drain=drain)
except KeyboardInterrupt:
    print("ended", flush=True)
    os._exit(0)
"""


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("SIGTERM", "SIGTERM"),
        pytest.param("SIGUSR1", "SIGUSR1", marks=pytest.mark.slow),
        ("SIGUSR1", "SIGTERM"),
    ],
)
def test_the_second_signal_ends_a_training_at_once(first, second, commands, tmp_path):
    (tmp_path / "hangs.py").write_text(HANGS.format(first=first, second=second))
    run = commands.start([tmp_path / "hangs.py"], call=PROGRAM)
    assert run.ended(within_s=50).code == 0, run.text
    assert run.printed == "asked\nended\n"


def test_a_training_on_a_lost_cluster_advises_with_resume():
    said = with_resume(LOST_SCHEDULER)
    assert said.endswith("was lost: resume with the same command and --resume")
    assert with_resume("job 7 failed: run the same command again to resume").endswith("--resume")


STOP, IS_OVER = threading.Event(), threading.Event()


def measure(*share):
    STOP.set()
    assert IS_OVER.wait(60), "the end of the measurement was waited for"


def test_a_training_that_is_stopped_while_grey_values_are_measured_does_not_wait_for_their_end(
    tmp_path, monkeypatch
):
    rng = np.random.default_rng(0)
    for name, high in (("raw", 2**16), ("labels", 2)):
        values = rng.integers(0, high, (3, 48, 48), np.uint16)
        zarr.create_array(tmp_path / f"{name}.zarr", data=values)
    pair = LabelledVolume(volume=str(tmp_path / "raw.zarr"), labels=str(tmp_path / "labels.zarr"))
    how = TrainOptions(normalisation="zscore", steps=5)
    training = prepare_training([pair], str(tmp_path / "w.safetensors"), how)
    monkeypatch.setattr(measure_intensity, "_moments_of_share", measure)
    with local_client() as client:
        with pytest.raises(RunStoppedError, match="stopped before the first checkpoint"):
            train_on_cluster(training, client, stop=STOP)
        IS_OVER.set()


def test_a_training_whose_thread_cannot_start_ends_with_that_error(monkeypatch):
    def refused(self):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            train_interruptibly(None, None)
