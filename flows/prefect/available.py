"""The clusters that Prefect's deployments can use on this machine."""

from __future__ import annotations

import shutil

from deploy.clusters.gpu import ON_CPU, checked_devices
from deploy.clusters.profiles import config_directory, find_profile
from pipeline.base.errors import ClusterError

LIMITS = {"local": 1, "cuda": 1, "slurm": 8}
"""Concurrent runs per cluster's queue: a run uses the whole machine, or submits jobs."""


def why_not(cluster: str) -> str | None:
    """Return what a cluster lacks on this machine, and the remedy; None if it can be used."""
    return {"local": lambda: None, "cuda": _why_not_cuda, "slurm": _why_not_slurm}[cluster]()


def _why_not_cuda() -> str | None:
    try:
        checked_devices(())
    except ClusterError as error:
        return str(error).removesuffix(ON_CPU)
    return None


def _why_not_slurm() -> str | None:
    if shutil.which("sbatch") is None:
        return "sbatch is not on the PATH: start Prefect on a machine that submits Slurm jobs"
    if find_profile("slurm") is None:
        profile = config_directory() / "slurm.toml"
        return f"{profile} does not exist: describe a job in it, as docs/clusters.md shows"
    return None
