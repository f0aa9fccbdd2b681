"""The laws of a schedule: each cycle is the recipe's own, whenever the training is made longer."""

from __future__ import annotations

import json
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.base.errors import TrainingError
from unet.recipe.schedule import StepSchedule
from unet.recipe.training_config import TrainingConfig

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=4)
SCHEDULES = st.sampled_from(["constant", "cosine", "one-cycle"])


def config(schedule, steps):
    return TrainingConfig(schedule=schedule, steps=steps, learning_rate=0.3, warmup=0.2)


def in_a_row(lengths):
    """Return cycles of these lengths, one after the other."""
    stops = list(accumulate(lengths))
    return tuple((stop - length, stop) for stop, length in zip(stops, lengths, strict=True))


def rates(cycles, schedule):
    plan = StepSchedule(cycles)
    return [plan.learning_rate_at(step, config(schedule, plan.steps)) for step in range(plan.steps)]


@given(schedule=SCHEDULES, lengths=LENGTHS)
def test_every_cycle_has_the_rates_of_a_training_of_its_length(schedule, lengths):
    alone = [
        config(schedule, length).learning_rate_at(step)
        for length in lengths
        for step in range(length)
    ]
    assert rates(in_a_row(lengths), schedule) == alone


@given(schedule=SCHEDULES, planned=st.integers(2, 40), added=st.integers(1, 40), data=st.data())
def test_after_an_early_stop_a_new_cycle_begins_there(schedule, planned, added, data):
    stop = data.draw(st.integers(1, planned - 1))
    longer = StepSchedule(((0, planned),)).longer(planned + added, done=stop, ended_at=stop)
    first = config(schedule, planned)
    then = config(schedule, planned + added - stop)
    expected = [first.learning_rate_at(step) for step in range(stop)]
    expected += [then.learning_rate_at(step) for step in range(then.steps)]
    assert rates(longer.cycles, schedule) == expected
    assert [step for step in range(1, longer.steps + 1) if longer.ends_at(step)] == [
        stop, longer.steps
    ]  # fmt: skip


@given(lengths=LENGTHS, data=st.data())
def test_a_training_can_be_made_longer_at_any_step_with_the_same_schedule(lengths, data):
    cycles = in_a_row(lengths)
    plan = StepSchedule(cycles[:1])
    for _, stop in cycles[1:]:
        done = data.draw(st.integers(0, plan.steps))
        longer = plan.longer(stop, done=done)
        assert longer.continues(plan)
        assert longer.longer(stop, done=done) == longer
        plan = longer
    assert plan.cycles == cycles
    assert [step for step in range(plan.steps + 1) if plan.ends_at(step)] == [
        stop for _, stop in cycles
    ]  # fmt: skip


@given(lengths=LENGTHS)
def test_a_constant_rate_made_longer_is_that_of_the_longer_training(lengths):
    cycles = in_a_row(lengths)
    assert rates(cycles, "constant") == rates(((0, sum(lengths)),), "constant")


@given(lengths=LENGTHS)
def test_a_schedule_is_read_from_json_as_it_was_written(lengths):
    plan = StepSchedule(in_a_row(lengths))
    record = json.loads(json.dumps({"schedule": plan.to_json()}))
    assert StepSchedule.from_record(record) == plan


def test_a_record_of_an_earlier_version_has_one_cycle():
    record = {"recipe": {"training": {"steps": 700}}}
    assert StepSchedule.from_record(record).cycles == ((0, 700),)


@pytest.mark.parametrize("done", [40, 100])
def test_fewer_steps_are_refused_with_the_number_that_is_possible(done):
    said = (
        rf"^steps \(99\): this training has done {done} of 100 steps and cannot be made shorter; "
        r"resume with --steps 100, or more to make it longer$"
    )
    with pytest.raises(TrainingError, match=said):
        StepSchedule(((0, 100),)).longer(99, done=done)


@pytest.mark.parametrize("cycles", [
    [], [[1, 5]], [[0, 5], [5, 5]], [[0, 5], [5, 4]], [[0, 5], [0, 9]], [[0]], [[0, 1.5]], 5,
    [[0, True]], ["05"], [[0, 9], [3, 8]],
])  # fmt: skip
def test_a_record_that_is_not_a_schedule_is_one_line(cycles):
    with pytest.raises(TrainingError, match=r"^schedule .*: expected cycles") as caught:
        StepSchedule.from_record({"schedule": cycles})
    assert "\n" not in str(caught.value)


def test_a_schedule_that_differs_before_its_end_is_not_continued():
    before = StepSchedule(((0, 10), (10, 20)))
    assert not StepSchedule(((0, 20),)).continues(before)
    assert not StepSchedule(((0, 10),)).continues(before)
    assert not StepSchedule(((0, 10), (5, 20))).continues(before)
