"""The laws of the loader: threads decide when a sample is made, and nothing else."""

from __future__ import annotations

import threading
import time
from concurrent.futures import CancelledError

import pytest
import torch

from unet.samples import loader
from unet.samples.loader import MakerThreads, Pace, batches_ahead


class Slow:
    """Makes samples that hold their step and number, in a time that differs between them."""

    device = "cpu"

    def __init__(self, *, seconds=lambda step, number: 0.0):
        self._seconds = seconds

    def sample(self, step, number):
        time.sleep(self._seconds(step, number))
        return tuple(torch.tensor([[step, number]]) for _ in range(3))


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "samples"]


@pytest.mark.parametrize("most", [1, 3])
def test_batches_arrive_in_order_whichever_samples_are_ready_first(most, monkeypatch):
    monkeypatch.setattr(loader, "WINDOW_S", 0.01)
    maker = Slow(seconds=lambda step, number: 0.004 * ((3 * step + 5 * number) % 7))
    numbers, steps = (1, 4, 2), range(3, 30)
    batches = list(batches_ahead(maker, steps, numbers, most_threads=most))
    assert [batch.numbers for batch in batches] == [numbers] * len(steps)
    assert [batch.x.tolist() for batch in batches] == [
        [[step, number] for number in numbers] for step in steps
    ]
    assert not threads()


def most_threads_seen(maker, *, network):
    """Return how many threads made samples at most. network: called after each batch."""
    seen = 0
    for step, _ in enumerate(batches_ahead(maker, range(40), (0,), most_threads=3)):
        network(step)
        seen = max(seen, len(threads()))
    return seen


def test_threads_are_added_where_the_network_waits_and_not_where_it_does_not(monkeypatch):
    monkeypatch.setattr(loader, "WINDOW_S", 0.01)
    slow = Slow(seconds=lambda step, number: 0.02)
    assert most_threads_seen(slow, network=lambda step: None) == 3
    made = []

    def computes_until_the_next_batch_is_made(step):
        time.sleep(0.01)
        while len(made) < min(step + 2, 40):
            time.sleep(0.001)

    fast = Slow(seconds=lambda step, number: made.append(step) or 0.0)
    assert most_threads_seen(fast, network=computes_until_the_next_batch_is_made) == 1


def added_by(pace, windows):
    """Return whether a thread was added after each window, of a wait and a time per batch."""
    added = []
    for waited_s, batch_s in windows:
        answers = [pace.adds_thread(waited_s=waited_s, all_s=batch_s) for _ in range(10)]
        assert not any(answers[:-1])
        added.append(answers[-1])
    return added


def test_a_thread_is_added_per_window_above_the_share_up_to_the_most():
    windows = [(0.5, 1.0), (0.02, 0.5), (0.1, 0.6), (0.1, 0.5), (0.1, 0.5)]
    assert added_by(Pace(threads=1, most=3), windows) == [True, False, True, False, False]


def test_a_thread_that_does_not_shorten_a_batch_is_the_last_one():
    pace = Pace(threads=1, most=9)
    windows = [(1.0, 1.0), (0.5, 0.5), (0.4, 0.48), (0.2, 0.2)]
    assert added_by(pace, windows) == [True, True, False, False]
    assert pace.threads == 3


def test_a_validation_between_two_batches_does_not_count_against_the_last_thread():
    pace = Pace(threads=1, most=9)
    assert added_by(pace, [(1.0, 1.0)]) == [True]
    answers = [pace.adds_thread(waited_s=0.5, all_s=s) for s in [0.6] * 5 + [60.0] + [0.6] * 4]
    assert answers == [False] * 9 + [True]


def test_an_error_is_raised_where_the_sample_is_wanted_and_ends_the_threads():
    class Failing(Slow):
        def sample(self, step, number):
            if step == 2:
                raise OSError("the disk is gone")
            return super().sample(step, number)

    seen = []
    with pytest.raises(OSError, match="the disk is gone"):
        seen += (batch.numbers for batch in batches_ahead(Failing(), range(9), (0, 1)))
    assert not threads()


def test_closing_cancels_what_has_not_begun():
    begun, may_end = threading.Event(), threading.Event()

    def make(step, number):
        begun.set()
        may_end.wait(10)
        return step

    makers = MakerThreads(make, count=1)
    first, second = makers.request(0, 0), makers.request(1, 0)
    begun.wait(10)
    threading.Timer(0.05, may_end.set).start()
    makers.close()
    assert first.result(timeout=0) == 0
    with pytest.raises(CancelledError):
        second.result(timeout=0)
    assert not threads()
