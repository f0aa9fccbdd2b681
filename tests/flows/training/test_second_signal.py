"""A training that does not end on the first signal ends on the second one, at once."""

from __future__ import annotations

import pytest

from faults.commands import PROGRAM
from flows.cli.train import with_resume
from pipeline.base.scheduling import LOST_SCHEDULER

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
