"""Values that pydantic refuses are one line of the right error: setting, value, expected."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.base.checked import STRICT, checked
from pipeline.base.errors import PlanError


@checked(PlanError, name="plan")
@dataclass(frozen=True, kw_only=True, config=STRICT)
class Plan:
    steps: Annotated[int, Field(ge=1, le=10**9)] = 1
    rate: Annotated[float, Field(gt=0, lt=0.5)] = 0.1
    kind: Literal["fast", "exact"] = "fast"
    is_deep: bool = False
    name: str | None = None
    shape: Annotated[tuple[int, ...], Field(strict=False)] = ()


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"steps": 0}, "plan.steps (0): expected 1 or more"),
        ({"steps": 10**10}, "plan.steps (10000000000): expected 1000000000 or less"),
        ({"steps": 10**5000}, "plan.steps (beyond 2**64): expected 1000000000 or less"),
        ({"steps": 2.0}, "plan.steps (2.0): expected an integer"),
        ({"steps": True}, "plan.steps (True): expected an integer"),
        ({"steps": "1"}, "plan.steps ('1'): expected an integer"),
        ({"rate": 0}, "plan.rate (0): expected more than 0"),
        ({"rate": 0.5}, "plan.rate (0.5): expected less than 0.5"),
        ({"rate": True}, "plan.rate (True): expected a number"),
        ({"rate": float("nan")}, "plan.rate (nan): expected a finite number"),
        ({"kind": "slow"}, "plan.kind ('slow'): expected 'fast' or 'exact'"),
        ({"is_deep": 1}, "plan.is_deep (1): expected true or false"),
        ({"name": 3}, "plan.name (3): expected a string"),
        ({"shape": 3}, "plan.shape (3): expected a list"),
        ({"shape": [1, 2.0]}, "plan.shape.1 (2.0): expected an integer"),
        ({"step": 3}, "plan.step: unknown setting; did you mean steps? expected one of steps, "),
        ({"name": ["a\n"]}, "plan.name (['a\\n']): expected a string"),
    ],
)
def test_a_value_that_is_not_valid_is_one_line(values, line):
    with pytest.raises(PlanError) as caught:
        Plan(**values)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_a_long_value_is_cut():
    with pytest.raises(PlanError) as caught:
        Plan(kind="x" * 1000)
    assert len(str(caught.value)) < 150


def test_integers_become_floats_and_lists_tuples():
    plan = Plan(rate=0.25, shape=[1, 2])
    assert plan == Plan(rate=0.25, shape=(1, 2))
    assert isinstance(plan.shape, tuple)
    assert hash(plan) == hash(Plan(rate=0.25, shape=(1, 2)))
