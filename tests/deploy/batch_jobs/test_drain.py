"""When a worker leaves before its job's walltime."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace

import pytest

from deploy.batch_jobs import drain


@pytest.mark.parametrize("shift_s", [-3600.0, 3600.0])
def test_a_clock_that_is_set_changes_no_departure(shift_s, monkeypatch):
    left_at = []

    async def close_gracefully(*, reason):
        left_at.append(time.monotonic())

    async def schedule():
        worker = SimpleNamespace(address="tcp://nowhere", close_gracefully=close_gracefully)
        now = time.time()
        drain.leave_in_time(worker, drain_at=now + 0.3, close_at=now + 60)
        clock = SimpleNamespace(time=lambda: time.time() + shift_s, monotonic=time.monotonic)
        monkeypatch.setattr(drain, "time", clock)
        await asyncio.wait_for(asyncio.gather(*drain._drains), 20)

    began_at = time.monotonic()
    asyncio.run(schedule())
    assert 0.25 < left_at[0] - began_at < 10
