"""A scheduler of this machine is ours only if its program is: its messages run code."""

from __future__ import annotations

import os

import pytest

from deploy.clusters.existing import open_existing
from deploy.clusters.spec import ClusterSpec
from deploy.processes import listeners
from pipeline.base.errors import ClusterError


@pytest.mark.parametrize("scheme", ["tcp", "ws"])
def test_an_unencrypted_scheduler_of_another_user_is_refused(scheme, monkeypatch):
    monkeypatch.setattr(listeners, "users_at", lambda host, port: {os.getuid() + 1})
    spec = ClusterSpec(kind="address", where=f"{scheme}://127.0.0.1:8786", timeout_s=1)
    with (
        pytest.raises(ClusterError, match=r"127\.0\.0\.1:8786 is in use by a program of user"),
        open_existing(spec),
    ):
        pass
