"""Clusters of one process may end in any order: none changes another's settings, or the user's."""

from __future__ import annotations

import copy
import itertools
import logging
import os
from contextlib import ExitStack, contextmanager

import dask
import distributed
import pytest

from deploy import open_cluster
from deploy.clusters.machine import cores
from deploy.clusters.shared_settings import (
    WhileAny,
    dask_settings,
    kept_variables,
    users_variable,
)
from deploy.clusters.worker_environment import torch_threads

KEY, NEW = "distributed.worker.daemon", "overtile-test.nested.value"
ORDERS = list(itertools.permutations(range(3)))


@pytest.mark.parametrize("order", ORDERS)
def test_the_newest_holder_of_a_setting_of_dask_decides_and_the_users_value_comes_back(order):
    with dask.config.set({KEY: "user's"}):
        holders = [ExitStack() for _ in order]
        for number, holder in enumerate(holders):
            holder.enter_context(dask_settings({KEY: number, NEW: number}))
            assert dask.config.get(KEY) == dask.config.get(NEW) == number
        left = set(order)
        for number in order:
            holders[number].close()
            left.remove(number)
            if left:
                assert dask.config.get(KEY) == dask.config.get(NEW) == max(left)
        assert dask.config.get(KEY) == "user's"
        assert dask.config.get(NEW, None) is None


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("users", [None, "5"])
def test_what_a_nanny_writes_into_the_environment_is_never_taken_for_the_users_value(
    order, users, monkeypatch
):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if users:
        monkeypatch.setenv("OMP_NUM_THREADS", users)
    keepers = [ExitStack() for _ in order]
    for keeper in keepers:
        keeper.enter_context(kept_variables(["OMP_NUM_THREADS"]))
        assert os.environ.get("OMP_NUM_THREADS") == users
        os.environ["OMP_NUM_THREADS"] = "of a nanny"
        assert users_variable("OMP_NUM_THREADS") == users
    for number in order:
        os.environ["OMP_NUM_THREADS"] = "of a nanny"
        keepers[number].close()
        assert os.environ.get("OMP_NUM_THREADS") == users
    monkeypatch.setenv("OMP_NUM_THREADS", "later")
    assert users_variable("OMP_NUM_THREADS") == "later"


def test_what_several_need_begins_with_the_first_and_ends_with_the_last():
    events = []

    @contextmanager
    def begin():
        events.append("begins")
        yield
        events.append("ends")

    shared = WhileAny(begin)
    for _ in range(2):
        first, second = ExitStack(), ExitStack()
        first.enter_context(shared.held())
        second.enter_context(shared.held())
        first.close()
        assert events == ["begins"]
        second.close()
        assert events == ["begins", "ends"]
        events.clear()


def threads_of_torch():
    return os.environ["OMP_NUM_THREADS"]


def settings():
    variables = {name: os.environ.get(name) for name in (*torch_threads(1), "PYTHONHASHSEED")}
    return (
        copy.deepcopy(dask.config.config),
        variables,
        logging.getLogger(distributed.__name__).level,
    )


def test_two_clusters_at_a_time_have_their_own_threads_and_leave_nothing_behind(monkeypatch):
    for name in torch_threads(1):
        monkeypatch.delenv(name, raising=False)
    before = settings()
    first, second = ExitStack(), ExitStack()
    with first, second:
        first.enter_context(open_cluster("local", workers=1, dashboard=":0"))
        os.environ.update(torch_threads(77))  # as its nanny does when it starts a worker again
        client = second.enter_context(open_cluster("local", workers=2, dashboard=":0"))
        threads = {int(number) for number in client.run(threads_of_torch).values()}
        assert threads == {max(1, cores() // 2)}
        first.close()
        assert client.submit(lambda: 7).result(timeout=60) == 7
    assert settings() == before
