"""Lets workers of this machine import their libraries while the driver imports its own."""

from __future__ import annotations

import argparse


def expect_workers(options: argparse.Namespace, *, with_torch: bool = False) -> None:
    """Start the process from which local workers are forked, if the cluster is local.

    with_torch: the workers run a network. Call it before slow imports.
    """
    if getattr(options, "cluster", "local") == "local":
        from deploy.clusters.fork_server import start_fork_server

        start_fork_server(with_torch=with_torch)
