"""The time left follows a run's recent speed, does not jump, and converges."""

from __future__ import annotations

import heapq
import math
import random

import pytest

from pipeline.ledger.time_left import FOLLOWS_IN_S, TimeLeft

MOST_PER_S = math.exp(1 / FOLLOWS_IN_S)


def ends_of_blocks(*, workers, blocks, mean_s, spread, half_leave_at=math.inf):
    """Return when each block ends, of workers of which half may leave."""
    chance = random.Random(workers)
    free, ends, left = [0.0] * workers, [], 0
    for _ in range(blocks):
        begun = heapq.heappop(free)
        ends.append(begun + chance.lognormvariate(math.log(mean_s), spread))
        if ends[-1] > half_leave_at and left < workers // 2:
            left += 1
        else:
            heapq.heappush(free, ends[-1])
    return sorted(ends)


def shown_each_second(ends, *, workers, parts):
    """Yield (time, time left that is shown, true time left) each second of a run."""
    estimate = TimeLeft()
    for now in range(int(ends[-1])):
        left = float(sum(end > now for end in ends))
        if parts:  # workers report fractions of the blocks in progress
            coming = [end for end in ends if end > now][:workers]
            left -= sum(0.5 for end in coming if end - now < 5)
        yield now, estimate.update(now, left, workers=workers), ends[-1] - now


RUNS = {
    "one worker": {"workers": 1, "blocks": 60, "mean_s": 10, "spread": 0.3},
    "blocks of unlike length": {"workers": 8, "blocks": 400, "mean_s": 10, "spread": 0.6},
    "bursts": {"workers": 32, "blocks": 640, "mean_s": 60, "spread": 0.02},
    "half of the workers leave": {
        "workers": 8, "blocks": 400, "mean_s": 10, "spread": 0.3, "half_leave_at": 150,
    },
    "many short blocks": {"workers": 3, "blocks": 3000, "mean_s": 0.5, "spread": 0.8},
}  # fmt: skip


@pytest.mark.parametrize("parts", [False, True])
@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_the_time_left_does_not_jump_and_converges(run, parts):
    ends, before, late = ends_of_blocks(**run), None, []
    for now, left, truth in shown_each_second(ends, workers=run["workers"], parts=parts):
        if before is not None and before > 2:
            assert (before - 1) / MOST_PER_S <= left * 1.001, now
            assert left <= (before - 1) * MOST_PER_S * 1.001, now
        before = left
        if 0.5 < now / ends[-1] < 0.95:
            late.append((left, truth))
    block_s = run["mean_s"] * (1 + 3 * run["spread"])
    assert [pair for pair in late if abs(pair[0] - pair[1]) > 0.3 * pair[1] + block_s] == []
    ratios = sorted(left / truth for left, truth in late)
    assert 0.8 < ratios[len(ratios) // 2] < 1.25


def test_two_long_blocks_have_an_estimate_once_a_part_of_them_is_done():
    estimate = TimeLeft()
    assert estimate.update(0, 2.0, workers=2) is None
    assert estimate.update(10, 1.99, workers=2) is None
    assert estimate.update(60, 1.8, workers=2) == pytest.approx(540)
    assert estimate.update(61, 1.8, workers=2) > 530


def test_a_stalled_run_shows_more_and_more_time():
    estimate = TimeLeft()
    shown = [estimate.update(now, 100 - min(now, 50)) for now in range(300)]
    assert shown[50] == pytest.approx(50, abs=1)
    assert shown[299] > 200


def test_after_hours_the_time_left_still_follows_the_recent_speed():
    estimate = TimeLeft()
    for now in range(3 * 3600 + 1):  # an hour of 10 blocks per second, then two of 1
        shown = estimate.update(now, 100_000 - 10 * min(now, 3600) - max(0, now - 3600))
    assert shown == pytest.approx(56_800, rel=0.02)
